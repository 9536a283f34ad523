"""What a method is given: a trained network, its data, and how far its steps may go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flax import linen as nn

from hoarfrost.data import DataLoader
from hoarfrost.types import Tree


@dataclass(frozen=True, eq=False)
class Problem:
    """One network and its data.

    Attributes
    ----------
    network : nn.Module
        What is made Bayesian.
    params : Tree
        Its MAP, from which every method starts that starts from one.
    body : nn.Module
        The network without its head.
    body_params : Tree
        Its part of `params`.
    outputs : int
        C.
    likelihood : str or Likelihood
        Of the targets.
    train : DataLoader
        What every method sees.
    epochs : int
        Of every training.
    step : float
        Squared step of the samplers, stable at the curvature of this problem.
    rate : float
        Of SWAG's plain gradients.
    """

    network: nn.Module
    params: Tree
    body: nn.Module
    body_params: Tree
    outputs: int
    likelihood: Any
    train: DataLoader
    epochs: int
    step: float
    rate: float

    @property
    def classifies(self) -> bool:
        """Whether targets are classes."""
        return isinstance(self.likelihood, str)
