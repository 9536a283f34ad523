"""Child: SIGINT at random moments of a verb, then the same call again.

Arguments: structure, size, points, verb, how many moments, most seconds into the call. Prints one
line of JSON: the longest delay until KeyboardInterrupt, how often there was one, and whether all
answers had the same bits.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time

import numpy as np
from posteriors import VERBS, Problem

# A shell that starts a program in the background has it ignore SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)


def main(structure, size, points, verb, moments, within):
    problem = Problem(structure, int(size), int(points))
    posterior = problem.fit()
    run, fresh = VERBS[verb], verb == "tune"

    def once():
        return run(problem, problem.fit() if fresh else posterior)

    expected, begun = once(), time.monotonic()
    expected = once()  # compiled by now
    taken = time.monotonic() - begun
    chosen = random.Random(0)
    delays, same = [], True
    # A call that was quicker than the first may be over before its signal: another is made then.
    for _ in range(10 * int(moments)):
        if len(delays) == int(moments):
            break
        target = problem.fit() if fresh else posterior
        sent = []

        def send(sent=sent):
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        timer = threading.Timer(chosen.uniform(0, min(taken / 2, float(within))), send)
        try:
            timer.start()
            run(problem, target)
            timer.cancel()
            timer.join()
        except KeyboardInterrupt:
            delays.append(time.monotonic() - sent[0])
        same = same and np.array_equal(run(problem, target), expected)
    print(json.dumps({"taken": taken, "delays": delays, "same": bool(same)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
