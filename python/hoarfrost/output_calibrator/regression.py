"""The calibrator of a regressor's outputs, where code written for Fortuna looks for it."""

from hoarfrost.calibration import RegressionTemperatureScaler

__all__ = ["RegressionTemperatureScaler"]
