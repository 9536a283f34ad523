"""Output calibrators, where code written for Fortuna looks for them."""

from hoarfrost.output_calibrator.classification import ClassificationTemperatureScaler
from hoarfrost.output_calibrator.regression import RegressionTemperatureScaler

__all__ = ["ClassificationTemperatureScaler", "RegressionTemperatureScaler"]
