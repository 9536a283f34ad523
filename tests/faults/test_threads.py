"""Threads on one posterior: readers side by side, writers one after the other, never a mixture."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from posteriors import STRUCTURES, VERBS, Problem

READING = [verb for verb in VERBS if verb not in ("fit", "tune")]
SIZE, POINTS = 240, 24


def together(*calls):
    """What each call gives, all of them begun at once in threads of their own."""
    barrier, given = threading.Barrier(len(calls)), [None] * len(calls)

    def run(index, call):
        barrier.wait()
        try:
            given[index] = call()
        except BaseException as error:
            given[index] = error

    threads = [threading.Thread(target=run, args=item, daemon=True) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    for one in given:
        if isinstance(one, BaseException):
            raise one
    return given


@pytest.mark.parametrize("structure", STRUCTURES)
def test_readers_side_by_side_give_what_each_gives_alone(structure):
    problem = Problem(structure, SIZE, POINTS)
    posterior = problem.fit()
    alone = [VERBS[verb](problem, posterior) for verb in READING]
    calls = [lambda verb=verb: VERBS[verb](problem, posterior) for verb in READING]
    for found, expected in zip(together(*calls, *calls), alone + alone, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_reader_sees_one_state_or_the_other(structure):
    problem = Problem(structure, SIZE, POINTS)
    before, after = problem.fit(), problem.fit()
    after.optimize_prior_precision()
    posterior, done = problem.fit(), threading.Event()
    reading = [v for v in READING if v not in ("nn", "mc", "joint")]

    def state(one):
        return {verb: VERBS[verb](problem, one) for verb in reading} | {
            "own evidence": one.log_marginal_likelihood()
        }

    known = state(before), state(after)

    def write():
        try:
            posterior.optimize_prior_precision()
        finally:
            done.set()

    def read():
        seen = []
        while not done.is_set() or len(seen) < 2:
            seen.append(state(posterior))
        return seen

    _, *seen = together(write, read, read)
    for found in [*seen[0], *seen[1], state(posterior)]:
        for verb, value in found.items():
            assert any(np.array_equal(value, one[verb]) for one in known), verb
    np.testing.assert_array_equal(posterior.variance(), after.variance())


@pytest.mark.parametrize("structure", STRUCTURES)
def test_writers_wait_for_one_another(structure):
    problem = Problem(structure, SIZE, POINTS)
    expected, posterior = problem.fit(), problem.fit()
    expected.optimize_prior_precision()
    expected.optimize_prior_precision()
    together(posterior.optimize_prior_precision, posterior.optimize_prior_precision)
    assert posterior.prior_precision == expected.prior_precision
    np.testing.assert_array_equal(posterior.variance(), expected.variance())


class Broken:
    def __iter__(self):
        yield 1 / 0


def test_an_error_in_a_writer_leaves_its_turn_to_others():
    posterior = Problem("softmax", SIZE, POINTS).fit()
    expected = posterior.variance()
    with pytest.raises(ValueError, match="structure is 'nothing'"):
        posterior.optimize_prior_precision("nothing")
    with pytest.raises(ZeroDivisionError):
        posterior.optimize_on(Broken())
    [found] = together(posterior.variance)
    np.testing.assert_array_equal(found, expected)
