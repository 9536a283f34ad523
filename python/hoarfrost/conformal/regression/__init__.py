"""Conformal intervals of numbers."""

from hoarfrost.conformal.regression.cvplus import CVPlusConformalRegressor
from hoarfrost.conformal.regression.jackknife_minmax import JackknifeMinmaxConformalRegressor
from hoarfrost.conformal.regression.jackknifeplus import JackknifePlusConformalRegressor
from hoarfrost.conformal.regression.onedim_uncertainty import (
    OneDimensionalUncertaintyConformalRegressor,
)
from hoarfrost.conformal.regression.quantile import QuantileConformalRegressor

__all__ = [
    "CVPlusConformalRegressor",
    "JackknifeMinmaxConformalRegressor",
    "JackknifePlusConformalRegressor",
    "OneDimensionalUncertaintyConformalRegressor",
    "QuantileConformalRegressor",
]
