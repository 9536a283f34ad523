"""Layers whose largest singular value is bounded, by power iteration.

Miyato et al. (2018), Spectral normalization for generative adversarial networks; for convolutions
Farnia et al. (2019), Generalizable adversarial training via spectral normalization.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hoarfrost.checks import check_counts, check_number
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.model.arguments import ModuleDef

# Before the first step of training the estimate is made from a random direction.
_INITIAL_ITERATIONS = 20
_TINY = 1e-24

Operator = Callable[[jax.Array], jax.Array]


class SpectralNormalization(nn.Module):  # type: ignore[misc]
    """A layer with its kernel W divided by ``max(|W v| / norm_multiplier, 1)``.

    v is an estimate of the first right singular vector, so that ``|W v|`` is one of the largest
    singular value, never above it. W counts as the matrix from all its axes but the last to the
    last. The parameters are those of the layer, under the same names; v is in the collection
    "spectral_stats", made when the parameters are and moved by training. Derivatives are those of
    the normalised layer with v held.

    Parameters
    ----------
    layer : callable
        Makes the layer: a class such as `flax.linen.Dense` with its arguments bound. The layer has
        a parameter "kernel".
    iteration : int
        Power iterations in each call that updates v.
    norm_multiplier : float
        The bound c of the singular values.
    update_singular_value_estimate : bool
        Whether calls move v, as in training.

    Raises
    ------
    InvalidArgumentError
        If `iteration` or `norm_multiplier` is not positive, or the layer has no kernel.
    """

    layer: Callable[..., Any]
    iteration: int = 1
    norm_multiplier: float = 0.95
    update_singular_value_estimate: bool = False

    def __post_init__(self) -> None:
        check_counts(iteration=self.iteration)
        check_number("norm_multiplier", self.norm_multiplier, positive=True)
        super().__post_init__()

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """What the normalised layer gives for `inputs`."""
        # Without a parent it is no submodule: its parameters are this module's own.
        layer = self.layer(parent=None)
        drawn = jax.eval_shape(lambda: layer.init(jax.random.PRNGKey(0), inputs))["params"]
        if "kernel" not in drawn:
            raise InvalidArgumentError(
                f"{type(layer).__name__} has the parameters {sorted(drawn)}; only a layer with a "
                "kernel has a spectral norm"
            )
        params = {
            name: self.param(name, lambda key, name=name: layer.init(key, inputs)["params"][name])
            for name in drawn
        }
        kernel = params["kernel"]
        held = jax.lax.stop_gradient(kernel)

        def drawn_vector() -> jax.Array:
            shape = self._domain(kernel, inputs)
            v = jax.random.normal(self.make_rng("params"), shape, jnp.float32)
            return _iterated(self._operator(layer, held), v, _INITIAL_ITERATIONS)

        vector = self.variable("spectral_stats", "v", drawn_vector)
        v = vector.value
        if self.update_singular_value_estimate and not self.is_initializing():
            v = vector.value = _iterated(self._operator(layer, held), v, self.iteration)
        image = self._operator(layer, kernel)(v)
        norm = jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(image)), _TINY))
        scale = jnp.maximum(norm / self.norm_multiplier, 1).astype(kernel.dtype)
        return layer.apply({"params": {**params, "kernel": kernel / scale}}, inputs)

    def _domain(self, kernel: jax.Array, inputs: jax.Array) -> tuple[int, ...]:
        """The shape of v."""
        return (kernel.size // kernel.shape[-1],)

    def _operator(self, layer: Any, kernel: jax.Array) -> Operator:
        """The linear map v -> W v, in float32."""
        matrix = kernel.reshape(-1, kernel.shape[-1]).astype(jnp.float32)
        return lambda v: v @ matrix


class SpectralNormalizationConv2D(SpectralNormalization):
    """`SpectralNormalization` of a convolution as the linear map of images that it is.

    The map has the layer's strides, padding and image size; v is an image.
    """

    def _domain(self, kernel: jax.Array, inputs: jax.Array) -> tuple[int, ...]:
        return tuple(inputs.shape[1:])

    def _operator(self, layer: Any, kernel: jax.Array) -> Operator:
        linear = layer.clone(use_bias=False, dtype=jnp.float32)
        return lambda v: linear.apply({"params": {"kernel": kernel}}, v[None])[0]


@dataclass
class WithSpectralNorm:
    """Mixed into a feature extractor of `hoarfrost.model`: its layers are normalised.

    ``class Features(WithSpectralNorm, MLPDeepFeatureExtractorSubNet): pass``.

    Parameters
    ----------
    spectral_norm_iteration : int
        Power iterations in each step of training.
    spectral_norm_bound : float
        The bound of the layers' singular values.
    """

    spectral_norm_iteration: int = 1
    spectral_norm_bound: float = 0.95

    def spectral_norm(self, layer: ModuleDef, train: bool = False) -> ModuleDef:
        """The class `layer` as a function that makes normalised layers; they learn if `train`."""
        return partial(self._made, SpectralNormalization, layer, train)

    def _made(
        self,
        wrapper: type[SpectralNormalization],
        layer: ModuleDef,
        train: bool,
        *args: Any,
        name: str | None = None,
        **kwargs: Any,
    ) -> SpectralNormalization:
        return wrapper(
            layer=partial(layer, *args, **kwargs),
            iteration=self.spectral_norm_iteration,
            norm_multiplier=self.spectral_norm_bound,
            update_singular_value_estimate=train,
            name=name,
        )


@dataclass
class WithSpectralConv2DNorm(WithSpectralNorm):
    """`WithSpectralNorm` for convolutional feature extractors."""

    def spectral_norm(self, layer: ModuleDef, train: bool = False) -> ModuleDef:
        """The class `layer` as a function that makes normalised layers; they learn if `train`."""
        return partial(self._made, SpectralNormalizationConv2D, layer, train)


def normalised(module: Any, layer: ModuleDef, train: bool) -> ModuleDef:
    """What makes the layers of `module`: the class itself, or as its `spectral_norm` says."""
    norm = getattr(module, "spectral_norm", None)
    return layer if norm is None else norm(layer, train=train)


def _iterated(operator: Operator, v: jax.Array, iterations: int) -> jax.Array:
    """`v` after power iterations with W^T W, of length 1."""

    def step(v: jax.Array, _: None) -> tuple[jax.Array, None]:
        image, transpose = jax.vjp(operator, v)
        return _unit(transpose(image)[0]), None

    return jax.lax.scan(step, _unit(v), None, length=iterations)[0]


def _unit(v: jax.Array) -> jax.Array:
    return v * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(v)), _TINY))
