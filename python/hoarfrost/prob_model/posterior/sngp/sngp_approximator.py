"""Settings of a spectral-normalised neural Gaussian process."""

from __future__ import annotations

from dataclasses import dataclass

from hoarfrost.methods.sngp import SNGP


@dataclass(frozen=True, kw_only=True)
class SNGPPosteriorApproximator:
    """A Gaussian process behind the model, which gives hidden features; by random features.

    A model whose layers keep distances is what it asks for: one with
    `hoarfrost.model.utils.spectral_norm.WithSpectralNorm`.

    Parameters
    ----------
    output_dim : int
        The number of outputs.
    gp_hidden_features : int
        The number of random features.
    normalize_input : bool
        Whether each point's hidden features are brought to mean 0 and variance 1.
    ridge_penalty : float
        Prior precision of the output weights.
    momentum : None
        Fortuna's, of a precision gathered in training; here one pass after it gives it exactly.
    mean_field_factor : float
        What the covariance of the output weights is multiplied by in draws; 1 for the posterior.

    Raises
    ------
    InvalidArgumentError
        If an argument is none of these.
    """

    output_dim: int
    gp_hidden_features: int = 1024
    normalize_input: bool = False
    ridge_penalty: float = 1.0
    momentum: None = None
    mean_field_factor: float = 1.0

    def __post_init__(self) -> None:
        self.settings  # noqa: B018

    @property
    def settings(self) -> SNGP:
        """As `hoarfrost.methods` has them."""
        return SNGP(**vars(self))

    def __str__(self) -> str:
        return "sngp"
