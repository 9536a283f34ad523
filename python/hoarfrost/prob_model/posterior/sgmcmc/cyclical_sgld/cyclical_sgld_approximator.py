"""Settings of cyclical Langevin dynamics."""

from __future__ import annotations

from dataclasses import dataclass, field

from hoarfrost.methods.cyclical_sgld import check_cyclical
from hoarfrost.methods.preconditioners import Preconditioner, identity_preconditioner


@dataclass(frozen=True)
class CyclicalSGLDPosteriorApproximator:
    """Samples of all cycles of a chain, as `hoarfrost.methods.sample_cyclical_sgld` makes them.

    Parameters
    ----------
    n_samples : int
        How many samples are kept, from all cycles.
    n_thinning : int
        Steps from one sample of a cycle to the next.
    cycle_length : int
        Steps of a cycle; ``n_epochs`` says how many there are.
    init_step_size : float
        The learning rate at the start of a cycle.
    exploration_ratio : float
        The part of a cycle without noise, at least 0 and below 1.
    preconditioner : Preconditioner
        Of gradients and noise.

    Raises
    ------
    InvalidArgumentError
        If an argument is none of these.
    """

    n_samples: int = 10
    n_thinning: int = 1
    cycle_length: int = 1000
    init_step_size: float = 1e-5
    exploration_ratio: float = 0.25
    preconditioner: Preconditioner = field(default_factory=identity_preconditioner)

    def __post_init__(self) -> None:
        check_cyclical(
            self.n_samples,
            self.n_thinning,
            self.cycle_length,
            self.init_step_size,
            self.exploration_ratio,
            self.preconditioner,
        )

    def __str__(self) -> str:
        return "cyclical_sgld"
