"""``python -m hoarfrost.benchmark``: one table, and JSON with every raw figure."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hoarfrost.benchmark import machine, summary, table
from hoarfrost.benchmark.cases import CASES, Case, write_inputs
from hoarfrost.benchmark.measure import measure
from hoarfrost.benchmark.processes import Contestant, OursError, has_gpu
from hoarfrost.benchmark.record import OURS, Measured, Settings, say


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; the exit status."""
    options = _parser().parse_args(arguments)
    if options.list:
        for case in CASES.values():
            asked = "  [only when named]" if case.on_request else ""
            print(f"{case.name:18}{case.title}{asked}")
        return 0
    cases = [CASES[name] for name in options.case or _default_names(options.quick)]
    gpu = not options.no_gpu and has_gpu()
    contestants = _contestants(gpu, options.quick)
    results = []
    with tempfile.TemporaryDirectory(prefix="hoarfrost-benchmark-") as folder:
        try:
            for case in cases:
                results.append(_measure(case, contestants, options, Path(folder)))
        except OursError as error:
            say(f"error: {error}")
            return 1
    about = results[0].about.get(OURS.key, {})
    on_gpu = [contestant.key for contestant in contestants if contestant.device != "cpu"]
    devices = (result.about.get(key) for result in results for key in on_gpu)
    gpu_name = next((device["device"] for device in devices if device), None)
    header = machine.describe(options.threads, about, gpu_name)
    for name, value in header.items():
        print(f"{name + ':':10}{value}")
    print(f"\n{table.render(results, contestants)}")
    if options.json is not None:
        keys = [contestant.key for contestant in contestants]
        written = {**header, "cases": [summary.as_dict(result, keys) for result in results]}
        options.json.write_text(json.dumps(written, indent=1) + "\n")
    return 0


def _measure(
    case: Case, contestants: list[Contestant], options: argparse.Namespace, folder: Path
) -> Measured:
    say(case.title)
    own = folder / case.name
    own.mkdir(exist_ok=True)
    write_inputs(case, own / f"{case.name}.npz")
    repeats = options.repeats or (2 if options.quick else 7)
    settings = Settings(
        threads=options.threads,
        repeats=repeats,
        first_rounds=1 if options.quick else min(3, repeats),
        limit=options.limit,
        patience=options.patience,
        folder=own,
    )
    return measure(case, [c for c in contestants if _competes(c, case)], settings)


def _contestants(gpu: bool, quick: bool) -> list[Contestant]:
    """The JAX baselines, in the order of their columns; a quick run leaves out the tuned ones."""
    experts = ("expert",) if quick else ("expert", "tuned")
    on_cpu = [Contestant("plain", "float32")]
    on_cpu += [Contestant(name, f"float{bits}") for name in experts for bits in (32, 64)]
    names = ("plain", *experts) if gpu else ()
    return on_cpu + [Contestant(name, f"float{b}", "gpu") for name in names for b in (32, 64)]


def _competes(contestant: Contestant, case: Case) -> bool:
    """Whether there is such a baseline: Cholesky is jnp's own, and only coupled outputs tune."""
    if case.kind == "cholesky":
        return contestant.name == "expert"
    return contestant.name != "tuned" or case.kind in ("softmax", "network")


def _default_names(quick: bool) -> list[str]:
    return [
        case.name for case in CASES.values() if not case.on_request and (case.quick or not quick)
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hoarfrost.benchmark",
        description="Hoarfrost against pure JAX on the same inputs, threads and run.",
    )
    parser.add_argument(
        "--case",
        action="append",
        choices=list(CASES),
        metavar="NAME",
        help="repeatable; see --list",
    )
    parser.add_argument("--list", action="store_true", help="the cases, and nothing else")
    parser.add_argument(
        "--quick", action="store_true", help="small cases, two repeats, no tuned JAX"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument(
        "--threads", type=_positive, default=machine.default_threads(), help="cores for everybody"
    )
    parser.add_argument("--repeats", type=_positive, help="pairs of later calls (7; quick: 2)")
    parser.add_argument("--no-gpu", action="store_true", help="leave a GPU out")
    parser.add_argument(
        "--limit",
        type=float,
        default=180.0,
        help="a baseline's call that would take longer than these seconds is left out (180)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=60.0,
        help="seconds after which an operation's pairs are enough (60)",
    )
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


if __name__ == "__main__":
    sys.exit(main())
