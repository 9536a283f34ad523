"""Densities, quantiles and the evidence, in float64 NumPy and SciPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from agreement import Arguments, Oracle, agrees, wide
from scipy import special, stats


def gaussian_quantile(given: Arguments, result: Any) -> str:
    """Of the prediction of `test_laplace_options`: mean T, variance 3."""
    from problems import T

    levels = wide(given["q"])
    shift = np.sqrt(3.0) * stats.norm.ppf(levels)
    wanted = shift.reshape(levels.shape + (1,) * T.ndim) + wide(T)
    return agrees(result, wanted, 1e-5, 1e-5)


def credible_interval(given: Arguments, result: Any) -> str:
    from problems import T

    error, kind = float(given.get("error", 0.05)), given.get("interval_type", "two-tailed")
    sides = {
        "two-tailed": (error / 2, 1 - error / 2),
        "right-tailed": (error, 1.0),
        "left-tailed": (0.0, 1 - error),
    }
    ends = (np.sqrt(3.0) * stats.norm.ppf(level) + wide(T) for level in sides[kind])
    if kind != "two-tailed":
        return ""
    return next((f for f in map(lambda a, b: agrees(a, b, 1e-5, 1e-5), result, ends) if f), "")


def prior_log_density(given: Arguments, result: Any) -> str:
    """Of `log_joint_prob(tree())` under the isotropic prior."""
    from problems import tree

    log_var, mean = float(wide(given["log_var"])), float(wide(given.get("mean", 0.0)))
    values = np.concatenate([wide(leaf).ravel() for leaf in tree().values()])
    with np.errstate(over="ignore", divide="ignore"):
        wanted = np.sum(
            -((values - mean) ** 2) / (2 * np.exp(log_var)) - 0.5 * (np.log(2 * np.pi) + log_var)
        )
    return agrees(result, wanted, 1e-5, 1e-4)


def tree_density(log_var: Any) -> Oracle:
    """Of `log_joint_prob(params)` under the priors of the options: log-variances and mean 0."""

    def oracle(given: Arguments, result: Any) -> str:
        leaves = [wide(np.float32(leaf)).ravel() for leaf in jax.tree.leaves(given["params"])]
        values = np.concatenate(leaves)
        spread = np.broadcast_to(log_var, values.shape)
        with np.errstate(over="ignore"):
            terms = -(values**2) / (2 * np.exp(spread)) - 0.5 * (np.log(2 * np.pi) + spread)
        return agrees(result, terms.sum(), 1e-5, 1e-4)

    return oracle


def noise(given: Arguments, result: Any) -> str:
    """Of the targets of `more_subjects` under Gaussian noise of this size."""
    from more_subjects import OUTPUTS, REAL

    std = np.ravel(wide(given["noise_std"]))
    return agrees(result, stats.norm.logpdf(wide(REAL), wide(OUTPUTS), std).sum(), 1e-6, 1e-5)


def finite_loss(given: Arguments, result: Any) -> str:
    """Of a training or a calibration, whatever its metrics are."""
    loss = result[0].get("fit_status", result[0])["loss"]
    return "" if np.all(np.isfinite(loss)) else f"a loss of {loss}"


def evidence(given: Arguments, result: Any) -> str:
    """Of the regression posterior of the options, from its dense precision."""
    from entries import kept
    from problems import laplace

    posterior = kept("laplace 1", lambda: laplace(1))
    tau, noise = given.get("prior_precision"), given.get("noise_std")
    before = float(posterior.prior_precision)
    tau = before if tau is None else tau
    std = posterior.noise_std if noise is None else float(np.ravel(wide(noise))[0])
    if isinstance(tau, dict) or np.ndim(tau):
        return ""
    tau, std = float(tau), float(std)
    old = float(posterior.noise_std)
    curvature = posterior.precision() - before * np.eye(posterior.num_params)
    count = posterior.num_data
    squares = -2 * old**2 * (posterior.log_likelihood + count * np.log(old * np.sqrt(2 * np.pi)))
    with np.errstate(over="ignore", invalid="ignore"):
        precision = curvature * (old / std) ** 2 + tau * np.eye(len(curvature))
        sign, log_det = np.linalg.slogdet(precision)
        fit = -squares / (2 * std**2) - count * np.log(std * np.sqrt(2 * np.pi))
        norm = float(np.sum(wide(posterior.mean) ** 2))
        wanted = fit + 0.5 * len(curvature) * np.log(tau) - 0.5 * tau * norm - 0.5 * log_det
    if sign <= 0 or not np.isfinite(wanted):
        return ""
    # Where prior and curvature are far apart a dense determinant rounds.
    return agrees(result, wanted, 1e-4, 1e-3)


def log_likelihood(of: str) -> Oracle:
    """The sum over the points of the log-density of their targets."""

    def oracle(given: Arguments, result: Any) -> str:
        f, y = wide(np.float32(given["outputs"])), wide(given["targets"])
        if not (np.all(np.isfinite(y)) and valid_targets(of, y, f.shape[1])):
            return "a result for targets that do not fit"
        # Float64 targets that no float32 holds are the nearest that it does.
        with np.errstate(over="ignore"):
            wanted = float(np.sum(DENSITIES[of](f, y)))
        scale = float(np.sum(np.abs(DENSITIES[of](f, y))))
        return agrees(result, wanted, 1e-6, 1e-5 + 1e-6 * scale)

    return oracle


def valid_targets(of: str, y: np.ndarray, outputs: int) -> bool:
    whole = bool(np.all((y == np.floor(y)) & (y >= 0)))
    most = {"Bernoulli": 1, "Categorical": outputs - 1}.get(of, np.inf)
    return of in ("Gaussian", "HeteroscedasticGaussian") or (whole and bool(np.all(y <= most)))


DENSITIES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "Gaussian": lambda f, y: stats.norm.logpdf(y, f, 0.5),
    "HeteroscedasticGaussian": lambda f, y: (
        -0.5 * (np.log(2 * np.pi) + f[:, 1:] + (y - f[:, :1]) ** 2 * np.exp(-f[:, 1:]))
    ),
    "Poisson": lambda f, y: y * f - np.exp(f) - special.gammaln(y + 1),
    "Bernoulli": lambda f, y: y * f - np.logaddexp(0, f),
    "Categorical": lambda f, y: special.log_softmax(f, 1)[np.arange(len(y)), y.astype(int)],
}
