"""Child: every verb of a structure under a limit on the address space, of many sizes.

Arguments: structure, size, how many limits. Programs are compiled before, and each call is right or
`MemoryLimitError`; prints one line of JSON, how often each came out and what else did.
"""

from __future__ import annotations

import collections
import gc
import json
import resource
import sys
from pathlib import Path

import numpy as np
from posteriors import VERBS, Problem

from hoarfrost.errors import MemoryLimitError

SMALLEST, LARGEST = 2**18, 2**26


def address_space():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def limited(run, room):
    """What a call gives where so many bytes more may be taken."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    gc.collect()
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + int(room), hard))
    try:
        return run()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def main(structure, size, limits):
    problem = Problem(structure, int(size))
    counts, wrong = collections.Counter(), []
    rooms = np.geomspace(SMALLEST, LARGEST, int(limits))
    for verb, run in VERBS.items():
        expected = run(problem, problem.fit())
        for room in rooms:
            posterior = problem.fit()
            print(verb, int(room), file=sys.stderr, flush=True)
            try:
                found = limited(lambda: run(problem, posterior), room)  # noqa: B023
                outcome = "right" if np.array_equal(found, expected) else "wrong"
            except MemoryLimitError as error:
                outcome = "refused" if error.bytes_needed > 0 else f"no bytes: {error}"
            except BaseException as error:
                outcome = f"{type(error).__name__}: {error}"
            counts[outcome if outcome in ("right", "refused") else "wrong"] += 1
            if outcome not in ("right", "refused"):
                wrong.append(f"{verb} with {int(room)} bytes: {outcome[:300]}")
            # What was refused changed nothing.
            again = verb != "tune" or outcome == "refused"
            if again and not np.array_equal(run(problem, posterior), expected):
                wrong.append(f"{verb} after {int(room)} bytes differs")
    print(json.dumps({"counts": counts, "wrong": wrong}))


if __name__ == "__main__":
    main(*sys.argv[1:])
