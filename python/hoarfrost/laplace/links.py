"""From Gaussian outputs ``N(f, V)`` to log-probabilities of classes, in closed form.

"probit" shrinks each logit by its own variance: ``f_c / sqrt(1 + pi / 8 V_cc)`` goes through the
softmax or the sigmoid (MacKay, 1992). "bridge" is the Dirichlet that a Gaussian over logits maps
to (MacKay, 1998; Hobbhahn et al., 2022, Fast predictive uncertainty for classification with
Bayesian deep networks). Everything is in float64 and in logarithms, so that logits of 1e4 give
log-probabilities and not an infinity.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.likelihood import Bernoulli, Categorical, Gaussian, Likelihood, Regression

Link = Literal["probit", "mc", "bridge", "nn"]

# The links of each kind of likelihood, the default first. "closed" is the exact answer, which has
# no name that a user could give.
_CLASSES: tuple[str, ...] = ("probit", "mc", "bridge", "nn")
_LABELS: tuple[str, ...] = ("probit", "mc", "nn")
_SAMPLED: tuple[str, ...] = ("mc", "nn")
_CLOSED = "closed"


def prediction_link(likelihood: Likelihood, link: Any) -> str:
    """The link by which the mean of the targets is predicted.

    Raises
    ------
    InvalidArgumentError
        If `link` is no link of this likelihood.
    """
    if isinstance(likelihood, Regression) and not is_classifier(likelihood):
        return _choice(likelihood, link, (_CLOSED, "nn"))
    return _choice(likelihood, link, _links(likelihood))


def log_prob_link(likelihood: Likelihood, link: Any) -> str:
    """The link by which the density of targets is predicted; raises like `prediction_link`."""
    if isinstance(likelihood, Gaussian):
        return _choice(likelihood, link, (_CLOSED, *_SAMPLED))
    return _choice(likelihood, link, _links(likelihood))


def is_classifier(likelihood: Likelihood) -> bool:
    """Whether the mean of the targets is a probability."""
    return isinstance(likelihood, Categorical | Bernoulli)


def probit(likelihood: Likelihood, outputs: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Log-probabilities by the probit approximation.

    Parameters
    ----------
    outputs, variance : ndarray
        Means and variances of the outputs, shape ``(B, C)``.

    Returns
    -------
    ndarray
        Shape ``(B, C)``, float64; for Bernoulli outputs of a 1.
    """
    logits = shrunk(outputs, variance)
    return log_sigmoid(logits) if isinstance(likelihood, Bernoulli) else log_softmax(logits)


def shrunk(outputs: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Logits as the probit link shrinks them, shape ``(B, C)``, float64."""
    result: np.ndarray = outputs.astype(np.float64) / np.sqrt(1 + np.pi / 8 * variance)
    return result


def bridge(outputs: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Log-probabilities by the Laplace bridge: the mean of the Dirichlet that it leads to.

    Parameters
    ----------
    outputs : ndarray
        Means of the logits, shape ``(B, C)``.
    covariance : ndarray
        Their covariances, shape ``(B, C, C)``.

    Returns
    -------
    ndarray
        Shape ``(B, C)``, float64.
    """
    log_alpha = log_concentration(outputs, covariance)
    return log_alpha - _log_sum_exp(log_alpha)


def log_concentration(outputs: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Logarithms of the concentrations of the Laplace bridge's Dirichlet, shape ``(B, C)``.

    ``alpha_c = (1 - 2 / C + exp(f_c) / C^2 sum_d exp(-f_d)) / V_cc``, after logits have been
    conditioned on a sum of zero: a common shift of all logits changes no probability, and the
    bridge is defined without it.
    """
    mean, variance = _without_shift(outputs.astype(np.float64), covariance)
    count = mean.shape[1]
    log_term = mean + _log_sum_exp(-mean) - 2 * np.log(count)
    if count > 2:
        log_term = np.logaddexp(np.log1p(-2 / count), log_term)
    # A variance of zero is certainty: the least positive one keeps the ratios finite.
    return log_term - np.log(np.maximum(variance, np.finfo(np.float64).tiny))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities of classes, shape ``(B, C)``."""
    result: np.ndarray = logits - _log_sum_exp(logits)
    return result


def log_sigmoid(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities of a 1."""
    result: np.ndarray = -np.logaddexp(0.0, -logits)
    return result


def _links(likelihood: Likelihood) -> tuple[str, ...]:
    if isinstance(likelihood, Categorical):
        return _CLASSES
    return _LABELS if isinstance(likelihood, Bernoulli) else _SAMPLED


def _choice(likelihood: Likelihood, link: Any, links: tuple[str, ...]) -> str:
    if link is None:
        return links[0]
    if not isinstance(link, str) or link == _CLOSED or link not in links:
        named = [repr(name) for name in links if name != _CLOSED]
        closed = ", or leave it out for the closed form" if _CLOSED in links else ""
        raise InvalidArgumentError(
            f"link is {link!r}; give one of {', '.join(named)} for the {likelihood.name} "
            f"likelihood{closed}"
        )
    return link


def _without_shift(mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variances of Gaussian logits, given that they add up to zero."""
    with_sum = covariance.sum(axis=2)
    total = with_sum.sum(axis=1, keepdims=True)
    # A sum that never varies is taken off as it is.
    gain = np.where(total > 0, with_sum / np.where(total > 0, total, 1), 1 / mean.shape[1])
    centred = mean - gain * mean.sum(axis=1, keepdims=True)
    return centred, np.einsum("bcc->bc", covariance) - gain * with_sum


def _log_sum_exp(values: np.ndarray) -> np.ndarray:
    largest = values.max(axis=1, keepdims=True)
    result: np.ndarray = largest + np.log(np.exp(values - largest).sum(axis=1, keepdims=True))
    return result
