"""Where and how calibration runs."""

from __future__ import annotations

from dataclasses import dataclass

from hoarfrost.checks import check_counts
from hoarfrost.prob_model.fit_config import FitProcessor


@dataclass(frozen=True)
class CalibProcessor:
    """Where and how calibration runs.

    Parameters
    ----------
    devices : int
        As of `FitProcessor`: the devices that run the network. The calibrator has few parameters
        and is fitted on one.
    disable_jit : bool
        Whether to run without compilation, to look for an error step by step.
    n_posterior_samples : int
        Number of weight samples whose mixture is the predictive that is calibrated.

    Raises
    ------
    InvalidArgumentError
        If an argument has a type or a value that is not accepted.
    """

    devices: int = -1
    disable_jit: bool = False
    n_posterior_samples: int = 30

    def __post_init__(self) -> None:
        FitProcessor(devices=self.devices, disable_jit=self.disable_jit)
        check_counts(n_posterior_samples=self.n_posterior_samples)
