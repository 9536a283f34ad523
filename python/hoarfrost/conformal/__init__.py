"""Conformal prediction: sets and intervals that hold the target as often as they say.

Whatever the model is: the guarantees ask for points that are exchangeable with those to come, and
nothing else. They are of the average over all points, not of each.
"""

from hoarfrost.conformal.classification import (
    AdaptivePredictionConformalClassifier,
    CVPlusAdaptivePredictionConformalClassifier,
    CVPlusSimplePredictionConformalClassifier,
    SimplePredictionConformalClassifier,
)
from hoarfrost.conformal.regression import (
    CVPlusConformalRegressor,
    JackknifeMinmaxConformalRegressor,
    JackknifePlusConformalRegressor,
    OneDimensionalUncertaintyConformalRegressor,
    QuantileConformalRegressor,
)

__all__ = [
    "AdaptivePredictionConformalClassifier",
    "CVPlusAdaptivePredictionConformalClassifier",
    "CVPlusConformalRegressor",
    "CVPlusSimplePredictionConformalClassifier",
    "JackknifeMinmaxConformalRegressor",
    "JackknifePlusConformalRegressor",
    "OneDimensionalUncertaintyConformalRegressor",
    "QuantileConformalRegressor",
    "SimplePredictionConformalClassifier",
]
