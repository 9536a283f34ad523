"""From a loader and weight samples to one array over all points."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import is_choice, shown
from hoarfrost.data.checked import CheckedBatch, data_batches, input_batches
from hoarfrost.data.positions import in_positions
from hoarfrost.dtypes import aligned, first_not_finite, in_float64, is_finite, narrowed
from hoarfrost.errors import DataError, InvalidArgumentError, NonFiniteError, ShapeError
from hoarfrost.likelihood import Likelihood
from hoarfrost.likelihood.points import checked_rows
from hoarfrost.network import Network
from hoarfrost.predictive.weight_samples import (
    Precision,
    Statistic,
    WeightSamples,
    output_shape,
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
    samples, checked = at_positions(network, samples, checked)
    batches = ((batch.inputs,) for batch in checked)
    parts = over_samples(
        network, samples, statistic, batches, axis=axis, key=key, precision=precision
    )
    rows = loader.size * math.prod(samples.positions) if loader.holds_arrays else None
    joined = _joined(parts, axis, rows)
    return jax.tree.map(lambda x: _sound(in_positions(x, samples.positions, axis)), joined)


def at_positions(
    network: Network, samples: WeightSamples, batches: Iterator[CheckedBatch]
) -> tuple[WeightSamples, Iterator[CheckedBatch]]:
    """The samples with the positions of these batches' outputs, and the batches again.

    Raises
    ------
    ShapeError
        While iterating: if examples of a later batch have another shape, and so other positions.
    """
    first = next(batches)
    samples = dataclasses.replace(
        samples, positions=output_shape(network, samples, first.inputs)[1:-1]
    )
    batches = itertools.chain([first], batches)
    return samples, _alike(batches) if samples.positions else batches


def _alike(batches: Iterator[CheckedBatch]) -> Iterator[CheckedBatch]:
    first: list[tuple[int, ...]] | None = None
    for batch in batches:
        shapes = [np.shape(leaf)[1:] for leaf in jax.tree.leaves(batch.inputs)]
        first = shapes if first is None else first
        if shapes != first:
            raise ShapeError(
                f"inputs of batch {batch.index} have shape {shapes} beyond axis 0, and those of "
                f"batch 0 {first}: what is predicted for positions comes back in one array; "
                "pad the examples to one length, or ask for each length by itself"
            )
        yield batch


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
    # Not as `jnp.asarray`, which copies.
    return jax.device_put(found)


def targets_shape(
    network: Network, samples: WeightSamples, mean: Statistic, inputs_loader: Any
) -> tuple[int, ...]:
    """Number of points of a loader, their positions, and targets (or classes) of each: ``(N, D)``.

    `mean` is that of the targets, a statistic of outputs. No output is computed.
    """
    loader = as_inputs_loader(inputs_loader)
    batch = next(input_batches(loader, argument="inputs_loader", one_shape=False))
    shape = output_shape(network, samples, batch.inputs)
    outputs = jax.ShapeDtypeStruct((1, 1, shape[-1]), np.float32)  # type: ignore[no-untyped-call]
    return loader.size, *shape[1:-1], jax.eval_shape(mean, outputs).shape[1]


def over_data(
    network: Network,
    samples: WeightSamples,
    likelihood: Likelihood,
    statistic: Statistic,
    data_loader: Any,
    *,
    axis: int = 0,
    ignored_label: int | None = None,
) -> jax.Array:
    """A statistic of outputs and targets at all points, in the order given, joined along `axis`.

    It is computed in float64. Where targets have a mask, or there is an ignored label, it is of
    those that count, in one axis.

    Raises
    ------
    InvalidArgumentError, ShapeError, NonFiniteError
        If targets do not fit (the batch is named), or a number is too large for what JAX has.
    DataError
        If no target counts.
    """
    batches = data_batches(data_loader, one_shape=False, masks=True)
    samples, batches = at_positions(network, samples, batches)
    counted: list[np.ndarray] = []
    width: list[int] = []

    def checked() -> Iterator[tuple[Any, Any]]:
        for batch in batches:
            width[:] = width or [output_shape(network, samples, batch.inputs)[-1]]
            batch = checked_rows(batch, likelihood, width[0], samples.positions, ignored_label)
            if batch.mask is not None:
                counted.append(batch.mask)
            yield batch.inputs, batch.targets

    parts = over_samples(network, samples, statistic, checked(), axis=axis, precision=in_float64)
    remedy = "the targets are far from all that the model predicts: check their scale"
    found = narrowed(_joined(parts, axis), _widest(), "a log-density", remedy)
    if not counted:
        return jnp.asarray(in_positions(found, samples.positions, axis))
    kept = np.concatenate(counted)
    if not kept.any():
        raise DataError("no target counts: every one is masked or the ignored label")
    return jnp.asarray(np.compress(kept, found, axis=axis))


def _joined(parts: Iterator[Tree], axis: int, rows: int | None = None) -> Any:
    """Results of all batches along the axis of the points, of which there are `rows`.

    Where that is known each is put in its place as it comes, so that all are there only once.
    """
    if rows is None:
        return jax.tree.map(lambda *x: np.concatenate(x, axis=axis), *parts)
    first = next(parts)
    count = jax.tree.leaves(first)[0].shape[axis]
    if count == rows:
        return first
    whole = jax.tree.map(
        lambda x: aligned((*x.shape[:axis], rows, *x.shape[axis + 1 :]), x.dtype), first
    )
    start = 0
    for part in itertools.chain([first], parts):
        stop = start + jax.tree.leaves(part)[0].shape[axis]
        place = (*(slice(None),) * axis, slice(start, stop))
        jax.tree.map(lambda x, all_, at=place: all_.__setitem__(at, x), part, whole)
        start = stop
    return whole


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
