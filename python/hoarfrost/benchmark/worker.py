"""A child process that runs one contestant's operations, one request at a time.

Started by `hoarfrost.benchmark.processes` on the cores and in the precision that it is to have.
One JSON line a request and one a reply; timing happens here, so that the pipe costs nothing.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hoarfrost.benchmark import memory
from hoarfrost.benchmark.cases import CASES, NUM_COMPARED, Case, read_inputs

# What is compared with the reference, from the first run of each.
ANSWERS = ("evidence", "new_prior", "functional")


def main() -> None:
    """Serve the requests on standard input until it is closed."""
    # Replies have a descriptor of their own: whatever a library prints goes to standard error.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    request = json.loads(sys.argv[1])
    case, folder = CASES[request["case"]], Path(request["folder"])
    about = _versions() if request["contestant"] == "ceiling" else _start_jax()
    inputs = read_inputs(folder / f"{case.name}.npz")
    contestant = make(request["contestant"], case, inputs)
    held = memory.mark()
    print(json.dumps({"about": about}), file=replies)
    answers: dict[str, np.ndarray] = {}
    for line in sys.stdin:
        operation = json.loads(line)["operation"]
        try:
            if operation == "save_answers":
                answers |= getattr(contestant, "answers", {})
                np.savez(folder / request["answers"], **answers)  # type: ignore[arg-type]
                reply: dict[str, Any] = {}
            else:
                seconds, value = timed(contestant, operation)
                if operation in ANSWERS and operation not in answers:
                    answers[operation] = np.array(np.atleast_1d(value)[:NUM_COMPARED])
                reply = {"seconds": seconds}
                reply |= {"peak": memory.peak_bytes() - held, "device_peak": device_peak()}
        except Exception as error:  # reported in its cell of the table
            reply = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(reply), file=replies)


def timed(contestant: Any, operation: str) -> tuple[float, Any]:
    """Run an operation once; its wall time without what `prepare` does."""
    contestant.prepare(operation)
    run: Callable[[], Any] = getattr(contestant, operation)
    start = time.perf_counter()
    value = run()
    return time.perf_counter() - start, value


def make(name: str, case: Case, inputs: dict[str, np.ndarray]) -> Any:
    """The contestant of a name, for a case; imported here so that each has its own alone."""
    if name == "ours":
        from hoarfrost.benchmark import ours

        return (ours.CoreCholesky if case.kind == "cholesky" else ours.Ours)(case, inputs)
    if name == "ceiling":
        from hoarfrost.benchmark.ceiling import Ceiling

        return Ceiling(case, inputs)
    if name == "plain":
        from hoarfrost.benchmark.plain import Plain

        return Plain(case, inputs)
    from hoarfrost.benchmark import expert, expert_network

    if case.kind == "cholesky":
        return expert_network.JaxCholesky(case, inputs)
    kind: Any = expert_network.ExpertNetwork if case.kind == "network" else expert.Expert
    return kind(case, inputs, tuned=name == "tuned")


def device_peak() -> int | None:
    """The most that an accelerator's memory has held; None on a CPU."""
    jax = sys.modules.get("jax")
    if jax is None or jax.default_backend() == "cpu":
        return None
    statistics = jax.devices()[0].memory_stats() or {}
    peak = statistics.get("peak_bytes_in_use")
    return None if peak is None else int(peak)


def _start_jax() -> dict[str, str]:
    """Start JAX's backend, which no contestant is to be timed for; what it runs on."""
    import jax

    device = jax.devices()[0]
    return {"platform": device.platform, "device": device.device_kind, **_versions()}


def _versions() -> dict[str, str]:
    """Versions of what a contestant stands on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": sys.version.split()[0]}
    for package in ("hoarfrost", "jax", "jaxlib", "numpy", "scipy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
