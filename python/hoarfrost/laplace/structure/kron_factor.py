"""A factorised precision by layers of two Kronecker factors each, and a diagonal for the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.laplace.structure import between_points
from hoarfrost.laplace.structure.base import ROOTS, Factor
from hoarfrost.laplace.structure.roots import Roots
from hoarfrost.memory import check_room
from hoarfrost.types import Array

# How a part comes in a block: a last layer by its inputs alone; a layer by inputs and Jacobian, or
# by rows of the Jacobian where positions share it; a diagonal by rows.
Part = Literal["head", "layer", "rows", "diagonal"]


@dataclass(frozen=True, eq=False)
class KroneckerFactor(Factor):
    """Layers that do not covary, each ``weight B (x) A + T``, and a diagonal.

    Attributes
    ----------
    posterior : sequence
        The core's, one a part.
    parts : sequence of str
        What they are.
    num_outputs : int
        The network's ``C``.
    """

    posterior: Sequence[Any]
    parts: Sequence[Part] = ()
    num_outputs: int = 1

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(int(one.nbytes) for one in self.posterior)

    def quadratic(self, vector: Array) -> float:
        """``v^T A v`` for a vector ``(P,)``."""
        return self.scale * sum(float(one.quadratic(vector[own])) for one, own in self._owned())

    def log_det(self) -> float:
        """``log |A|``."""
        own = sum(float(one.log_det()) for one in self.posterior)
        return own + len(self.order) * float(np.log(self.scale))

    def variance(self) -> Array:
        """Diagonal of ``A^-1``, shape ``(P,)``."""
        variance = np.empty(len(self.order))
        for one, own in self._owned():
            variance[own] = one.variance()
        return self._shrunk(variance)

    def prior_traces(self, prior_precision: Array, groups: Array, num_groups: int) -> Array:
        """``sum_{i in g} T_i Sigma_ii``; a layer in one group by its eigenvalues alone."""
        traces = np.zeros(num_groups)
        for (one, own), part in zip(self._owned(), self.parts, strict=True):
            index = groups[own]
            if part != "diagonal" and (index == index[0]).all():
                traces[index[0]] += one.prior_trace()
            else:
                weights = prior_precision[own] * one.variance() / self.scale
                traces += np.bincount(index, weights=weights, minlength=num_groups)
        return traces

    def covariance(self) -> Array:
        """``A^-1``, shape ``(P, P)``."""
        return self._shrunk(self._dense("covariance"))

    def precision(self) -> Array:
        """``A``, shape ``(P, P)``."""
        precision = self._dense("precision")
        if self.scale != 1.0:
            precision *= self.scale
        return precision

    def deviations(self, seed: int, n_samples: int) -> Array:
        """Draws of ``N(0, A^-1)``, shape ``(n_samples, P)``, each part from its own stream."""
        seeds = np.random.SeedSequence(seed).generate_state(len(self.posterior), np.uint64)
        draws = np.empty((n_samples, len(self.order)))
        for (one, own), part_seed in zip(self._owned(), seeds, strict=True):
            draws[:, own] = one.sample(int(part_seed), n_samples)
        if self.scale != 1.0:
            draws /= np.sqrt(self.scale)
        return draws

    def functional_covariance(self, block: Array, question: int = 0) -> Array:
        """``J A^-1 J^T``, shape ``(B, C, C)``, from what `Layers.parts` says, or layer inputs."""
        total = np.zeros((len(block), self.num_outputs, self.num_outputs))
        for one, part, inputs, rows in self._blocks(block):
            if part == "head":
                total += one.covariance_at(inputs)
            elif part == "layer":
                total += one.covariance_through(inputs, rows)
            elif part == "diagonal":
                total += one.functional_covariance(rows)
            else:
                white = _whitened(one, rows)
                total += white @ white.swapaxes(1, 2)
        return self._shrunk(total)

    def functional_variance(self, block: Array, question: int = 0) -> Array:
        """Its diagonal, shape ``(B, C)``."""
        if tuple(self.parts) == ("head",):
            return self._shrunk(self.posterior[0].variance_at(block))
        covariance = self.functional_covariance(block)
        return np.einsum("bcc->bc", covariance).copy()

    def joint_covariance(self, block: Array) -> Array:
        """``J A^-1 J^T`` over all points together, shape ``(B, C, B, C)``."""
        count, outputs = len(block), self.num_outputs
        total = np.zeros((count, outputs, count, outputs))
        for one, part, inputs, rows in self._blocks(block):
            if part == "diagonal":
                total += between_points.from_diagonal(one.variance(), rows)
            elif part == "rows":
                white = _whitened(one, rows).reshape(count * outputs, -1)
                total += (white @ white.T).reshape(total.shape)
            else:
                _add_pairs(total, one, inputs, rows if part == "layer" else None)
        return self._shrunk(total)

    def joint_bytes(self, points: int, num_outputs: int) -> int:
        """Bytes of a joint covariance of so many points, with what it is made from."""
        edge, most = points * num_outputs, 0
        for one, part in zip(self.posterior, self.parts, strict=True):
            size = one.num_params
            turned = edge * one.num_outputs if part in ("head", "layer") else 2 * edge * size
            most = max(most, 8 * (turned + size))
        return 3 * 8 * edge**2 + 2 * most

    def roots(self, covariance: bool) -> Roots:
        """Rotations of every layer, and standard deviations along them."""
        room = sum(16 * one.num_params + 2 * int(one.nbytes) for one in self.posterior)
        check_room("the rotations of the layers", room, ROOTS)
        if tuple(self.parts) == ("head",):
            outputs, inputs, precision = self.posterior[0].rotations()
            std = 1 / np.sqrt(precision * self.scale)
            return Roots({"inputs": inputs, "outputs": outputs, "std": std}, of_last_layer)
        arrays: dict[str, Array] = {}
        for place, ((one, own), part) in enumerate(zip(self._owned(), self.parts, strict=True)):
            if part == "diagonal":
                arrays[f"{place}.std"] = np.sqrt(one.variance() / self.scale)
            else:
                outputs, inputs, precision = one.rotations()
                arrays[f"{place}.inputs"], arrays[f"{place}.outputs"] = inputs, outputs
                arrays[f"{place}.std"] = 1 / np.sqrt(precision * self.scale)
            arrays[f"{place}.where"] = own
        return Roots(arrays, of_layers)

    def _owned(self) -> Iterator[tuple[Any, Array]]:
        """Each part with the ravelled indices of its parameters."""
        start = 0
        for one in self.posterior:
            stop = start + one.num_params
            yield one, self.order[start:stop]
            start = stop

    def _blocks(self, block: Array) -> Iterator[tuple[Any, Part, Array, Array]]:
        """Each part with its inputs ``(B, D')`` and its rows ``(B, C, ...)`` of a block."""
        start, count, outputs = 0, len(block), self.num_outputs
        for one, part in zip(self.posterior, self.parts, strict=True):
            width = one.num_inputs if part in ("head", "layer") else 0
            each = one.num_outputs if part == "layer" else one.num_params
            size = 0 if part == "head" else outputs * each
            inputs = np.ascontiguousarray(block[:, start : start + width])
            rows = np.ascontiguousarray(block[:, start + width : start + width + size])
            start += width + size
            yield one, part, inputs, rows.reshape(count, -1 if size == 0 else outputs, each)

    def _dense(self, kind: Literal["covariance", "precision"]) -> Array:
        matrix = np.zeros((len(self.order), len(self.order)))
        for (one, own), part in zip(self._owned(), self.parts, strict=True):
            if part == "diagonal":
                variance = one.variance()
                matrix[own, own] = variance if kind == "covariance" else 1 / variance
            else:
                block = getattr(one, kind)(np.arange(len(own), dtype=np.int64))
                matrix[np.ix_(own, own)] = block
        return matrix


def _whitened(posterior: Any, rows: Array) -> Array:
    """Rows ``(B, C, P)`` such that products of two of them are covariances."""
    white: Array = posterior.whitened(rows.reshape(-1, rows.shape[-1])).reshape(rows.shape)
    return white


def _add_pairs(total: Array, posterior: Any, inputs: Array, jacobian: Array | None) -> None:
    """Add a layer's share of the covariance between all points; a last layer has no Jacobian."""
    count, outputs = total.shape[:2]
    turned = posterior.rotations()[0].T
    turned = turned[None] if jacobian is None else jacobian.astype(np.float64) @ turned
    for point in range(count):
        first = np.repeat(inputs[point : point + 1], count, axis=0)
        weights = posterior.weights(first, inputs)
        own = turned[0 if jacobian is None else point]
        others = (turned * weights[:, None, :]).reshape(count * outputs, -1)
        total[point] += (own @ others.T).reshape(outputs, count, outputs)


def of_last_layer(
    arrays: Mapping[str, jax.Array], features: jax.Array, covariance: bool
) -> jax.Array:
    """From layer inputs ``(B, D')``, rotations of both sides, and deviations ``(C, D')``."""
    turned = jnp.einsum("bi,qi->bq", features, arrays["inputs"])
    weights = jnp.einsum("bq,jq->bj", turned**2, arrays["std"] ** 2)
    outputs = arrays["outputs"]
    if covariance:
        return jnp.einsum("bj,jc,jd->bcd", weights, outputs, outputs)
    return jnp.einsum("bj,jc->bc", weights, outputs**2)


def of_layers(arrays: Mapping[str, jax.Array], rows: jax.Array, covariance: bool) -> jax.Array:
    """From Jacobians ``(B, C, P)``, and of each part where it is and how it is turned."""
    count, outputs, _ = rows.shape
    shape = (count, outputs, outputs) if covariance else (count, outputs)
    total = jnp.zeros(shape, rows.dtype)
    for place in sorted({name.split(".")[0] for name in arrays}):
        own = rows[:, :, arrays[f"{place}.where"]]
        std = arrays[f"{place}.std"]
        if f"{place}.inputs" in arrays:
            own = own.reshape(count, outputs, *std.shape)
            sides = arrays[f"{place}.outputs"], arrays[f"{place}.inputs"]
            own = jnp.einsum("bcoi,jo,ki->bcjk", own, *sides) * std
            own = own.reshape(count, outputs, -1)
        else:
            own = own * std
        squares = "bcq,bdq->bcd" if covariance else "bcq,bcq->bc"
        total = total + jnp.einsum(squares, own, own)
    return total
