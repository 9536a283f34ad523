"""Predictive distributions behind Fortuna's interface."""

from hoarfrost.prob_model.predictive.base import Predictive
from hoarfrost.prob_model.predictive.classification import ClassificationPredictive
from hoarfrost.prob_model.predictive.regression import RegressionPredictive

__all__ = ["ClassificationPredictive", "Predictive", "RegressionPredictive"]
