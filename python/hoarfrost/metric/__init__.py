"""Scores of predictions: accuracy, likelihood, calibration and regression errors."""

from hoarfrost.metric.classification import (
    ReliabilityDiagram,
    accuracy,
    brier_score,
    ece,
    expected_calibration_error,
    maximum_calibration_error,
    mce,
    negative_log_likelihood,
    nll,
    reliability_diagram,
)
from hoarfrost.metric.regression import (
    picp,
    prediction_interval_coverage_probability,
    rmse,
    root_mean_squared_error,
)

__all__ = [
    "ReliabilityDiagram",
    "accuracy",
    "brier_score",
    "ece",
    "expected_calibration_error",
    "maximum_calibration_error",
    "mce",
    "negative_log_likelihood",
    "nll",
    "picp",
    "prediction_interval_coverage_probability",
    "reliability_diagram",
    "rmse",
    "root_mean_squared_error",
]
