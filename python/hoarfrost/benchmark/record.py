"""What a run of the benchmark is told and what it finds: settings, operations, raw figures."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from hoarfrost.benchmark.cases import Case
from hoarfrost.benchmark.processes import Contestant

OURS, CEILING = Contestant("ours"), Contestant("ceiling")


@dataclass(frozen=True)
class Settings:
    """How long and how often: `limit` seconds for a call, `patience` for an operation's repeats."""

    threads: int
    repeats: int
    first_rounds: int
    limit: float
    patience: float
    folder: Path


@dataclass
class Measured:
    """Raw figures of a case, by contestant and operation."""

    case: Case
    # [ours, theirs] in seconds
    pairs: dict[str, dict[str, list[list[float]]]] = field(default_factory=dict)
    kernels: dict[str, list[float]] = field(default_factory=dict)
    # bytes beyond the inputs, after each stage of a fresh process
    peaks: dict[str, dict[str, int]] = field(default_factory=dict)
    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)
    about: dict[str, dict[str, str]] = field(default_factory=dict)

    def fail(self, contestant: Contestant, operation: str, reason: str) -> None:
        """Keep the reason for an empty cell."""
        self.failures.setdefault(contestant.key, {})[operation] = reason
        say(f"  {contestant.key}: {operation}: {reason}")


def first_operations(case: Case) -> tuple[str, ...]:
    """What a fresh process does, in order; the last three are where its peak memory is read."""
    if case.kind == "cholesky":
        return ("cholesky", "evidence")
    return ("fit", "evidence", "sample", "functional", "new_prior")


def later_operations(case: Case) -> tuple[str, ...]:
    """What is repeated in a process that has done it before."""
    if case.kind == "cholesky":
        return ("cholesky",)
    if case.kind == "network":
        return ("fit", "sample", "functional", "new_prior")
    # Where one factorisation takes long, a search is only more of them.
    tune = ("tune",) if case.kind == "softmax" and not case.on_request else ()
    return ("fit", "sample", "functional_fresh", "functional", "new_prior", *tune)


def say(message: str) -> None:
    """Progress goes to standard error; the table alone to standard output."""
    print(message, file=sys.stderr, flush=True)
