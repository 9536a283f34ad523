"""Whether trainable leaves really are a plain last layer, to the rounding of what it computes in.

The Jacobian of such a layer is ``J_n = I (x) [a_n, 1]^T``. Its kernel part is compared along random
directions ``V``, ``J_n V = V^T a_n``, its bias part by cotangents ``u``, ``J_n^T u = u``; apart, so
that neither hides in the rounding of the other. Single numbers may be off by a few roundings, but
roundings have no common sign or size: the root of the mean square of the many numbers of an
output tells 1 % at any width, also in bfloat16.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.dtypes import wide_dtype

# Numbers of an output that its mean square is taken over, at least.
_NUMBERS = 64

# Cotangents of the bias.
_COTANGENTS = 8

# Rounding units that a root mean square may be off by. One rounding is off by 0.2 in the mean
# square and by 0.5 at most, a scale of 1.01 after a layer in bfloat16 by 1.
_MEAN_ROUNDINGS = 0.75

# Numbers of a direction that are made at once.
_MADE_AT_ONCE = 2**20

# What a single number may be off by.
_ROUNDINGS = 4.0

_FLOAT32_EPS = float(np.finfo(np.float32).eps)

# A sum of D' products in float32 (or float64) is off by about the square root of D' roundings.
_SUM = 32.0


class Directions(NamedTuple):
    """What a last layer is looked at along; None where the leaf is not trainable.

    Attributes
    ----------
    kernel : array or None
        Direction V, float32, of the kernel's shape.
    signs : ndarray or None
        Of the layer's inputs, shape ``(K, D)``: the directions are ``diag(signs_k) V``, which are
        made one by one, so that no more than one is held.
    bias : ndarray or None
        Cotangents u, float32, shape ``(8, C)``.
    """

    kernel: np.ndarray | jax.Array | None
    signs: np.ndarray | None
    bias: np.ndarray | None


def num_directions(num_points: int) -> int:
    """How many directions pieces of so many points are looked at along: few points, several."""
    return max(1, -(-_NUMBERS // num_points))


def check_directions(
    kernel_shape: tuple[int, ...] | None, num_inputs: int, bias_size: int | None, count: int
) -> Directions:
    """Random directions, always the same.

    Entries of V are ``+-(1 + k / 128)`` times a power of two: eight significant bits, so that a
    layer that computes in bfloat16 does not round the direction itself, and such that products are
    about as large as the layer's inputs. Those of u are ``+-2^j``, of which a multiple has the
    rounding of its factor alone.

    Parameters
    ----------
    kernel_shape : tuple of int or None
        Of the kernel.
    num_inputs : int
        D.
    bias_size : int or None
        C, where there is a bias.
    count : int
        Directions of the kernel, as `num_directions` says.
    """
    generator = np.random.default_rng(0)
    signs = np.asarray([-1.0, 1.0], np.float32)
    kernel = flips = bias = None
    if kernel_shape is not None:
        unit = np.float32(2.0 ** -round(math.log2(num_inputs) / 2))
        numbers = np.empty(math.prod(kernel_shape), np.float32)
        for start in range(0, len(numbers), _MADE_AT_ONCE):
            part = numbers[start : start + _MADE_AT_ONCE]
            # Eight bits of chance: seven of size and a sign.
            chance = generator.integers(0, 256, len(part), np.uint8)
            part[:] = (chance >> 1).astype(np.float32)
            part += 128
            part *= unit / 128
            part *= signs[chance & 1]
        kernel = jnp.asarray(numbers.reshape(kernel_shape))
        flips = generator.choice(signs, (count, num_inputs))
        flips[0] = 1
    if bias_size is not None:
        sizes = np.exp2(generator.integers(0, 4, (_COTANGENTS, bias_size))).astype(np.float32)
        bias = generator.choice(signs, sizes.shape) * sizes
    return Directions(kernel, flips, bias)


def kernel_error(
    features: jax.Array, pushed: jax.Array, direction: jax.Array, signs: jax.Array, eps: float
) -> jax.Array:
    """How far ``J_n V_k`` is from ``V_k^T a_n``, in multiples of what rounding may do.

    Parameters
    ----------
    features : jax.Array
        Inputs ``a_n`` of the layer, shape ``(B, D)``.
    pushed : jax.Array
        Products with the Jacobian, shape ``(B, K, C)``.
    direction, signs : jax.Array
        V, shape ``(D, C)``, and what its rows are multiplied by, shape ``(K, D)``.
    eps : float
        The coarsest rounding unit between the parameters and the outputs.
    """
    dtype = wide_dtype(features, pushed)
    features, direction = features.astype(dtype), direction.astype(dtype)
    along_each = jax.lax.map(lambda row: (features * row[None, :]) @ direction, signs.astype(dtype))
    expected = jnp.swapaxes(along_each, 0, 1)
    # What such a sum is like under random signs: it does not vanish where this one cancels.
    scale = jnp.sqrt(jnp.einsum("bd,dc->bc", features**2, direction**2))
    scale = jnp.broadcast_to(scale[:, None], expected.shape)
    return _error(pushed.astype(dtype), expected, scale, features.shape[1], eps)


def bias_error(pulled: jax.Array, cotangents: jax.Array, eps: float) -> jax.Array:
    """How far ``J_n^T u`` is from u in the bias, likewise; shapes ``(B, K, C)`` and ``(K, C)``."""
    dtype = wide_dtype(pulled)
    expected = jnp.broadcast_to(cotangents.astype(dtype)[None], pulled.shape)
    return _error(pulled.astype(dtype), expected, jnp.abs(expected), 1, eps)


def _error(
    found: jax.Array, expected: jax.Array, scale: jax.Array, terms: int, eps: float
) -> jax.Array:
    dtype = expected.dtype
    own = float(jnp.finfo(dtype).eps)  # type: ignore[no-untyped-call]
    # Half-precision products are added up in float32, as all are that are computed in it.
    summed = _SUM * math.sqrt(terms) * min(max(eps, own), max(own, _FLOAT32_EPS))
    # Below the normal numbers of float16 a rounding is of absolute size.
    least = 2.0**-24 if eps > _FLOAT32_EPS else 0.0
    missed = jnp.abs(found - expected)
    single = (_ROUNDINGS * eps + summed) * jnp.maximum(jnp.abs(expected), scale) + least
    mean = jnp.sqrt(jnp.sum(missed**2, axis=(0, 1)))
    allowed = (_MEAN_ROUNDINGS * eps + summed) * jnp.sqrt(jnp.sum(scale**2, axis=(0, 1)))
    count = math.sqrt(missed.shape[0] * missed.shape[1])
    # Nothing is missed where nothing is allowed: inputs of a layer that are all zero.
    ratios = [
        jnp.max(_ratio(missed, single)),
        jnp.max(_ratio(mean, allowed + count * least)),
    ]
    return jnp.maximum(*ratios)


def _ratio(missed: jax.Array, allowed: jax.Array) -> jax.Array:
    return jnp.where(missed == 0, 0, missed / allowed)
