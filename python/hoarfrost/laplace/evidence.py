"""The log marginal likelihood in closed form."""

from __future__ import annotations

import numpy as np


def log_marginal_likelihood(
    log_likelihood: float, prior_precision: np.ndarray, mean: np.ndarray, log_det: float
) -> float:
    """Laplace's approximation to the evidence of the trainable parameters.

    ``log p(D | theta) + (sum log tau - sum tau theta^2 - log |H + T|) / 2``: the powers of 2 pi of
    the prior and of the Gaussian integral cancel (MacKay, 1992).

    Parameters
    ----------
    log_likelihood : float
        Of the data, at the mean.
    prior_precision, mean : ndarray
        Shape ``(P,)``, float64; the prior's mean is zero.
    log_det : float
        ``log |H + T|``.
    """
    log_prior = np.log(prior_precision).sum() - (prior_precision * mean**2).sum()
    return float(log_likelihood + 0.5 * (log_prior - log_det))
