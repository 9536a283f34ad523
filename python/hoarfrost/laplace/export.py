"""A posterior's predictions as arrays and one pure JAX function, for where it is served."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import is_choice, shown
from hoarfrost.curvature import HeadLayout
from hoarfrost.curvature.head import layer_inputs
from hoarfrost.curvature.jacobian import rows_at
from hoarfrost.dtypes import in_float64
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.freezing import Partition
from hoarfrost.laplace.linearised import LinearisedNetwork
from hoarfrost.laplace.structure.base import Factor
from hoarfrost.laplace.structure.roots import Apply
from hoarfrost.likelihood import Classification, Likelihood, Regression
from hoarfrost.memory import format_bytes
from hoarfrost.network import Network
from hoarfrost.types import Array, Tree

Form = Literal["probit", "samples", "covariance"]

_DTYPES = ("float32", "float64", "bfloat16", "float16")


@dataclass(frozen=True, eq=False, repr=False)
class ServedPredictive:
    """A pure function ``(arrays, params, inputs)``, to be jitted, sharded or exported.

    Attributes
    ----------
    form : {"probit", "samples", "covariance"}
        What it gives, as `Laplace.to_jax` says.
    nbytes : int
        Of the arrays.
    largest_difference : float or None
        From the float64 answer, on the inputs that `to_jax` was given: of probabilities, or
        relative to the largest number of each output. None without inputs.
    """

    form: Form
    nbytes: int
    network: Network
    partition: Partition
    layout: HeadLayout | None
    likelihood: Likelihood
    apply: Apply | None
    largest_difference: float | None = None

    def __repr__(self) -> str:
        said = f"ServedPredictive({self.form!r}, {format_bytes(self.nbytes)} of arrays"
        if self.largest_difference is None:
            return f"{said})"
        return f"{said}, at most {self.largest_difference:.1e} from the float64 answer)"

    def __call__(self, arrays: Tree, params: Tree, inputs: Tree) -> Any:
        """The predictive distribution at inputs, axis 0 over the B points.

        Of outputs with positions each is a point, and what is given has their axes.
        """
        params, mutable = self.network.split(params)
        shape: tuple[Any, ...] = jax.eval_shape(
            self.network.evaluate, params, mutable, inputs
        ).shape
        found = self._at_rows(arrays, params, mutable, inputs, shape[1:-1])
        if len(shape) == 2:
            return found
        return jax.tree.map(lambda rows: rows.reshape(*shape[:-1], *rows.shape[1:]), found)

    def _at_rows(
        self, arrays: Tree, params: Tree, mutable: Tree, inputs: Tree, positions: tuple[int, ...]
    ) -> Any:
        """The same with one axis for all points."""
        with jax.default_matmul_precision("highest"):
            if self.form == "samples":
                return self._mixture(self._sampled(arrays, params, mutable, inputs, positions))
            outputs, block = self._linearised(params, mutable, inputs, positions)
            dtype = jax.tree.leaves(arrays)[0].dtype
            assert self.apply is not None
            found = self.apply(arrays, block.astype(dtype), self.form == "covariance")
            if self.form == "covariance":
                return outputs, found
            assert isinstance(self.likelihood, Classification)
            shrunk = outputs.astype(found.dtype) / jnp.sqrt(1 + np.pi / 8 * found)
            return self.likelihood.mean(shrunk)

    def _linearised(
        self, params: Tree, mutable: Tree, inputs: Tree, positions: tuple[int, ...]
    ) -> tuple[jax.Array, jax.Array]:
        """Outputs, and layer inputs ``(B, D')`` or Jacobians ``(B, C, P)``."""
        if self.layout is not None:
            return layer_inputs(
                self.network, self.partition, self.layout, params, mutable, inputs, positions
            )
        point = rows_at(self.network, self.partition, None, params, mutable, positions)
        # An example at a time: the Jacobians of a whole batch would not fit.
        outputs, rows = jax.lax.map(point, inputs)
        count = outputs.shape[0] * outputs.shape[1]
        return outputs.reshape(count, outputs.shape[2]), rows.reshape(count, *rows.shape[2:])

    def _sampled(
        self, arrays: Tree, params: Tree, mutable: Tree, inputs: Tree, positions: tuple[int, ...]
    ) -> jax.Array:
        """Outputs of the linearised network under every draw, ``(S, B, C)``."""
        if self.layout is not None:
            outputs, features = layer_inputs(
                self.network, self.partition, self.layout, params, mutable, inputs, positions
            )
            moved = jnp.einsum("bi,sci->sbc", features.astype(arrays.dtype), arrays)
            return outputs.astype(moved.dtype) + moved
        trainable, frozen = self.partition.split(params)

        def outputs_of(tree: Tree) -> jax.Array:
            merged = self.partition.merge(tree, frozen)
            outputs = self.network.evaluate(merged, mutable, inputs)
            if not positions:
                return outputs
            return outputs.reshape(outputs.shape[0] * math.prod(positions), outputs.shape[-1])

        outputs, push = jax.linearize(outputs_of, trainable)

        def moved_by(draw: Tree) -> jax.Array:
            change = jax.tree.map(lambda d, leaf: d.astype(leaf.dtype), draw, trainable)
            moved: jax.Array = push(change)
            return moved

        dtype = jax.tree.leaves(arrays)[0].dtype
        return outputs.astype(dtype) + jax.vmap(moved_by)(arrays).astype(dtype)

    def _mixture(self, outputs: jax.Array) -> Any:
        mean = jax.vmap(self.likelihood.mean)(outputs)
        if isinstance(self.likelihood, Classification) or not isinstance(
            self.likelihood, Regression
        ):
            return mean.mean(axis=0)
        noise = jax.vmap(self.likelihood.variance)(outputs)
        return mean.mean(axis=0), mean.var(axis=0), noise.mean(axis=0)


def to_jax(
    linearised: LinearisedNetwork,
    factor: Factor,
    form: Form,
    dtype: str,
    deviations: Callable[[], Array],
    params: Tree,
    inputs: Tree,
) -> tuple[Tree, ServedPredictive]:
    """Arrays and function of a posterior; `deviations` draws the samples where they are wanted.

    With `inputs` that are not None, the largest difference at `params` and these is measured.

    Raises
    ------
    InvalidArgumentError
        If the form is none of these or not for this likelihood, or the dtype is no floating one or
        would be rounded by JAX.
    MemoryLimitError
        If a covariance and its root do not fit.
    """
    likelihood = linearised.likelihood
    kind = _dtype(dtype)
    if not is_choice(form, ("probit", "samples", "covariance")):
        raise InvalidArgumentError(
            f"form is {shown(form)}; give 'probit', 'samples' or 'covariance'"
        )
    if form == "probit" and not isinstance(likelihood, Classification):
        raise InvalidArgumentError(
            f"form is 'probit', which is for classes, and the likelihood is {likelihood.name!r}; "
            "give 'samples' for moments of the targets, or 'covariance' for those of the outputs"
        )
    head = linearised.head
    apply = None
    if form == "samples":
        made: Any = _draws(linearised, deviations())
    else:
        roots = factor.roots(form == "covariance")
        made, apply = dict(roots.arrays), roots.apply
    arrays = jax.tree.map(lambda leaf: _as_dtype(leaf, kind), made)
    subset = linearised.subset
    nbytes = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))
    layout = None if head is None else head.layout
    network, partition = subset.network, subset.partition
    served = ServedPredictive(form, nbytes, network, partition, layout, likelihood, apply)
    if inputs is not None:
        batches = (batch.inputs for batch in linearised.batches(inputs))
        largest = _largest_difference(served, arrays, made, params, batches)
        served = dataclasses.replace(served, largest_difference=largest)
    return arrays, served


