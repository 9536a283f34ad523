"""Further settings of the steps."""

from __future__ import annotations

from dataclasses import dataclass

from hoarfrost.checks import check_number
from hoarfrost.prob_model.fit_config.arguments import check_least


@dataclass(frozen=True)
class FitHyperparameters:
    """Further settings of the steps.

    Parameters
    ----------
    max_grad_norm : float, optional
        Gradients are scaled down to this global norm where they exceed it; accumulated ones as a
        whole.
    gradient_accumulation_steps : int, optional
        Number of batches that make one step of the optimiser, the same step, to rounding, as one
        batch of all their points: k batches of B points train as batches of k B do, in the memory
        of B. Gradients are weighted by points; what is left over at the end of an epoch makes a
        step of its own. BatchNorm cannot tell: its statistics stay those of the batches of B, and
        dropout is drawn for each of them. An optimiser with a line search cannot be used.

    Raises
    ------
    InvalidArgumentError
        If an argument is not positive.
    """

    max_grad_norm: float | None = None
    gradient_accumulation_steps: int | None = None

    def __post_init__(self) -> None:
        if self.max_grad_norm is not None:
            check_number(
                "max_grad_norm", self.max_grad_norm, positive=True, hint="; None clips nothing"
            )
        if self.gradient_accumulation_steps is not None:
            check_least("gradient_accumulation_steps", self.gradient_accumulation_steps, least=1)
