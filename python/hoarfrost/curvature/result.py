"""What one JAX pass over a piece of a batch gives back, and the checks that travel with it."""

from __future__ import annotations

from typing import NamedTuple

import jax


class PassResult(NamedTuple):
    """Arrays of one pass over ``B`` points; on the device until somebody reads them.

    Attributes
    ----------
    outputs : jax.Array
        Outputs of the network, shape ``(B, C)``.
    block : jax.Array
        What the core is fed with: layer inputs ``(B, D')``, or Jacobian rows ``(B, R, P)``.
    inputs_finite, outputs_finite, block_finite : jax.Array
        Booleans, shape ``()``.
    structure_error : jax.Array
        How far the points are from the structure that the pass takes for given, as a multiple of
        what rounding may do, shape ``()``. The checks run in the same program as the pass, so that
        they cost no pass of their own and no transfer.
    """

    outputs: jax.Array
    block: jax.Array
    inputs_finite: jax.Array
    outputs_finite: jax.Array
    block_finite: jax.Array
    structure_error: jax.Array
