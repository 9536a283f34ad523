"""Kronecker factors of each layer: ``(1/N sum_n B_n) (x) (sum_n a_n a_n^T)``, bias inside ``a``.

``B_n = G_n^T Lambda_n G_n`` with the layer's Jacobian ``G_n``, exact for the likelihood while its
root has `MAX_COLUMNS` columns. Leaves that are no kernel or bias of a layer keep the diagonal of
their curvature. A last layer under Gaussian noise is one Kronecker product already.

Martens and Grosse (2015), Optimizing neural networks with Kronecker-factored approximate curvature;
Ritter, Botev and Barber (2018), A scalable Laplace approximation for neural networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from hoarfrost import _core
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.laplace.structure.base import Cores, Factor, Progress, Scale, common_scale, errors_at
from hoarfrost.laplace.structure.cost import TUNING, VECTORS, Cost, Setting
from hoarfrost.laplace.structure.gaussian_head import GaussianHeadCurvature
from hoarfrost.laplace.structure.kron_factor import KroneckerFactor, Part
from hoarfrost.likelihood import Likelihood
from hoarfrost.types import Array

# Where the factor of a layer's outputs comes from.
Outputs = Literal["softmax", "diagonal", "rows"]

_EPS, _BITS = float(np.finfo(np.float64).eps), 46


class KroneckerGaussianHead(GaussianHeadCurvature):
    """A last layer under Gaussian noise, whose curvature is a Kronecker product as it is."""

    structure: ClassVar[str] = "kron"


@dataclass(frozen=True)
class LayerShape:
    """What a layer's factors are made from.

    Attributes
    ----------
    num_outputs, num_inputs : int
        ``O`` and ``D'``.
    part : str
        How it comes in a prediction.
    outputs : str
        How its outputs' curvature is added up.
    """

    num_outputs: int
    num_inputs: int
    part: Part
    outputs: Outputs

    @property
    def num_params(self) -> int:
        """``O D'``."""
        return self.num_outputs * self.num_inputs

    def empty(self) -> tuple[Any, Any]:
        """Sums of inputs and outputs without points."""
        inputs = _core.HeadCurvature("independent", 1, self.num_inputs)
        if self.outputs == "diagonal":
            return inputs, _core.DiagonalCurvature(self.num_outputs)
        return inputs, _core.HeadCurvature("independent", 1, self.num_outputs)


def shapes_of(setting: Setting) -> tuple[LayerShape, ...]:
    """The layers of a setting."""
    if setting.head is not None:
        kind: Outputs = "softmax" if setting.head == "softmax" else "diagonal"
        return (LayerShape(setting.num_outputs, setting.num_features, "head", kind),)
    assert setting.layers is not None
    return tuple(
        LayerShape(one.num_outputs, one.width, "rows" if one.shared else "layer", "rows")
        for one in setting.layers.layers.layers
    )


