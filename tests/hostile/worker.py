"""Runs cases in a process of its own: `python worker.py CASES RESULTS START`.

CASES holds a case a line, RESULTS gets a line as a case begins and one with its verdict. A case
that ends the process, or never ends, is the one that has begun. With one case in place of the
files, its verdict is printed.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "options"), str(HERE.parent)]

import jax  # noqa: E402
from cases import Case  # noqa: E402
from exceptions import handed_on, reason_for  # noqa: E402
from judge import RAW, RIGHT, TYPED, WRONG, Verdict, close, judge, of_error  # noqa: E402
from kinds import make  # noqa: E402
from meaning import Boom, Raises, Same, Senseless, either  # noqa: E402
from reach import Place, place, subjects  # noqa: E402

# Bytes of address space: what asks for more gets an error and not the machine.
ROOM = 24 * 2**30
# Compiled programs are given back after so many cases.
KEPT = 1500
# It says how much memory there is at the moment.
NEVER_THE_SAME = ("describe",)
AFTERWARDS = "afterwards the right call"


class Bench:
    """The right calls of one callable, and what they gave at first."""

    def __init__(self) -> None:
        self._rows = subjects()
        self._first: dict[str, Any] = {}

    def at(self, case: Case) -> Place:
        found = place(case.name, self._rows[case.name], case.argument)
        if case.name not in self._first:
            self._first = {case.name: found.base()}
        return found

    def run(self, case: Case) -> Verdict:
        """The verdict of a case, and whether the right call still gives what it gave."""
        at = self.at(case)
        try:
            hostile = make(at.kind, case.recipe, at.right, case.argument)
        except Boom:
            return Verdict(RIGHT)
        except Exception as error:  # what is refused as it is made, such as a likelihood
            return of_error(error, case.argument)
        if hostile.value is None and at.optional:
            hostile = either(None)
        texts = case.name == "describe" or case.name.startswith("model.")
        if texts and isinstance(hostile.meaning, Same):
            hostile = either(hostile.value)  # their results are texts, which show dtypes
        exempt = reason_for(case.name, case.argument, case.recipe)
        if exempt and isinstance(hostile.meaning, Senseless | Raises):
            hostile = either(hostile.value)
        verdict = judge(at.call, hostile, case.argument, at.oracle)
        if at.kind == "anything" and verdict.outcome == RAW:
            # What the user's own function raises of the user's own value.
            return Verdict(RIGHT, verdict.message)
        if handed_on(case.name, case.argument):
            return Verdict(RIGHT if verdict.outcome in (RAW, WRONG) else verdict.outcome)
        if verdict.outcome not in (RIGHT, TYPED) or case.name in NEVER_THE_SAME:
            return verdict
        try:
            again = at.base()
        except Exception as error:
            return Verdict(WRONG, f"{AFTERWARDS} raises {error!r}"[:300])
        if not close(again, self._first[case.name], 2.0**-40):
            return Verdict(WRONG, f"{AFTERWARDS} gives something else")
        return verdict


def main(cases: str, results: str, start: str) -> None:
    lines = Path(cases).read_text(encoding="utf-8").splitlines()
    bench, spoilt = Bench(), False
    with open(results, "a", encoding="utf-8", buffering=1) as out:
        for index in range(int(start), len(lines)):
            case = Case.of(lines[index])
            out.write(json.dumps({"begun": index}) + "\n")
            verdict = bench.run(case)
            spoilt = verdict.message.startswith(AFTERWARDS)
            line = {"done": index, "outcome": verdict.outcome, "message": verdict.message}
            out.write(json.dumps(line) + "\n")
            if spoilt:
                return  # the next case begins in a new process
            if index % KEPT == KEPT - 1:
                jax.clear_caches()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
    jax.config.update("jax_disable_most_optimizations", True)
    if len(sys.argv) == 2:
        print(Bench().run(Case.of(sys.argv[1])))
    else:
        main(*sys.argv[1:])
        sys.stdout.flush()
        os._exit(0)
