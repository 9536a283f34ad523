"""Settings of stochastic-gradient Hamiltonian Monte Carlo."""

from __future__ import annotations

from dataclasses import dataclass, field

from hoarfrost.methods.preconditioners import Preconditioner, identity_preconditioner
from hoarfrost.methods.schedules import StepSchedule
from hoarfrost.methods.sghmc import check_sghmc


@dataclass(frozen=True)
class SGHMCPosteriorApproximator:
    """Samples of a chain with momentum, as `hoarfrost.methods.sample_sghmc` makes them.

    Parameters
    ----------
    n_samples : int
        How many samples are kept.
    n_thinning : int
        Steps from one sample to the next.
    burnin_length : int
        Steps before the first sample.
    momentum_decay : float
        The part of the momentum that is drawn anew at each step, above 0 and at most 1.
    step_schedule : float or callable
        The square of the step, a number or a function of the number of the step.
    preconditioner : Preconditioner
        Of gradients and noise.

    Raises
    ------
    InvalidArgumentError
        If an argument is none of these.
    """

    n_samples: int = 10
    n_thinning: int = 1
    burnin_length: int = 1000
    momentum_decay: float = 0.01
    step_schedule: StepSchedule | float = 1e-5
    preconditioner: Preconditioner = field(default_factory=identity_preconditioner)

    def __post_init__(self) -> None:
        check_sghmc(
            self.n_samples,
            self.n_thinning,
            self.burnin_length,
            self.momentum_decay,
            self.step_schedule,
            self.preconditioner,
        )

    def __str__(self) -> str:
        return "sghmc"
