"""Whoever has a turn has it alone: told by what runs at once, not by luck."""

from __future__ import annotations

import dataclasses
import threading
import time

import numpy as np
import pytest
from posteriors import STRUCTURES, Problem

from hoarfrost.laplace import posterior as module
from hoarfrost.laplace.store import FactorStore

# Writers that are in their work at once would be seen within so many seconds.
WHILE = 0.1


class Counted:
    """Calls that take a while, and the most of them that were under way at once."""

    def __init__(self, call):
        self.call, self.lock = call, threading.Lock()
        self.begun = threading.Event()
        self.calls = self.now = self.most = 0

    def __call__(self, *args, **kwargs):
        with self.lock:
            self.calls, self.now = self.calls + 1, self.now + 1
            self.most = max(self.most, self.now)
        self.begun.set()
        try:
            time.sleep(WHILE)
            return self.call(*args, **kwargs)
        finally:
            with self.lock:
                self.now -= 1


def start(*calls):
    """Threads that run these calls, and what they raise."""
    errors = []

    def guarded(call):
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=[call], daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    return threads, errors


def end(threads, errors):
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


WRITERS = {
    "prior": lambda one: one.optimize_prior_precision(),
    "scale": lambda one: one.optimize_prior_scale(),
}


@pytest.mark.parametrize("second", WRITERS)
def test_one_writer_at_a_time(monkeypatch, second):
    posterior = Problem("softmax", 60, 12).fit()
    counted = Counted(module.optimise)
    monkeypatch.setattr(module, "optimise", counted)
    end(*start(*(lambda w=w: WRITERS[w](posterior) for w in ("prior", second, "prior"))))
    assert (counted.calls, counted.most) == (3, 1)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_reader_that_comes_while_another_writes_sees_what_was_written(monkeypatch, structure):
    problem = Problem(structure, 60, 12)
    expected, posterior = problem.fit(), problem.fit()
    expected.optimize_prior_precision()
    counted = Counted(module.optimise)
    monkeypatch.setattr(module, "optimise", counted)
    running = start(posterior.optimize_prior_precision)
    assert counted.begun.wait(30)
    found, prior = posterior.variance(), posterior.prior_precision
    end(*running)
    np.testing.assert_array_equal(found, expected.variance())
    assert prior == expected.prior_precision


@pytest.mark.parametrize("structure", ["softmax", "gaussian", "full", "diag"])
def test_curvature_is_factored_by_one_thread_at_a_time(structure):
    posterior = Problem(structure, 60, 12).fit()
    curvature = posterior.store.curvature
    counted = Counted(type(curvature).factor.__get__(curvature))
    slow = Slow(curvature, counted)
    posterior.store.curvature = slow
    other = posterior.with_prior_precision(2.0)
    calls = [lambda p=p: p.log_marginal_likelihood(3.0) for p in (posterior, other)]
    end(*start(*calls))
    assert (counted.calls, counted.most) == (3, 1)


class Slow:
    """A curvature whose factor takes a while."""

    def __init__(self, curvature, factor):
        self.curvature, self.factor = curvature, factor

    def __getattr__(self, name):
        return getattr(self.curvature, name)


def test_a_factor_that_was_given_up_is_made_once():
    posterior = Problem("softmax", 60, 12).fit()
    store = posterior.store.alone()
    store.release()
    counted = Counted(store.curvature.factor)
    shared = dataclasses.replace(store, curvature=Slow(store.curvature, counted), held=None)
    assert isinstance(shared, FactorStore)
    found = []
    end(*start(*[lambda: found.append(shared.factor)] * 3))
    assert counted.calls == 1 and len({id(one) for one in found}) == 1
