"""The log marginal likelihood in closed form, and its derivative."""

from __future__ import annotations

import numpy as np


def log_marginal_likelihood(
    log_likelihood: float, prior_precision: np.ndarray, deviation: np.ndarray, log_det: float
) -> float:
    """Laplace's approximation to the evidence of the trainable parameters.

    ``log p(D | theta) + (sum log tau - sum tau (theta - theta_0)^2 - log |H + T|) / 2``: the powers
    of 2 pi of the prior and of the Gaussian integral cancel (MacKay, 1992).

    Parameters
    ----------
    log_likelihood : float
        Of the data, at the mean.
    prior_precision, deviation : ndarray
        Prior precision, and the distance of the mean from the prior's mean, shape ``(P,)``,
        float64.
    log_det : float
        ``log |H + T|``.
    """
    log_prior = np.log(prior_precision).sum() - (prior_precision * deviation**2).sum()
    return float(log_likelihood + 0.5 * (log_prior - log_det))
