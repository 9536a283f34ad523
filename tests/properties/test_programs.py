"""What a second equal call must not do: compile anything, or keep what the first one was given."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from rows import POINTS, Row, every_row

import hoarfrost

pytestmark = pytest.mark.usefixtures("x64")

COMPILED: list[str] = []


def listen(event: str, seconds: float, **_: Any) -> None:
    """Note every program that XLA compiles."""
    if event.endswith("backend_compile_duration"):
        COMPILED.append(event)


jax.monitoring.register_event_duration_secs_listener(listen)


def compiled_by(run: Callable[[], Any]) -> int:
    """How many programs a call compiles."""
    before = len(COMPILED)
    run()
    return len(COMPILED) - before


def use(row: Row, variables: Any = None) -> hoarfrost.Laplace:
    """A posterior whose every verb was used once."""
    posterior = row.fit(variables=variables)
    definition, data = row.definition, [(POINTS, row.definition.targets[: len(POINTS)])]
    posterior.sample(seed=0, n_samples=3)
    posterior.functional_covariance(POINTS)
    posterior.functional_covariance(POINTS, joint=True)
    posterior.with_prior_precision(2.0).log_marginal_likelihood()
    for link in definition.links:
        posterior.predict(POINTS, link=link, n_samples=3)
        posterior.log_prob(data, link=link, n_samples=3)
    return posterior


def test_programs_are_counted() -> None:
    assert compiled_by(lambda: jax.jit(lambda x: x + 1)(np.zeros(3)).block_until_ready()) > 0


@every_row
def test_a_second_equal_call_compiles_nothing(row: Row) -> None:
    use(row)
    assert compiled_by(lambda: use(row)) == 0


@every_row
def test_weak_references_die(row: Row) -> None:
    variables = row.variables()
    posterior = use(row, variables)
    held = [weakref.ref(thing) for thing in (posterior, *jax.tree.leaves(variables))]
    del posterior, variables
    gc.collect()
    assert [reference() for reference in held] == [None] * len(held)
