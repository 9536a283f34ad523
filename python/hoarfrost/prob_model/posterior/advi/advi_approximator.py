"""Settings of mean-field variational inference."""

from __future__ import annotations

from dataclasses import dataclass

from hoarfrost.methods.advi import check_advi


@dataclass(frozen=True)
class ADVIPosteriorApproximator:
    """The Gaussian with a diagonal covariance that is closest to the posterior.

    Parameters
    ----------
    std_init_params : float
        Spread of the means about the parameters that they start from, where no MAP was trained.
    log_std_base : float
        Where the logarithms of the standard deviations start.
    n_loss_samples : int
        Draws of each step.

    Raises
    ------
    InvalidArgumentError
        If an argument is none of these.
    """

    std_init_params: float = 0.1
    log_std_base: float = -2.3
    n_loss_samples: int = 3

    def __post_init__(self) -> None:
        check_advi(self.std_init_params, self.log_std_base, self.n_loss_samples)

    def __str__(self) -> str:
        return "advi"
