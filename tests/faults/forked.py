"""Child: what works in a process that was forked from one with a posterior.

Prints one line of JSON: for each verb "right", or the error's type and message.
"""

from __future__ import annotations

import json
import os
import sys
import threading

import numpy as np
from posteriors import VERBS, Problem

CORE = ("variance", "evidence", "other prior", "covariance", "precision", "tune")
NETWORK = ("predict", "sample", "functional variance", "joint", "fit")


def outcome(run, problem, posterior, expected):
    try:
        found = run(problem, posterior)
    except Exception as error:
        return f"{type(error).__module__}.{type(error).__name__}: {error}"
    return "right" if np.array_equal(found, expected) else "wrong"


def in_child(verbs, problem, posterior, expected, seconds=20):
    """The outcomes in a forked child; "hangs" for those after the last that it came to."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        for verb in verbs:
            said = {verb: outcome(VERBS[verb], problem, posterior, expected[verb])}
            os.write(writer, (json.dumps(said) + "\n").encode())
        os._exit(0)
    os.close(writer)
    killer = threading.Timer(seconds, os.kill, (pid, 9))
    killer.start()
    with os.fdopen(reader) as lines:
        outcomes = {verb: "hangs" for verb in verbs}
        for line in lines:
            outcomes |= json.loads(line)
    os.waitpid(pid, 0)
    killer.cancel()
    return outcomes


def main(structure, which, busy):
    problem = Problem(structure, 240, 24)
    verbs = CORE if which == "core" else NETWORK
    expected = {verb: VERBS[verb](problem, problem.fit()) for verb in verbs}
    posterior, held = problem.fit(), threading.Event()
    if busy == "busy":  # a thread has its turn at the moment of the fork

        def hold():
            with posterior.turn.lock, posterior.store.turn.lock:
                held.set()
                threading.Event().wait(60)

        threading.Thread(target=hold, daemon=True).start()
        held.wait()
    print(json.dumps(in_child(verbs, problem, posterior, expected)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
