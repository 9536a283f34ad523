"""The calibrator of a classifier's outputs, where code written for Fortuna looks for it."""

from hoarfrost.calibration import ClassificationTemperatureScaler

__all__ = ["ClassificationTemperatureScaler"]
