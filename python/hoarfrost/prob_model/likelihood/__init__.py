"""The likelihood of a model's targets at given parameters."""

from hoarfrost.prob_model.likelihood.base import ModelLikelihood
from hoarfrost.prob_model.likelihood.classification import ClassificationLikelihood
from hoarfrost.prob_model.likelihood.regression import RegressionLikelihood

__all__ = ["ClassificationLikelihood", "ModelLikelihood", "RegressionLikelihood"]
