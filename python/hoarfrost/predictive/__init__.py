"""From a distribution over outputs or weights to one over targets; no posterior is known here."""

from hoarfrost.predictive.prediction import RegressionPrediction

__all__ = ["RegressionPrediction"]
