"""Conformal sets of labels."""

from hoarfrost.conformal.classification.adaptive_prediction import (
    AdaptivePredictionConformalClassifier,
    CVPlusAdaptivePredictionConformalClassifier,
)
from hoarfrost.conformal.classification.simple_prediction import (
    CVPlusSimplePredictionConformalClassifier,
    SimplePredictionConformalClassifier,
)

__all__ = [
    "AdaptivePredictionConformalClassifier",
    "CVPlusAdaptivePredictionConformalClassifier",
    "CVPlusSimplePredictionConformalClassifier",
    "SimplePredictionConformalClassifier",
]
