"""How much each method of the comparison does."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import optax

MEMBERS = 10
RANK = 10
FEATURES = 256


@dataclass(frozen=True)
class Chain:
    """Of the samplers: steps before the first sample and between two, samples and chains."""

    burnin: int
    thinning: int
    samples: int
    chains: int


@functools.cache
def adam() -> optax.GradientTransformation:
    """One optimiser, so that its steps are compiled once."""
    return optax.adam(3e-3)


@functools.cache
def constant_sgd(rate: float) -> optax.GradientTransformation:
    """Of SWAG: plain gradients at a constant rate."""
    return optax.sgd(rate)


def chain(quick: bool) -> Chain:
    """What the samplers do."""
    return Chain(50, 5, 10, 2) if quick else Chain(2000, 50, 50, 4)
