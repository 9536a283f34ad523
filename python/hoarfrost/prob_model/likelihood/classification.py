"""The likelihood of a classifier's targets at given parameters."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import jax
import jax.numpy as jnp

from hoarfrost.calibration import CalibrationStatistics
from hoarfrost.predictive import classes
from hoarfrost.prob_model.likelihood.base import ModelLikelihood


@dataclass(frozen=True)
class ClassificationLikelihood(ModelLikelihood):
    """What a classifier says at one point of its parameters.

    As `ModelLikelihood` describes it: outputs are logits, and C and D are the number of classes.
    `distribute` is accepted for code written for Fortuna: one device does the work either way.
    """

    mixture: ClassVar[ModuleType] = classes
    calibration_statistics: ClassVar[CalibrationStatistics] = CalibrationStatistics(
        classes.log_prob, classes.mode, classes.mean
    )

    @staticmethod
    def predictions(outputs: jax.Array) -> jax.Array:
        """The labels that metrics of training see."""
        return jnp.argmax(outputs, axis=1)

    @staticmethod
    def _mode_of(means: jax.Array) -> jax.Array:
        """The most probable class, shape ``(N,)``."""
        return jnp.argmax(means, axis=1)
