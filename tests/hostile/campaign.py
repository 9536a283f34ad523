"""Runs a campaign in worker processes, which may die or hang, and counts what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cases import Case
from judge import ABORT, HANG, OUTCOMES, RIGHT, TYPED, Verdict

WORKER = Path(__file__).with_name("worker.py")
# Seconds that a case may take, with the first right call and its compilation, on a machine that
# does other things too.
PATIENCE = 90.0


@dataclass(frozen=True)
class Outcome:
    """What came of a case."""

    case: Case
    verdict: Verdict

    @property
    def failed(self) -> bool:
        return self.verdict.outcome not in (RIGHT, TYPED)


def run_all(cases: Sequence[Case], processes: int = 2) -> list[Outcome]:
    """Run cases side by side: those of a callable in one process."""
    names = list(dict.fromkeys(case.name for case in cases))
    shares = [
        [case for case in cases if case.name in names[i::processes]] for i in range(processes)
    ]
    with ThreadPoolExecutor(processes) as pool:
        found = [outcome for share in pool.map(run_share, shares) for outcome in share]
    order = {case: index for index, case in enumerate(cases)}
    return sorted(found, key=lambda outcome: order[outcome.case])


def run_share(
    cases: Sequence[Case], worker: Path = WORKER, patience: float = PATIENCE
) -> list[Outcome]:
    """Run cases in one process at a time, a new one after each that dies or hangs."""
    found: dict[int, Outcome] = {}
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "cases"
        given.write_text("".join(case.text() + "\n" for case in cases), encoding="utf-8")
        while len(found) < len(cases):
            start = len(found)
            results = Path(folder) / f"results {start}"
            results.touch()
            command = [sys.executable, str(worker), str(given), str(results), str(start)]
            reason, tail = watch(command, results, patience)
            begun = read(results, cases, found)
            if len(found) == len(cases):
                break
            if begun is None and len(found) > start:
                continue  # a case spoilt what the next ones need
            if begun is None:
                raise RuntimeError(f"a worker ended before its next case: {reason}\n{tail}")
            found[begun] = Outcome(cases[begun], Verdict(reason, tail[-300:]))
    return [found[index] for index in range(len(cases))]


def watch(command: list[str], results: Path, patience: float) -> tuple[str, str]:
    """Run a worker until it ends, or writes nothing for too long; why it ended, and its words."""
    with tempfile.TemporaryFile() as words:
        with subprocess.Popen(
            command, stdout=words, stderr=words, stdin=subprocess.DEVNULL
        ) as worker:
            size, since = -1, time.monotonic()
            while worker.poll() is None:
                time.sleep(0.05)
                if results.stat().st_size != size:
                    size, since = results.stat().st_size, time.monotonic()
                if time.monotonic() - since > patience:
                    worker.kill()
                    worker.wait()
                    return HANG, f"nothing for {patience:.0f} seconds"
        words.seek(0)
        text = words.read().decode(errors="replace")
    return ABORT, f"exit status {worker.returncode}: {text[-2000:]}"


def read(results: Path, cases: Sequence[Case], found: dict[int, Outcome]) -> int | None:
    """Take up the verdicts of a worker; the case that has begun and has none."""
    begun = None
    for text in results.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        if "begun" in line:
            begun = line["begun"]
        else:
            begun = None
            index = line["done"]
            found[index] = Outcome(cases[index], Verdict(line["outcome"], line["message"]))
    return begun


def table(outcomes: Sequence[Outcome]) -> str:
    """How often each outcome was, in all and by callable."""
    names = dict.fromkeys(outcome.case.name for outcome in outcomes)
    counts = {name: Counter[str]() for name in names}
    for outcome in outcomes:
        counts[outcome.case.name][outcome.verdict.outcome] += 1
    total = Counter[str](outcome.verdict.outcome for outcome in outcomes)
    width = max(map(len, names), default=0)
    rows = [f"{'':{width}}" + "".join(f"{name:>13}" for name in OUTCOMES)]
    for name, counter in {"all": total, **counts}.items():
        rows.append(f"{name:{width}}" + "".join(f"{counter[one]:13d}" for one in OUTCOMES))
    return "\n".join(rows)


def failures(outcomes: Sequence[Outcome]) -> str:
    """A reproducer of each failure."""
    return "\n".join(
        f"{outcome.verdict.outcome}: {outcome.verdict.message}\n"
        f"    python tests/hostile/worker.py '{outcome.case.text()}'"
        for outcome in outcomes
        if outcome.failed
    )
