"""A network at its MAP, with the pass that linearises it in its trainable parameters."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.curvature import FoundLayers, HeadPass, JacobianPass, LayersPass, find_layers
from hoarfrost.curvature.layers import MAX_COLUMNS, check_direction
from hoarfrost.curvature.stream import Piece, stream
from hoarfrost.data.checked import CheckedBatch, input_batches, of_one_shape
from hoarfrost.data.features import as_plain, features_alone, origin_of
from hoarfrost.data.pieces import bucket_size, piece_size
from hoarfrost.dtypes import wide_dtype
from hoarfrost.errors import DataError, StructureError
from hoarfrost.fork import check_not_forked
from hoarfrost.freezing import Subset
from hoarfrost.freezing.features import over_features
from hoarfrost.laplace.plan import MemoryPlan, make_plan
from hoarfrost.laplace.structure.base import Factor
from hoarfrost.laplace.structure.cost import HeadKind, Passes, Setting
from hoarfrost.likelihood import Gaussian, Likelihood
from hoarfrost.likelihood.points import checked_rows
from hoarfrost.network import Network, check_rows
from hoarfrost.network.dense import Origin
from hoarfrost.predictive.gaussian_outputs import GaussianOutputs
from hoarfrost.predictive.link import Needs
from hoarfrost.predictive.weight_samples import WeightSamples
from hoarfrost.types import Array, Tree, ravelled

# Points of a question whose size is not known when it begins.
_MANY = 2**62


# Arrays like the outputs of a piece that a last layer's passes take.
_OUTPUTS_AT_ONCE = 25


# Bytes that the C library keeps of what was freed; more it gives back to the system.
_LINGERING = 2**25


# What gives pieces of the data to a curvature or a prediction.
Run = HeadPass | LayersPass | JacobianPass


@dataclass(frozen=True, eq=False)
class LinearisedNetwork:
    """Everything about a trained network that a posterior over some of its leaves needs.

    Attributes
    ----------
    subset : Subset
        The network at its MAP, and which of its leaves are trainable.
    likelihood : Likelihood
        Of the targets.
    num_outputs : int
        ``C``.
    head : HeadPass or None
        The last-layer pass, where the trainable leaves are a last layer.
    input_structure : jax.tree_util.PyTreeDef
        Of one batch of inputs.
    positions : tuple of int
        Of one example, each of which is a data point; () where an example is one.
    ignored_label : int or None
        Targets with this label do not count.
    example : tree of jax.ShapeDtypeStruct
        Shapes and dtypes of one example of the inputs.
    layers : FoundLayers or None
        The layers of other parameters than a last layer, where its structure goes by them.
    """

    subset: Subset
    likelihood: Likelihood
    num_outputs: int
    head: HeadPass | None
    input_structure: Any = None
    positions: tuple[int, ...] = ()
    ignored_label: int | None = None
    example: Tree = None
    layers: FoundLayers | None = None

    @property
    def trainable(self) -> Tree:
        """The trainable tree at the MAP."""
        return self.subset.trainable

    @property
    def head_kind(self) -> HeadKind | None:
        """How a last layer's curvature is assembled; None for any other parameters."""
        kind = self.likelihood.head
        if self.head is None or kind == "general":
            return None
        return "gaussian" if isinstance(self.likelihood, Gaussian) else kind

    @functools.cached_property
    def mean(self) -> Array:
        """The trainable parameters in one vector, shape ``(P,)``, float64."""
        return ravelled(self.trainable)

    def fitting_pass(self) -> Run:
        """The pass whose results a curvature adds up."""
        return self.head or self._general(self.likelihood)

    def predicting_pass(self) -> Run:
        """The pass that gives outputs with layer inputs or the Jacobian itself."""
        return self.head or self._general(None)

    def by_layers(self) -> LinearisedNetwork:
        """The same for a structure that goes by layers, which are found.

        Raises
        ------
        StructureError
            If there is a leaf that it cannot take (it is named).
        """
        if self.head is not None:
            return self
        found = self._layers(order=True)
        if isinstance(found, str):
            raise StructureError(
                f"hessian_structure='kron' cannot be used here: {found}; train other leaves, or "
                "use hessian_structure='full', 'dual' or 'diag'"
            )
        return replace(self, layers=found)

    def _layers(self, order: bool) -> FoundLayers | str:
        if self.positions:
            return (
                "the outputs have positions, of which each is a data point, and the trainable "
                "leaves are more than the last layer"
            )
        if self.example is None:
            return "the form of the inputs is not known"
        return find_layers(self.subset, self.example, order=order)

    def piece_size(self, batch_size: int, run: Run) -> int:
        """Examples of a piece of a fit, of which each device has the same share."""
        return self.subset.devices.rows(piece_size(batch_size, run.max_points))

    @property
    def points_each(self) -> int:
        """Data points of one example."""
        return math.prod(self.positions)

    def at(
        self, batches: Iterator[CheckedBatch]
    ) -> tuple[LinearisedNetwork, Iterator[CheckedBatch]]:
        """The same for batches whose examples may have other positions, and the batches again.

        A network over tokens can be asked about sequences of another length.

        Raises
        ------
        ShapeError
            If the outputs have another number of axes, or of outputs.
        """
        first = next(batches, None) if self.positions else None
        if first is None:
            return self, batches
        return self._of(first), itertools.chain([first], batches)

    def by_positions(
        self, batches: Iterator[CheckedBatch]
    ) -> Iterator[tuple[LinearisedNetwork, Iterator[CheckedBatch]]]:
        """Batches that follow one another and have the same positions, and the network for them.

        Raises
        ------
        DataError
            While iterating: if examples without positions differ in shape.
        ShapeError
            If the outputs have another number of axes, or of outputs.
        """
        if not self.positions:
            yield self, of_one_shape(batches)
            return
        known: dict[Any, LinearisedNetwork] = {}

        def network_of(batch: CheckedBatch) -> LinearisedNetwork:
            shapes = tuple(np.shape(leaf)[1:] for leaf in jax.tree.leaves(batch.inputs))
            if shapes not in known:
                known[shapes] = self._of(batch)
            return known[shapes]

        yield from itertools.groupby(batches, network_of)

    def _of(self, batch: CheckedBatch) -> LinearisedNetwork:
        shape = self.subset.output_shape(batch.inputs)
        positions = shape[1:-1]
        if positions == self.positions:
            return self
        expected = positions if len(positions) == len(self.positions) else self.positions
        check_rows(shape, batch.size, self.num_outputs, expected)
        head = None if self.head is None else replace(self.head, positions=positions)
        return replace(self, positions=positions, head=head)

    def given_inputs(self, inputs: Any) -> tuple[LinearisedNetwork, Any]:
        """`given` for inputs; of a loader of features with targets the features alone."""
        return self.given(features_alone(inputs), "inputs")

    def given(self, data: Any, argument: str) -> tuple[LinearisedNetwork, Any]:
        """The network that takes what is given, and that: of features the layer alone.

        Raises
        ------
        InvalidArgumentError
            If features are not those of this network.
        """
        origin = origin_of(data)
        if origin is None:
            return self, data
        subset = over_features(self.subset, origin, argument)
        head = None if self.head is None else replace(self.head, subset=subset)
        return replace(
            self, subset=subset, head=head, input_structure=None, example=None
        ), as_plain(data)

    def of_whole(self, network: Network, origin: Origin) -> LinearisedNetwork:
        """The network whose layer this is, with the same parameters."""
        subset = replace(self.subset, network=network)
        head = None if self.head is None else replace(self.head, subset=subset)
        form: Any = jax.ShapeDtypeStruct
        example = jax.tree.map(lambda x: form(x.shape[1:], x.dtype), origin.point)
        structure = jax.tree.structure(example)
        return replace(self, subset=subset, head=head, input_structure=structure, example=example)

    def checked(self, batch: CheckedBatch) -> CheckedBatch:
        """A batch with its targets in rows, one a position, those that count checked.

        Raises
        ------
        ShapeError, InvalidArgumentError, NonFiniteError
            If they do not fit.
        """
        return checked_rows(
            batch, self.likelihood, self.num_outputs, self.positions, self.ignored_label
        )

    def walk(self, inputs: Tree) -> Iterator[Piece]:
        """Outputs and layer inputs or Jacobians, piece by piece, in the order of the inputs.

        Raises
        ------
        DataError
            If there is no input.
        """
        return self.walk_batches(self.batches(inputs))

    def batches(self, inputs: Tree) -> Iterator[CheckedBatch]:
        """Checked batches of inputs in each of the forms that they may have."""
        return input_batches(inputs, self.input_structure)

    def walk_batches(self, batches: Iterator[CheckedBatch]) -> Iterator[Piece]:
        """`walk` over batches that are checked already; their targets come along."""
        check_not_forked("a prediction")
        first = next(batches, None)
        if first is None:
            raise DataError("inputs are empty: there is no point along axis 0 to predict for")
        return self._walk(first.size, itertools.chain([first], batches))

    def _walk(self, examples: int, batches: Iterator[CheckedBatch]) -> Iterator[Piece]:
        for here, some in self.by_positions(batches):
            run = here.predicting_pass()
            size = self.subset.devices.rows(bucket_size(examples, run.max_points))
            yield from stream(run, some, size)

    def fitting_pieces(
        self, batches: Iterator[CheckedBatch], examples: int, skip: int = 0
    ) -> Iterator[Piece]:
        """What a curvature adds up, of batches of so many examples, whose targets are checked.

        Pieces are counted through all batches, whatever their positions; the first `skip` are
        passed over.
        """
        pieces = 0
        for here, some in self.by_positions(batches):
            run = here.fitting_pass()
            size = here.piece_size(examples, run)
            rows = _Counted(map(here.checked, some), size)
            yield from stream(run, rows, size, self.likelihood, skip, pieces)
            pieces += rows.pieces

    def gaussian_outputs(
        self, factor: Factor, batches: Iterator[CheckedBatch], needs: Needs
    ) -> Iterator[GaussianOutputs]:
        """The distribution of the outputs where the parameters have this precision, piece by piece.

        `needs` says which of "variance" and "covariance" is computed. A question that comes in
        several batches counts as one about many points, however small they are.
        """
        start = 0
        ahead = list(itertools.islice(batches, 2))
        question = ahead[0].size * self.points_each if len(ahead) == 1 else _MANY
        for piece in self.walk_batches(itertools.chain(ahead, batches)):
            variance = covariance = None
            if needs == "variance":
                variance = factor.functional_variance(piece.block, question)
            else:
                covariance = factor.functional_covariance(piece.block, question)
            dtype = piece.outputs.dtype
            outputs, targets = piece.outputs, piece.targets
            del piece  # its memory goes to the next one
            yield GaussianOutputs(outputs, dtype, variance, covariance, targets, start)
            start += len(outputs)

    def weight_samples(self, trainable: Tree) -> WeightSamples:
        """Draws of the trainable tree beside the frozen parameters, for the network itself."""
        subset = self.subset
        return WeightSamples(
            subset.partition,
            trainable,
            subset.frozen,
            subset.mutable,
            positions=self.positions,
            devices=subset.devices,
        )

    def plan(
        self,
        memory_budget: int | None,
        batch_size: int,
        prior_precision: Array | None = None,
        num_batches: int | None = None,
    ) -> MemoryPlan:
        """The memory that each structure would take, with one prior for all or with this one."""
        points = None if num_batches is None else num_batches * batch_size * self.points_each
        setting = self.setting(prior_precision)
        return make_plan(
            setting.num_params,
            setting.head,
            setting.num_outputs,
            setting.num_features,
            memory_budget,
            same_prior=setting.same_prior,
            layers=self._known_layers,
            passes=self.passes(batch_size),
            num_rows=None if points is None else points * self._root_columns,
        )

    @functools.cached_property
    def _known_layers(self) -> FoundLayers | None:
        found = "a last layer" if self.head is not None else self._layers(order=False)
        return None if isinstance(found, str) else found

    def passes(self, batch_size: int) -> Passes:
        """JAX's share of the memory, where there are several batches of so many points.

        Of rows of a Jacobian there are a piece that is read and two that are on their way, with
        what they are put together from: four and a half pieces while a fit adds them up; a
        prediction waits for each, and its solves take a copy in float64. A layer takes the
        network's input, its own, and two pieces for the check of its structure, beside five arrays
        like its kernel, twice in a fit, where the next run may have begun. Where it has more
        outputs than inputs, as a head over words has, the check, the densities in float64 and two
        runs at once take 25 arrays like the outputs of a piece (measured).
        """
        run = self.predicting_pass()
        size = self.piece_size(batch_size, run) * self.points_each
        itemsize: int = wide_dtype(*jax.tree.leaves(self.trainable)).itemsize
        if isinstance(run, LayersPass):
            return self._passes_of_layers(batch_size, run, itemsize)
        if self.head is None:
            rows = size * self.mean.size * itemsize
            fitting = 9 * rows * self._root_columns // 2
            piece = rows * self.num_outputs
            wide, lingering = 8 * piece // itemsize, min(fitting, _LINGERING)
            return Passes(0, fitting, 5 * piece // 2, wide, lingering)
        layer, signs = self.mean.size * itemsize, self.head.direction.signs
        piece = size * self.head.layout.num_features * itemsize
        outputs = _OUTPUTS_AT_ONCE * size * self.num_outputs * itemsize
        fitting = 5 * piece + 10 * layer + outputs
        kept = layer + (0 if signs is None else signs.nbytes)
        wide, lingering = 8 * piece // itemsize, min(fitting, _LINGERING)
        return Passes(kept, fitting, 5 * (piece + layer) + outputs, wide, lingering)

    def _passes_of_layers(self, batch_size: int, run: LayersPass, itemsize: int) -> Passes:
        """As of rows of a Jacobian, but of a point's layer inputs and gradients."""
        fit, direction = self._general(self.likelihood), self.mean.size * itemsize
        assert isinstance(fit, LayersPass)
        rows = self.piece_size(batch_size, fit) * fit.point_numbers * itemsize
        piece = self.piece_size(batch_size, run) * run.point_numbers * itemsize
        fitting = 9 * rows // 2 + 4 * direction
        wide, lingering = 8 * piece // itemsize, min(fitting, _LINGERING)
        return Passes(direction, fitting, 5 * piece // 2 + 4 * direction, wide, lingering)

    @functools.cached_property
    def _root_columns(self) -> int:
        """Rows of a point in a fit: columns of the root of its likelihood's curvature."""
        form: Any = jax.ShapeDtypeStruct
        program: Any = _root
        outputs = form((1, self.num_outputs), jnp.zeros(()).dtype)
        return int(program.eval_shape(self.likelihood, outputs).shape[-1])

    def setting(self, prior_precision: Array | None = None) -> Setting:
        """What a structure is chosen and made for, with one prior for all or with this one."""
        size = self.mean.size
        if self.layers is not None:
            columns = min(MAX_COLUMNS, self._root_columns)
            return Setting(
                size,
                num_outputs=self.num_outputs,
                likelihood=self.likelihood,
                layers=self.layers,
                num_columns=columns,
            )
        if self.head is None:
            return Setting(size, likelihood=self.likelihood)
        layout, same_prior = self.head.layout, True
        if prior_precision is not None:
            by_output = prior_precision[layout.order()].reshape(layout.num_outputs, -1)
            same_prior = bool((by_output == by_output[0]).all())
        return Setting(
            size,
            self.head_kind,
            layout.num_outputs,
            layout.num_features,
            same_prior,
            layout,
            self.likelihood,
        )

    @functools.cached_property
    def _direction(self) -> list[jax.Array]:
        return check_direction(self.subset)

    def _general(self, likelihood: Likelihood | None) -> JacobianPass | LayersPass:
        if self.layers is not None:
            rows = self.num_outputs if likelihood is None else min(MAX_COLUMNS, self._root_columns)
            return LayersPass(self.subset, self.layers.layers, likelihood, self._direction, rows)
        return JacobianPass(
            self.subset, likelihood, self.num_outputs, self.mean.size, self.positions
        )


class _Counted:
    """Batches as they go by, and into how many pieces of a size they are cut."""

    def __init__(self, batches: Iterator[CheckedBatch], size: int) -> None:
        self.batches, self.size, self.pieces = batches, size, 0

    def __iter__(self) -> Iterator[CheckedBatch]:
        for batch in self.batches:
            self.pieces += -(-batch.size // self.size)
            yield batch


@jax.jit
def _root(likelihood: Likelihood, outputs: jax.Array) -> jax.Array:
    """A root of the curvature: the likelihood an argument, so that it is traced once for a kind."""
    return likelihood.curvature_root(outputs)