def _largest_difference(
    served: ServedPredictive, arrays: Tree, exact: Tree, params: Tree, batches: Iterator[Tree]
) -> float:
    """Between what is served and the same in float64 from the outputs and layer inputs on."""
    probabilities = isinstance(served.likelihood, Classification) and served.form != "covariance"
    largest = 0.0
    run = jax.jit(served)
    for inputs in batches:
        found = run(arrays, params, inputs)
        with in_float64():
            truth = run(jax.tree.map(jnp.asarray, exact), params, inputs)
        for ours, known in zip(jax.tree.leaves(found), jax.tree.leaves(truth), strict=True):
            known = np.asarray(known, np.float64)
            scale = 1.0 if probabilities else max(float(np.abs(known).max(initial=0)), 1e-300)
            difference = np.abs(np.asarray(ours, np.float64) - known)
            largest = max(largest, float(difference.max(initial=0)) / scale)
    return largest


def _draws(linearised: LinearisedNetwork, draws: Array) -> Any:
    """Deviations from the mean, ``(S, C, D')`` for a layer, else a tree like the trainable one."""
    if linearised.head is not None:
        layout = linearised.head.layout
        return draws[:, layout.order()].reshape(len(draws), layout.num_outputs, -1)
    return linearised.subset.shaped(draws)


def _dtype(dtype: str) -> Any:
    name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", repr(dtype))
    if name not in _DTYPES:
        raise InvalidArgumentError(f"dtype is {shown(dtype)}; give one of {', '.join(_DTYPES)}")
    if name == "float64" and jax.dtypes.canonicalize_dtype(np.float64) != np.float64:
        raise InvalidArgumentError(
            "dtype is 'float64', which JAX rounds to float32 as it is set; give 'float32', or "
            "jax.config.update('jax_enable_x64', True) first"
        )
    return jnp.dtype(name)


def _as_dtype(leaf: Array, dtype: Any) -> jax.Array:
    return jnp.asarray(leaf, dtype if np.issubdtype(leaf.dtype, np.floating) else None)