@dataclass(eq=False)
class KroneckerCurvature:
    """Sums of the products of inputs and of outputs of every layer, and a diagonal.

    The last eigendecompositions are kept for priors that are a multiple of their own.
    """

    setting: Setting
    shapes: tuple[LayerShape, ...]
    sums: Cores
    order: Array
    bases: dict[int, tuple[Array, Any]] = field(default_factory=dict)

    structure: ClassVar[str] = "kron"
    resumable: ClassVar[bool] = False

    @staticmethod
    def suits(setting: Setting) -> bool:
        """For a last layer, or leaves whose layers were found."""
        return setting.head in ("softmax", "independent") or setting.layers is not None

    @staticmethod
    def cost(setting: Setting) -> Cost:
        """Two matrices a layer, and vectors."""
        curvature = factor = between = panel = 0
        shapes = shapes_of(setting)
        for shape in shapes:
            for edge in (shape.num_inputs, shape.num_outputs):
                own = _core.head_bytes("independent", 1, edge)
                curvature, panel = curvature + own[0], panel + own[2]
            kept, while_made = _core.layer_bytes(shape.num_outputs, shape.num_inputs)
            factor, between = factor + kept, max(between, while_made)
        size = 8 * setting.num_params
        rest = size - 8 * sum(shape.num_params for shape in shapes)
        return Cost(
            curvature + rest,
            factor + rest,
            panel,
            cache=size,
            between=between,
            vectors=VECTORS * size,
            making=3 * size,
            tuning=TUNING * size,
        )

    @classmethod
    def empty(cls, setting: Setting) -> KroneckerCurvature:
        """No points yet."""
        shapes = shapes_of(setting)
        sums = [one for shape in shapes for one in shape.empty()]
        rest = setting.num_params - sum(shape.num_params for shape in shapes)
        if rest:
            sums.append(_core.DiagonalCurvature(rest))
        return cls.of_core(setting, Cores(tuple(sums)))

    @classmethod
    def of_core(cls, setting: Setting, core: Any) -> KroneckerCurvature:
        """With sums of the core's."""
        return cls(setting, shapes_of(setting), core, setting.order())

    @property
    def core(self) -> Any:
        """The core's sums."""
        return self.sums

    @property
    def likelihood(self) -> Likelihood:
        """Of the targets."""
        return self.setting.require_likelihood()

    def add(self, outputs: Array, block: Array) -> None:
        """Add points by their layer inputs, or by what `Layers.parts` says of a fit."""
        ones = np.ones((len(block), 1))
        if self.setting.layers is None:
            (_, inputs, sums), *_ = self._layers()
            inputs.add(block, ones)
            if self.likelihood.head == "softmax":
                sums.add(_probabilities(outputs), ones)
            else:
                sums.add_head(ones, self.likelihood.head_weights(outputs.astype(np.float64)))
        else:
            self._add_layers(block, ones)
        self.bases.clear()

    def _add_layers(self, block: Array, ones: Array) -> None:
        layers = self.setting.layers
        assert layers is not None
        found = layers.layers.parts(block, self.setting.num_columns, fitting=True)
        for (shape, inputs, sums), (own, gradients) in zip(self._layers(), found, strict=False):
            inputs.add(np.ascontiguousarray(own), ones)
            rows = np.ascontiguousarray(gradients).reshape(-1, shape.num_outputs)
            sums.add(rows, np.ones((len(rows), 1)))
        if self._has_rest:
            *_, (_, rows) = layers.layers.parts(block, self.setting.num_columns, fitting=True)
            self.sums.parts[-1].add_rows(np.ascontiguousarray(rows))

    def merge(self, other: KroneckerCurvature, weight: Scale = 1.0) -> None:
        """Add the points of another curvature of the same layers, whose ``B_n`` are weighted."""
        number = common_scale(weight)
        for (_, inputs, sums), (_, their_inputs, theirs) in zip(
            self._layers(), other._layers(), strict=True
        ):
            inputs.merge(their_inputs)
            sums.merge(theirs, number)
        if self._has_rest:
            self.sums.parts[-1].merge(other.sums.parts[-1], number)
        self.bases.clear()

    def factor(
        self,
        prior_precision: Array,
        *,
        scale: Scale = 1.0,
        keep: bool = True,
        progress: Progress = None,
    ) -> Factor:
        """Factor ``scale H + T``; the sums stay as they are.

        Raises
        ------
        InvalidArgumentError
            If the prior of a layer is no product of one number an output and one an input.
        """
        scale = common_scale(scale)
        posteriors, parts, start = list[Any](), list[Part](), 0
        for place, (shape, inputs, _) in enumerate(self._layers()):
            prior = self._prior_of(shape, start, prior_precision)
            start += shape.num_params
            with errors_at(scale):
                basis = self._basis(place, *_sides(prior))
                own = basis.posterior(1 / inputs.num_data, float(prior[0, 0]) / scale)
            posteriors.append(own)
            parts.append(shape.part)
        if self._has_rest:
            rest = prior_precision[self.order[start:]] / scale
            posteriors.append(self.sums.parts[-1].factor(rest))
            parts.append("diagonal")
        return KroneckerFactor(posteriors, self.order, scale, parts, self.setting.num_outputs)

    def check_prior(self, prior_precision: Array) -> None:
        """Raise `InvalidArgumentError` as `factor` does, before anything is computed."""
        start = 0
        for shape in self.shapes:
            _sides(self._prior_of(shape, start, prior_precision))
            start += shape.num_params

    def flops(self, prior_precision: Array) -> float:
        """None that can be counted: an eigendecomposition can not say how far it is."""
        return 0.0

    @property
    def _has_rest(self) -> bool:
        return len(self.sums.parts) > 2 * len(self.shapes)

    def _layers(self) -> Iterator[tuple[LayerShape, Any, Any]]:
        for place, shape in enumerate(self.shapes):
            yield shape, self.sums.parts[2 * place], self.sums.parts[2 * place + 1]

    def _prior_of(self, shape: LayerShape, start: int, prior_precision: Array) -> Array:
        """The prior ``(O, D')`` of the layer that begins at this place of the order."""
        own = self.order[start : start + shape.num_params]
        return prior_precision[own].reshape(shape.num_outputs, -1)

    def _basis(self, place: int, input_prior: Array, output_prior: Array) -> Any:
        sides = np.concatenate([input_prior, output_prior])
        if place in self.bases:
            known, basis = self.bases[place]
            if np.array_equal(known, sides):
                return basis
        shape, inputs, sums = list(self._layers())[place]
        self.bases.pop(place, None)  # there is no room for two
        softmax = shape.outputs == "softmax"
        basis = _core.LayerBasis(inputs, sums, input_prior, output_prior, softmax)
        self.bases[place] = (sides, basis)
        return basis


def _sides(prior: Array) -> tuple[Array, Array]:
    """A prior ``(O, D')`` by inputs and by outputs, both relative to its first number.

    Raises
    ------
    InvalidArgumentError
        If it is no product of the two.
    """
    first = prior[0, 0]
    if (prior == first).all():
        return np.ones(prior.shape[1]), np.ones(prior.shape[0])
    inputs, outputs = prior[0] / first, prior[:, 0] / first
    if (np.abs(prior - first * np.outer(outputs, inputs)) > 8 * _EPS * prior).any():
        raise InvalidArgumentError(
            "prior_precision has another number for each parameter of a layer, which its "
            "Kronecker factors cannot take; give one number a leaf (structure='scalar', "
            "'layerwise' or 'weights_biases' of a search), or fit with hessian_structure='full', "
            "'dual' or 'diag'"
        )
    return _rounded(inputs), _rounded(outputs)


def _rounded(ratios: Array) -> Array:
    """To 46 bits, so that a multiple of a prior has the ratios of the prior itself.

    Only then are the bits of a factor the same whichever multiple was asked about before.
    """
    mantissa, exponent = np.frexp(ratios)
    return np.ldexp(np.round(np.ldexp(mantissa, _BITS)), exponent - _BITS)


def _probabilities(outputs: Array) -> Array:
    """Of a softmax, in float64."""
    shifted = outputs.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=1, keepdims=True)
    return shifted
