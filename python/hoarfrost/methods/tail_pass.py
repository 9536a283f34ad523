"""What the frozen part of a network gives at every point, for the part of it that is trained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.curvature.feature_pass import point_of
from hoarfrost.curvature.feature_store import all_columns, batches_like
from hoarfrost.curvature.head import MAX_POINTS
from hoarfrost.data import DataLoader
from hoarfrost.data.checked import CheckedBatch, check_finite_inputs, data_batches
from hoarfrost.data.pieces import cut, piece_size
from hoarfrost.data.positions import examples_at_once
from hoarfrost.dtypes import is_finite
from hoarfrost.errors import StructureError
from hoarfrost.freezing import Subset
from hoarfrost.jaxprs import coarsest_eps
from hoarfrost.network import Network, NetworkProgram, check_points_apart
from hoarfrost.network.tail import PointForm, TailNetwork, kept_outputs
from hoarfrost.types import Tree

# Of the root of the rounding unit: what adding up in another order may change, through any number
# of layers.
_ROUNDING = 4.0

# A number that is kept must save at least so many multiplications to be worth its place.
_WORTH = 8


@dataclass(frozen=True, eq=False)
class TailPass:
    """The frozen part of a network, in pieces of one size.

    Attributes
    ----------
    subset : Subset
        The whole network, on its devices.
    network : TailNetwork
        What comes after that part.
    size : int
        Examples of a piece.
    count : int
        How many arrays are kept.
    point_bytes : int
        Bytes of those of one example.
    pays : bool
        Whether what is saved is worth what is kept.
    """

    subset: Subset
    network: TailNetwork
    size: int
    count: int
    point_bytes: int
    pays: bool

    @property
    def names(self) -> tuple[str, ...]:
        """One for each array of `features`."""
        return tuple(f"kept {place}" for place in range(self.count))

    def features(self, batches: Iterable[CheckedBatch]) -> Iterator[tuple[np.ndarray, ...]]:
        """The inputs of `network`, axis 0 over examples, piece by piece.

        Raises
        ------
        NonFiniteError
            If inputs hold a NaN or an infinity.
        StructureError
            If what the frozen part gives does.
        """
        for batch in batches:
            check_finite_inputs(batch.inputs, batch.index, batch.argument)
            for start in range(0, batch.size, self.size):
                length = min(self.size, batch.size - start)
                kept = self._piece(cut(batch.inputs, start, self.size, length))
                piece = tuple(np.asarray(leaf)[:length] for leaf in kept)
                if not is_finite(piece):
                    raise StructureError(
                        f"the outputs of its frozen part on batch {batch.index} of "
                        f"{batch.argument} are not finite"
                    )
                yield piece

    def _piece(self, inputs: Tree) -> tuple[jax.Array, ...]:
        subset = self.subset
        inputs = subset.devices.split(inputs)
        kept: tuple[jax.Array, ...] = kept_outputs(
            self.network, subset.params, subset.mutable, inputs
        )
        return kept

    def agrees(self, first: CheckedBatch) -> bool:
        """Whether the parts of the network give its outputs on a batch, to rounding."""
        subset = self.subset
        inputs = cut(first.inputs, 0, self.size, min(self.size, first.size))
        arrays = subset.params, subset.mutable
        whole, eps = _outputs(subset.network, *arrays, subset.devices.split(inputs))
        parts, _ = _outputs(self.network, *arrays, self._piece(inputs))
        whole, parts = (np.asarray(x).astype(np.float64) for x in (whole, parts))
        if whole.shape != parts.shape:
            return False
        if not np.isfinite(whole).all():
            return True  # said, and where, by those who use the outputs
        bound = _ROUNDING * math.sqrt(float(eps)) * np.abs(whole).max(initial=0)
        return bool(np.abs(whole - parts).max(initial=0) <= bound)


def tail_pass(subset: Subset, first: CheckedBatch) -> TailPass | str:
    """The pass for a subset whose trainable leaves come after something frozen, or why not.

    Raises
    ------
    MixedPointsError
        If the outputs for a point depend on the other points of the batch.
    """
    params, mutable = subset.params, subset.mutable
    check_points_apart(subset.network, params, mutable, first.inputs)
    network = TailNetwork(
        subset.network, subset.partition.mask, PointForm.of(point_of(first.inputs))
    )
    found = network.cut(params, mutable)
    if isinstance(found, str):
        return found
    size = piece_size(
        first.size, examples_at_once(MAX_POINTS, subset.output_shape(first.inputs)[1:-1])
    )
    numbers = sum(math.prod(form.shape) for form in found.kept)
    run = TailPass(
        subset=subset,
        network=network,
        size=subset.devices.rows(size),
        count=len(found.kept),
        point_bytes=found.kept_bytes,
        pays=found.saved >= _WORTH * numbers,
    )
    try:
        sound = run.agrees(first)
    except NotImplementedError as error:
        return f"it cannot be mapped over points: {error}"
    return run if sound else "its parts do not give the outputs of the whole on the first batch"


def tail_loader(
    run: TailPass, loader: DataLoader, first: CheckedBatch, argument: str, *, progress: bool
) -> DataLoader:
    """What the frozen part gives at all points of a loader, in batches and orders like its own.

    Raises
    ------
    MemoryLimitError
        If there is no room for it.
    NonFiniteError, StructureError
        As for `TailPass.features`.
    """
    batches = data_batches(loader, argument=argument, masks=True)
    named = (replace(batch, argument=argument) for batch in batches)
    columns, sizes = all_columns(
        run, loader, first, named, "give cache_features=False", progress=progress
    )
    targets = columns["targets"]
    data = (
        tuple(columns[name] for name in run.names),
        (targets, columns["mask"]) if "mask" in columns else targets,
    )
    return DataLoader(batches_like(loader._batches, data, sizes))


def _evaluate(
    network: Network, params: Tree, mutable: Tree, inputs: Tree
) -> tuple[jax.Array, jax.Array]:
    """Outputs, and the rounding unit of the coarsest number on the way."""
    outputs = network.evaluate(params, mutable, inputs)

    def again(params: Tree) -> jax.Array:
        return network.evaluate(params, mutable, inputs)

    eps = coarsest_eps(jax.make_jaxpr(again)(params).jaxpr)
    return outputs, jnp.asarray(eps, jnp.float32)


_outputs: Any = NetworkProgram(_evaluate)
