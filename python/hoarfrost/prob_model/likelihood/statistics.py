"""From a loader and weight samples to one array over all points."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import is_choice, shown
from hoarfrost.dtypes import first_not_finite, in_float64, is_finite, narrowed
from hoarfrost.errors import InvalidArgumentError, NonFiniteError
from hoarfrost.likelihood import Likelihood
from hoarfrost.network import Network
from hoarfrost.predictive.weight_samples import (
    Precision,
    Statistic,
    WeightSamples,
    num_outputs,
    over_samples,
)
from hoarfrost.prob_model.loaders import as_data_loader, as_inputs_loader


def over_inputs(
    network: Network,
    samples: WeightSamples,
    statistic: Statistic,
    inputs_loader: Any,
    *,
    axis: int = 0,
    key: jax.Array | None = None,
    precision: Precision = nullcontext,
) -> jax.Array:
    """A statistic of the outputs at all inputs, in the order given, joined along `axis`.

    `precision` is that of `over_samples`. Raises `NonFiniteError` if the statistic is a NaN or an
    infinity anywhere.
    """
    loader = as_inputs_loader(inputs_loader)
    batches = ((inputs,) for inputs in loader.in_order())
    parts = over_samples(
        network, samples, statistic, batches, axis=axis, key=key, precision=precision
    )
    found = np.concatenate(list(parts), axis=axis)
    if found.dtype == np.float64:
        found = narrowed(found, _widest(), "a prediction", "give targets in a larger unit")
    if not is_finite(found):
        place = first_not_finite(found)
        raise NonFiniteError(
            f"a prediction is {found[place]} at index {place}; the network's outputs are too large "
            f"for {found.dtype}, or not finite: check the parameters and the scale of the inputs"
        )
    return jnp.asarray(found)


def over_data(
    network: Network,
    samples: WeightSamples,
    likelihood: Likelihood,
    statistic: Statistic,
    data_loader: Any,
    *,
    axis: int = 0,
) -> jax.Array:
    """A statistic of outputs and targets at all points, in the order given, joined along `axis`.

    It is computed in float64.

    Raises
    ------
    InvalidArgumentError, ShapeError, NonFiniteError
        If targets do not fit (the batch is named), or a number is too large for what JAX has.
    """
    loader = as_data_loader(data_loader, "data_loader")

    def checked() -> Iterator[tuple[Any, Any]]:
        known: int | None = None
        for index, (inputs, targets) in enumerate(loader.in_order()):
            known = num_outputs(network, samples, inputs) if known is None else known
            likelihood.check_targets(np.asarray(targets), known, index)
            yield inputs, targets

    parts = over_samples(network, samples, statistic, checked(), axis=axis, precision=in_float64)
    found = np.concatenate(list(parts), axis=axis)
    remedy = "the targets are far from all that the model predicts: check their scale"
    return jnp.asarray(narrowed(found, _widest(), "a log-density", remedy))


def _widest() -> Any:
    """The floating dtype that JAX has outside of `in_float64`."""
    return jax.dtypes.canonicalize_dtype(np.float64)


def check_aux(return_aux: Any) -> bool:
    """Whether outputs are asked for; raises `InvalidArgumentError` if anything else is."""
    if return_aux is None:
        return False
    words = isinstance(return_aux, Sequence) and not isinstance(return_aux, str)
    if not words or any(not is_choice(name, ("outputs",)) for name in return_aux):
        wrong = [name for name in return_aux if name != "outputs"] if words else return_aux
        held = f"holds {shown(wrong[0])}" if words else f"is {shown(wrong)}"
        raise InvalidArgumentError(
            f"return_aux {held}; the only auxiliary value is 'outputs': give ['outputs']"
        )
    return len(return_aux) > 0


@functools.cache
def drawn(sample: Callable[..., jax.Array], n_samples: int) -> Statistic:
    """`sample` for so many samples; the same function for the same arguments.

    A point mass has one set of outputs, from which all targets are drawn.
    """

    def draw(outputs: jax.Array, key: jax.Array) -> jax.Array:
        return sample(jnp.broadcast_to(outputs, (n_samples, *outputs.shape[1:])), key)

    return draw
