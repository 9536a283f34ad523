"""Recalibrating a network's outputs on data that training did not see."""

from hoarfrost.calibration.calibrator import OutputCalibrator
from hoarfrost.calibration.fit import CalibrationResult, CalibrationStatistics, fit_calibrator
from hoarfrost.calibration.temperature import (
    ClassificationTemperatureScaler,
    RegressionTemperatureScaler,
)

__all__ = [
    "CalibrationResult",
    "CalibrationStatistics",
    "ClassificationTemperatureScaler",
    "OutputCalibrator",
    "RegressionTemperatureScaler",
    "fit_calibrator",
]
