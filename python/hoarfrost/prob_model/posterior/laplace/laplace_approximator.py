"""The Laplace posterior as that of a model, and its settings."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hoarfrost.checks import is_choice
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.laplace.structure.registry import NAMES


@dataclass(frozen=True)
class LaplacePosteriorApproximator:
    """A Gaussian about the maximum a posteriori, with the curvature there as its precision.

    Parameters
    ----------
    tune_prior_log_variance : bool
        Whether the prior variance is chosen after the fit: by the predictive log-probability of
        the validation data where `train` gets a `val_data_loader`, else by the evidence (the
        log marginal likelihood) of the training data. False: the prior stays as it was given.
    hessian_structure : {"auto", "full", "dual", "kron", "diag"}
        "full": the whole covariance; "dual": the same in the space of the data, for more parameters
        than outputs of all points; "kron": Kronecker factors of each layer; "diag": its precision
        is diagonal; "auto": the first of "full", "dual" and "diag" that fits into memory, said in
        the status, and in a warning where it is not "full". "diag" is Fortuna's diagonal, but for a
        regressor's log-variance network, where the curvature is the Fisher information and
        Fortuna's the Hessian at the observed targets.

    Raises
    ------
    InvalidArgumentError
        If an argument is none of these.
    """

    tune_prior_log_variance: bool = True
    hessian_structure: str = field(default="auto", kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.tune_prior_log_variance, bool | np.bool_):
            raise InvalidArgumentError(
                f"tune_prior_log_variance is {self.tune_prior_log_variance!r}; give True or False"
            )
        names = ("auto", *NAMES)
        if not is_choice(self.hessian_structure, names):
            listed = ", ".join(map(repr, names[:-1]))
            raise InvalidArgumentError(
                f"hessian_structure is {self.hessian_structure!r}; give {listed} or {names[-1]!r}"
            )

    def __str__(self) -> str:
        return "laplace"
