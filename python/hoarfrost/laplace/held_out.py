"""Prior precision and temperature by held-out data."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from hoarfrost.checks import is_number, plain, shown
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.laplace.evidence.validation import (
    HeldOut,
    Question,
    best_on_held_out_data,
    best_pair,
)
from hoarfrost.predictive.link import Draws
from hoarfrost.types import Array

PARAMETERS = ("prior_precision", "temperature")

# Half of the difference in a logarithm from which a derivative is taken, and how near a bound is.
_STEP, _NEAR = 0.05, 0.1

_LEAST = 1e-12


def checked_parameters(parameters: Any) -> tuple[str, ...]:
    """The names of what is to be tuned.

    Raises
    ------
    InvalidArgumentError
        If there is none, one twice, or another than `PARAMETERS`.
    """
    names = (parameters,) if isinstance(parameters, str) else parameters
    sound = isinstance(names, Sequence) and all(isinstance(name, str) for name in names)
    if not sound or not names or set(names) - set(PARAMETERS) or len(set(names)) < len(names):
        raise InvalidArgumentError(
            f"parameters is {shown(parameters)}; give 'prior_precision', 'temperature', or both in "
            "a tuple"
        )
    return tuple(names)


def check_temperature(temperature: Any) -> float:
    """A temperature, if it is a positive number that float64 can divide by.

    Raises
    ------
    InvalidArgumentError
        If it is none.
    """
    value = plain(temperature)
    if not is_number(value) or not _LEAST <= float(value) <= 1 / _LEAST:
        raise InvalidArgumentError(
            f"temperature is {shown(temperature)}; give a positive number, 1 for the posterior of "
            f"the data as they are (between {_LEAST:g} and {1 / _LEAST:g})"
        )
    return float(value)


def tuned(
    posterior: Any,
    parameters: tuple[str, ...],
    question: Question,
    bounds: tuple[float, float],
    grid_size: int,
) -> tuple[Any, HeldOut, list[str]]:
    """The posterior of the largest mean log-density of the held-out targets, and what to warn of.

    `bounds` are those of the logarithms of what each parameter is multiplied by.
    """
    place: dict[str, float]
    if len(parameters) == 2:
        pair = best_pair(
            lambda product, logs: _over_temperatures(posterior, product, logs, question),
            bounds,
            grid_size,
        )
        place = {
            "prior_precision": pair.product - pair.log_temperature,
            "temperature": pair.log_temperature,
        }
        best = _at(posterior, place)
        value, evaluations = pair.value, pair.evaluations
    else:
        (name,) = parameters
        best, found = best_on_held_out_data(
            lambda x: _at(posterior, {name: x}), question, bounds, grid_size=grid_size
        )
        place, value, evaluations = {name: found.argument}, found.value, found.evaluations
    gradient = tuple(_slope(posterior, place, name, question) for name in parameters)
    low, high = bounds
    at_bound = tuple(name for name, x in place.items() if x - low <= _NEAR or high - x <= _NEAR)
    certificate = HeldOut(
        parameters=parameters,
        prior_precision=best.prior.value,
        temperature=best.temperature,
        log_prob=value,
        log_prob_before=question.mean_log_prob(lambda: posterior),
        gradient=gradient,
        at_bound=at_bound,
        evaluations=evaluations,
    )
    said = [
        f"the {name.replace('_', ' ')} that predicts the held-out data best lies at a bound, "
        f"{math.exp(place[name]):.3g} times what it was; give other bounds, or optimise again from "
        "here"
        for name in at_bound
    ]
    return best, certificate, said


def _at(posterior: Any, place: dict[str, float]) -> Any:
    """With the prior precision and the temperature multiplied by exponentials.

    ``H / t + s T = (H + s t T) / t``, so that each product has one factor.
    """
    prior, temperature = place.get("prior_precision", 0.0), place.get("temperature", 0.0)
    product = _with_prior(posterior, prior + temperature)
    spread = math.exp(temperature)
    value = jax.tree.map(lambda precision: math.exp(prior) * precision, posterior.prior.value)
    vector = math.exp(prior) * posterior.prior.vector
    store = product.store.holding(
        product.store.factor.scaled(1 / spread), vector, product.store.scale / spread
    )
    return dataclasses.replace(
        product,
        prior=dataclasses.replace(posterior.prior, value=value, vector=vector),
        store=store,
        temperature=posterior.temperature * spread,
    )


def _with_prior(posterior: Any, log_factor: float) -> Any:
    factor = math.exp(log_factor)
    return posterior.with_prior_precision(
        jax.tree.map(lambda precision: factor * precision, posterior.prior.value)
    )


def _over_temperatures(posterior: Any, product: float, logs: Array, question: Question) -> Array:
    draws = Draws(question.seed, question.n_samples)
    return _with_prior(posterior, product).predictor.mean_log_probs(
        question.data_loader, question.link, draws, np.exp(logs)
    )


def _slope(posterior: Any, place: dict[str, float], name: str, question: Question) -> float:
    """The derivative in a logarithm, by a central difference."""
    places = ({**place, name: place[name] + step} for step in (_STEP, -_STEP))
    above, below = (
        question.mean_log_prob(functools.partial(_at, posterior, place)) for place in places
    )
    return (above - below) / (2 * _STEP)
