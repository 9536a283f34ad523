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
from hoarfrost.data.checked import data_batches, input_batches
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
from hoarfrost.prob_model.loaders import as_inputs_loader
from hoarfrost.types import Tree


def over_inputs(
    network: Network,
    samples: WeightSamples,
    statistic: Statistic,
    inputs_loader: Any,
    *,
    axis: int = 0,
    key: jax.Array | None = None,
    precision: Precision = nullcontext,
) -> Any:
    """A statistic of the outputs at all inputs, in the order given, joined along `axis`.

    A statistic that is a tree of arrays gives one: what belongs together comes from one pass.
    `precision` is that of `over_samples`. Raises `NonFiniteError` if the statistic is a NaN or an
    infinity anywhere.
    """
    loader = as_inputs_loader(inputs_loader)
    checked = input_batches(loader, argument="inputs_loader", one_shape=False)
    batches = ((batch.inputs,) for batch in checked)
    parts = over_samples(
        network, samples, statistic, batches, axis=axis, key=key, precision=precision
    )
    return jax.tree.map(_sound, _joined(parts, axis))


def _sound(found: np.ndarray) -> jax.Array:
    """A statistic for the user, who is given no infinity and no NaN."""
    if found.dtype == np.float64:
        found = narrowed(found, _widest(), "a prediction", "give targets in a larger unit")
    if not is_finite(found):
        place = first_not_finite(found)
        raise NonFiniteError(
            f"a prediction is {found[place]} at index {place}; the network's outputs are too large "
            f"for {found.dtype}, or not finite: check the parameters and the scale of the inputs"
        )
    return jnp.asarray(found)


def targets_shape(
    network: Network, samples: WeightSamples, mean: Statistic, inputs_loader: Any
) -> tuple[int, int]:
    """Number of points of a loader, and of targets (or classes) of a point: ``(N, D)``.

    `mean` is that of the targets, a statistic of outputs. No output is computed.
    """
    loader = as_inputs_loader(inputs_loader)
    batch = next(input_batches(loader, argument="inputs_loader", one_shape=False))
    width = num_outputs(network, samples, batch.inputs)
    outputs = jax.ShapeDtypeStruct((1, 1, width), np.float32)  # type: ignore[no-untyped-call]
    return loader.size, jax.eval_shape(mean, outputs).shape[1]


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

    def checked() -> Iterator[tuple[Any, Any]]:
        known: int | None = None
        for batch in data_batches(data_loader, one_shape=False):
            known = num_outputs(network, samples, batch.inputs) if known is None else known
            likelihood.check_targets(batch.targets, known, batch.index)
            yield batch.inputs, batch.targets

    parts = over_samples(network, samples, statistic, checked(), axis=axis, precision=in_float64)
    remedy = "the targets are far from all that the model predicts: check their scale"
    return jnp.asarray(narrowed(_joined(parts, axis), _widest(), "a log-density", remedy))


def _joined(parts: Iterator[Tree], axis: int) -> Any:
    """Results of all batches along the axis of the points."""
    return jax.tree.map(lambda *x: np.concatenate(x, axis=axis), *parts)


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
def drawn(
    sample: Callable[..., jax.Array], n_samples: int, with_outputs: bool = False
) -> Statistic:
    """`sample` for so many samples, with the outputs where they are wanted too.

    The same function for the same arguments. A point mass has one set of outputs, ``(1, B, C)``,
    from which all targets are drawn.
    """

    def draw(outputs: jax.Array, key: jax.Array) -> Any:
        targets = sample(jnp.broadcast_to(outputs, (n_samples, *outputs.shape[1:])), key)
        return (targets, outputs) if with_outputs else targets

    return draw
