"""Measuring a case: fresh processes for first calls, then repeats that alternate A B A B."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hoarfrost.benchmark.cases import Case
from hoarfrost.benchmark.memory import available_bytes
from hoarfrost.benchmark.processes import Contestant, OursError, Worker, WorkerError
from hoarfrost.benchmark.record import (
    CEILING,
    OURS,
    Measured,
    Settings,
    first_operations,
    later_operations,
    say,
)
from hoarfrost.benchmark.work import baseline_bytes, baseline_flops, ceiling_flops

# Before a timed call: for about a tenth of a second threads of the contestant before it still spin,
# and memory that it gave up is still being taken back.
SETTLE_SECONDS = 0.3

# A baseline may do half of what BLAS does at the same size; float32 is twice as fast.
EXPECTED_SHARE = 0.5


def measure(case: Case, baselines: list[Contestant], settings: Settings) -> Measured:
    """Everything about one case. A baseline that fails or would not fit is noted and left out."""
    run = _Run(case, settings, Measured(case))
    try:
        run.ceiling()
        for baseline in baselines:
            run.baseline(baseline)
        run.fresh_ours(reuse=True).run("save_answers")
    finally:
        run.close()
    run.compare([OURS, *baselines])
    return run.measured


@dataclass
class _Run:
    case: Case
    settings: Settings
    measured: Measured
    ours: Worker | None = None
    ours_first: dict[str, float] = field(default_factory=dict)
    # float64 flops a second that BLAS does here; None where SciPy is missing
    rate: float | None = None

    def start(self, contestant: Contestant) -> Worker:
        settings = self.settings
        # Ours may take its time; a baseline's limit leaves room for what is not timed.
        limit = 86_400.0 if contestant == OURS else 4 * settings.limit + 60
        worker = Worker(contestant, self.case.name, settings.folder, settings.threads, limit)
        self.measured.about[contestant.key] = worker.about
        return worker

    def fresh_ours(self, reuse: bool) -> Worker:
        """A process of ours that has made its first calls; with `reuse` the one that is there."""
        if self.ours is None or not reuse:
            if self.ours is not None:
                self.ours.close()
            self.ours = self.start(OURS)
            self.ours_first = self.first_calls(self.ours, OURS)
            if not self.ours_first:
                reasons = self.measured.failures[OURS.key]
                raise OursError(f"{self.case.name}: ours failed: {reasons}")
        return self.ours

    def first_calls(self, worker: Worker, contestant: Contestant) -> dict[str, float]:
        """First calls of a fresh process in seconds, and its memory after each."""
        seconds: dict[str, float] = {}
        for operation in first_operations(self.case):
            reply = self.attempt(worker, contestant, operation)
            if reply is None:
                if operation in ("fit", "cholesky"):
                    break
                continue
            seconds[operation] = reply["seconds"]
            say(f"  {contestant.key}: {operation}, first call: {reply['seconds']:.3g} s")
            peak = reply["peak"] if reply["device_peak"] is None else reply["device_peak"]
            self.measured.peaks.setdefault(contestant.key, {})[operation] = peak
        return seconds

    def attempt(
        self, worker: Worker, contestant: Contestant, operation: str
    ) -> dict[str, Any] | None:
        """Run an operation, unless a baseline would take too long for it; None if that fails."""
        if contestant != OURS:
            reason = self.too_long(contestant, operation)
            if reason is not None:
                self.measured.fail(contestant, operation, reason)
                return None
        try:
            return worker.run(operation)
        except WorkerError as error:
            self.measured.fail(contestant, operation, str(error))
            return None

    def too_long(self, contestant: Contestant, operation: str) -> str | None:
        """Why a baseline's call is not made; None where it is, or nothing is known of the rate."""
        untimed = operation in ("evidence", "functional_cached")
        if untimed or self.rate is None or contestant.device != "cpu":
            return None
        flops = baseline_flops(self.case, contestant.name, operation)
        speed = 2 if contestant.itemsize == 4 else 1
        seconds = flops / (EXPECTED_SHARE * speed * self.rate)
        if seconds <= self.settings.limit:
            return None
        return f"left out: about {seconds:,.0f} s (--limit {self.settings.limit:,.0f})"

    def ceiling(self) -> None:
        """The reference, then BLAS in turn with ours."""
        case, measured = self.case, self.measured
        try:
            worker = self.start(CEILING)
        except WorkerError as error:
            measured.fail(CEILING, "all", f"SciPy is needed: {error}")
            return
        try:
            flops = ceiling_flops(case)
            ours = self.fresh_ours(reuse=True)
            later = later_operations(case)
            for kernel in flops:
                worker.run(kernel)

            def blas() -> float:
                took = [worker.run(kernel)["seconds"] for kernel in flops]
                for kernel, seconds in zip(flops, took, strict=True):
                    measured.kernels.setdefault(kernel, []).append(seconds)
                return float(sum(took))

            for operation in later if case.kind != "network" else (*later, "core_products"):
                self.repeat(CEILING, operation, ours, blas)
            self.rate = max(flops[name] / min(measured.kernels[name]) for name in flops)
            # The curvature, and a copy of it that becomes the factor.
            reason = _too_large(16.0 * case.num_params**2)
            if reason is not None:
                measured.fail(CEILING, "reference", reason)
                return
            worker.run("reference")
            worker.run("save_answers")
        except WorkerError as error:
            measured.fail(CEILING, "reference", str(error))
        finally:
            worker.close()

    def baseline(self, baseline: Contestant) -> None:
        """First calls in fresh processes, then repeats in turn with ours."""
        say(f" {baseline.key}")
        measured, settings, case = self.measured, self.settings, self.case
        reason = None
        if baseline.device == "cpu":
            reason = _too_large(baseline_bytes(case, baseline.name, baseline.itemsize))
        reason = reason or self.too_long(baseline, first_operations(case)[0])
        if reason is not None:
            measured.fail(baseline, "all", reason)
            return
        worker: Worker | None = None
        try:
            for _ in range(settings.first_rounds):
                started = time.perf_counter()
                if worker is not None:
                    worker.close()
                self.fresh_ours(reuse=settings.first_rounds == 1)
                worker = self.start(baseline)
                theirs = self.first_calls(worker, baseline)
                for operation in theirs.keys() & self.ours_first.keys():
                    first = (self.ours_first[operation], theirs[operation])
                    self.pair(baseline, f"{operation}_first", *first)
                if not theirs or time.perf_counter() - started > settings.patience:
                    break
            if worker is not None and theirs:
                self.later(worker, baseline)
                worker.run("save_answers")
        except WorkerError as error:
            measured.fail(baseline, "all", str(error))
        finally:
            if worker is not None:
                worker.close()

    def later(self, worker: Worker, baseline: Contestant) -> None:
        ours = self.fresh_ours(reuse=True)
        for operation in later_operations(self.case):
            name = operation
            if baseline.name == "tuned" and operation == "functional":
                name = "functional_cached" if self.case.kind == "softmax" else operation
            if name == "functional_cached":
                self.attempt(worker, baseline, name)  # compiles, and makes the cache

            def theirs(name: str = name) -> float | None:
                reply = self.attempt(worker, baseline, name)
                return None if reply is None else float(reply["seconds"])

            self.repeat(baseline, operation, ours, theirs)

    def repeat(
        self,
        contestant: Contestant,
        operation: str,
        ours: Worker,
        theirs: Callable[[], float | None],
    ) -> None:
        """Ours and theirs in turn, as often as asked or as patience allows."""
        started = time.perf_counter()
        for _ in range(self.settings.repeats):
            time.sleep(SETTLE_SECONDS)
            reply = self.attempt(ours, OURS, operation)
            time.sleep(SETTLE_SECONDS)
            seconds = theirs()
            if reply is None or seconds is None:
                return
            self.pair(contestant, operation, reply["seconds"], seconds)
            if time.perf_counter() - started > self.settings.patience:
                break

    def pair(self, contestant: Contestant, operation: str, ours: float, theirs: float) -> None:
        found = self.measured.pairs.setdefault(contestant.key, {})
        found.setdefault(operation, []).append([ours, theirs])

    def compare(self, contestants: list[Contestant]) -> None:
        """Relative errors against the reference, where there is one."""
        reference = self._answers(CEILING)
        for contestant in contestants if reference else []:
            found = self._answers(contestant)
            self.measured.errors[contestant.key] = {
                name: float(np.max(np.abs(found[name] - exact)) / np.max(np.abs(exact)))
                for name, exact in reference.items()
                if name in found
            }

    def _answers(self, contestant: Contestant) -> dict[str, np.ndarray]:
        path = self.settings.folder / f"{contestant.key.replace(' ', '-')}-answers.npz"
        if not path.exists():
            return {}
        with np.load(path) as arrays:
            return dict(arrays.items())

    def close(self) -> None:
        if self.ours is not None:
            self.ours.close()


def _too_large(needed: float) -> str | None:
    """Why something of a size is not started; None if it is."""
    available = available_bytes()
    if available is None or needed <= available:
        return None
    return f"left out: needs {needed / 2**30:,.0f} GiB, there are {available / 2**30:,.0f}"
