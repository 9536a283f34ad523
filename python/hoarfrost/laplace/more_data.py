"""More data for a posterior, and a posterior as the prior of the next."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import numpy as np

from hoarfrost.checks import check_switch
from hoarfrost.data.checked import data_batches, num_batches
from hoarfrost.errors import DataError, InvalidArgumentError, ShapeError
from hoarfrost.freezing import Subset
from hoarfrost.laplace.evidence.evidence import Earlier
from hoarfrost.laplace.linearised import LinearisedNetwork
from hoarfrost.laplace.one_pass import add_points, no_sums
from hoarfrost.laplace.saving import frozen_digest
from hoarfrost.laplace.structure.base import Curvature
from hoarfrost.laplace.structure.registry import structure_for
from hoarfrost.likelihood import Gaussian
from hoarfrost.memory import check_room
from hoarfrost.types import Array, join


def updated(posterior: Any, data_loader: Any, progress: bool) -> dict[str, Any]:
    """What is new of a posterior that has seen more data, at the same mean."""
    check_switch("progress", progress)
    linearised, data_loader = _at_first_noise(posterior).given(data_loader, "data_loader")
    batches = data_batches(data_loader, one_shape=False, masks=True)
    first = next(batches)
    _check_inputs(linearised, first.inputs)
    linearised, batches = linearised.at(itertools.chain([first], batches))
    first = next(batches)
    prior, store = posterior.prior.vector, posterior.store
    setting = linearised.setting(prior)
    structure = structure_for(posterior.hessian_structure, setting)
    cost = structure.cost(setting)
    if cost is not None:
        check_room(
            "the curvature of more data", cost.curvature, "fit again with all data", store.budget
        )
    with store.turn.lock:
        old = store.curvature_for("update")
        curvature = structure.empty(setting)
        sums = add_points(
            linearised,
            curvature,
            first,
            batches,
            num_batches(data_loader),
            progress,
            no_sums(linearised),
        )
        curvature.merge(old)
        del old
    num_data = posterior.num_data + sums.num_data
    log_likelihood, residuals = posterior.log_likelihood + sums.log_likelihood, None
    if posterior.residuals is not None:
        assert sums.squares is not None
        squares = posterior.residuals.squares + sums.squares
        residuals = dataclasses.replace(posterior.residuals, num_data=num_data, squares=squares)
        noise = posterior.evidence.noise_precision
        assert noise is not None
        log_likelihood = residuals.log_likelihood(noise)
    factor = curvature.factor(prior, scale=store.scale, keep=store.keep)
    kept = dataclasses.replace(store, curvature=curvature if store.keep else None)
    return {
        "num_data": num_data,
        "log_likelihood": log_likelihood,
        "residuals": residuals,
        "store": kept.holding(factor, prior, store.scale),
        "tuning": None,
        "held_out": None,
    }


def check_earlier(earlier: Any, subset: Subset, structure: Any) -> str:
    """The structure of a fit whose prior is an earlier posterior.

    Raises
    ------
    InvalidArgumentError
        If it is no posterior over the same parameters, or of another structure.
    """
    # Whatever is given: nobody below the posterior knows its class.
    if not hasattr(earlier, "linearised") or not hasattr(earlier, "store"):
        raise InvalidArgumentError(
            f"prior is a {type(earlier).__name__}; give a hoarfrost.Laplace, or leave it out and "
            "give prior_precision and prior_mean"
        )
    own, other = (_shapes(one) for one in (subset, earlier.linearised.subset))
    if own != other:
        odd = sorted(set(own) ^ set(other)) or [p for p in own if own[p] != other[p]]
        raise InvalidArgumentError(
            f"prior is a posterior over other parameters: they differ at {join(odd[0])!r}; give "
            "one over the trainable leaves of this fit"
        )
    if frozen_digest(subset) != frozen_digest(earlier.linearised.subset):
        raise InvalidArgumentError(
            "prior is a posterior over these parameters beside other frozen ones (or statistics): "
            "its curvature is that of another network; give one of a fit with the same frozen part"
        )
    theirs: str = earlier.hessian_structure
    if structure not in (theirs, "auto"):
        raise InvalidArgumentError(
            f"hessian_structure is {structure!r}, but the posterior given as prior has {theirs!r}; "
            "give the same"
        )
    return theirs


def add_earlier(earlier: Any, curvature: Curvature, temperature: float) -> None:
    """Add the curvature of an earlier posterior to that of the new data."""
    store = earlier.store
    with store.turn.lock:
        old = store.curvature_for("a posterior as prior")
        if type(old) is not type(curvature):
            raise InvalidArgumentError(
                "prior is a posterior of another form of curvature (a last layer, or of another "
                "likelihood); give one of a fit with the same network and likelihood"
            )
        try:
            curvature.merge(old, np.multiply(store.scale, temperature))
        except ShapeError as error:
            raise InvalidArgumentError(
                f"prior is a posterior of another form of curvature: {error}; give one of a fit "
                "with the same network and likelihood"
            ) from error


def earlier_at(earlier: Any, mean: Array) -> Earlier:
    """What the evidence takes of an earlier posterior."""
    factor = earlier.store.factor
    penalty = factor.quadratic(mean - earlier.mean)
    return Earlier(factor.log_det(), penalty, earlier.num_data)


def _shapes(subset: Subset) -> dict[Any, tuple[int, ...]]:
    leaves = jax.tree.leaves(subset.trainable)
    return {
        path: tuple(np.shape(leaf))
        for path, leaf in zip(subset.partition.trainable_paths, leaves, strict=True)
    }


def _at_first_noise(posterior: Any) -> LinearisedNetwork:
    """Under the noise with which the curvature was added up."""
    linearised = posterior.linearised
    if posterior.residuals is None:
        return linearised
    std = posterior.residuals.noise_precision**-0.5
    return dataclasses.replace(linearised, likelihood=Gaussian(tuple(map(float, std))))


def _check_inputs(linearised: LinearisedNetwork, inputs: Any) -> None:
    structure = jax.tree.structure(inputs)
    if linearised.input_structure is not None and linearised.input_structure != structure:
        raise DataError(
            f"the inputs of data_loader have the structure {structure}, and those of the fit had "
            f"{linearised.input_structure}; give them in the same form"
        )
