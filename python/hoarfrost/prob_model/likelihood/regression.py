"""The likelihood of a regressor's targets at given parameters."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import jax

from hoarfrost.calibration import CalibrationStatistics
from hoarfrost.checks import check_switch
from hoarfrost.dtypes import in_float64
from hoarfrost.likelihood.heteroscedastic import split_outputs
from hoarfrost.predictive import numbers
from hoarfrost.predictive.quantile import Levels, check_levels, quantile_statistic
from hoarfrost.prob_model.likelihood.base import ModelLikelihood
from hoarfrost.types import Tree


@dataclass(frozen=True)
class RegressionLikelihood(ModelLikelihood):
    """What a regressor says at one point of its parameters.

    As `ModelLikelihood` describes it: outputs are the means and log-variances of D targets side by
    side, so that C is 2 D (D is 1 where targets have shape ``(N,)``). `distribute` is accepted for
    code written for Fortuna: one device does the work either way.
    """

    mixture: ClassVar[ModuleType] = numbers
    calibration_statistics: ClassVar[CalibrationStatistics] = CalibrationStatistics(
        numbers.log_prob, numbers.mean, numbers.variance
    )

    @staticmethod
    def predictions(outputs: jax.Array) -> jax.Array:
        """The means that metrics of training see, shape ``(batch, D)``."""
        return split_outputs(outputs)[0]

    @staticmethod
    def _mode_of(means: jax.Array) -> jax.Array:
        """The means themselves."""
        return means

    def quantile(
        self,
        q: Levels,
        params: Tree,
        inputs_loader: Any,
        mutable: Tree = None,
        calib_params: Tree = None,
        calib_mutable: Tree = None,
        distribute: bool = True,
    ) -> jax.Array:
        """Quantiles of each target, in closed form.

        Shape ``(N, D)`` for a number `q`, ``(len(q), N, D)`` for a sequence.
        """
        check_switch("distribute", distribute)
        levels, single = check_levels(q)
        statistic = quantile_statistic(levels)
        found = self._over_inputs(
            statistic,
            params,
            inputs_loader,
            mutable,
            calib_params,
            calib_mutable,
            axis=1,
            precision=in_float64,
        )
        return found[0] if single else found
