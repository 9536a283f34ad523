"""Closed forms in float64 NumPy, by which results of values without a plain form are judged.

An oracle takes the arguments of a call and its result, and says what is wrong with it, or "".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from scipy import special, stats

Arguments = dict[str, Any]
Oracle = Callable[[Arguments, Any], str]


def wide(value: Any) -> np.ndarray:
    return np.asarray(value).astype(np.float64)


def agrees(found: Any, wanted: Any, rtol: float = 2e-6, atol: float = 1e-7) -> str:
    found, wanted = wide(found), wide(wanted)
    if found.shape != wanted.shape:
        return f"shape {found.shape}, not {wanted.shape}"
    with np.errstate(invalid="ignore", over="ignore"):
        # What float32 cannot hold is infinite in it.
        wanted32 = np.where(
            np.abs(wanted) > np.finfo(np.float32).max, np.sign(wanted) * np.inf, wanted
        )
        equal = (found == wanted) | (found == wanted32)
        equal |= np.abs(found - wanted) <= atol + rtol * np.abs(wanted)
    if np.all(equal):
        return ""
    place = tuple(int(i) for i in np.argwhere(~equal)[0])
    return f"{found[place]}, not {wanted[place]}{f' at {place}' if place else ''}"


def labels_fit(labels: np.ndarray, count: int) -> bool:
    return bool(np.all((labels >= 0) & (labels < count) & (labels == np.floor(labels))))


def accuracy(given: Arguments, result: Any) -> str:
    preds, targets = np.asarray(given["preds"]), np.asarray(given["targets"])
    if preds.shape != targets.shape or preds.ndim != 1 or not preds.size:
        return "a result for shapes that do not fit"
    return agrees(result, np.mean(preds == targets))


def probabilities(given: Arguments) -> tuple[np.ndarray, np.ndarray, str]:
    probs, targets = wide(given["probs"]), wide(given["targets"])
    if probs.ndim != 2 or targets.shape != probs.shape[:1] or not probs.size:
        return probs, targets, "a result for shapes that do not fit"
    if not labels_fit(targets, probs.shape[1]):
        return probs, targets, "a result for labels that are no classes"
    if given.get("log"):
        bad = np.any(probs > 0.01)
    else:
        bad = np.any((probs < -0.01) | (probs > 1.01) | (np.abs(probs.sum(1) - 1) > 0.02)[:, None])
    return probs, targets, "a result for rows that are no probabilities" if bad else ""


def negative_log_likelihood(given: Arguments, result: Any) -> str:
    probs, targets, fault = probabilities(given)
    if fault:
        return fault
    chosen = probs[np.arange(len(probs)), targets.astype(int)]
    with np.errstate(divide="ignore"):
        return agrees(result, -np.mean(chosen if given.get("log") else np.log(chosen)))


def brier_score(given: Arguments, result: Any) -> str:
    probs, targets, fault = probabilities(given)
    if fault:
        return fault
    one_hot = np.eye(probs.shape[1])[targets.astype(int)]
    return agrees(result, np.mean(np.sum((probs - one_hot) ** 2, axis=1)))


def bins(given: Arguments) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    probs, targets, fault = probabilities(given)
    preds = wide(given["preds"])
    if fault or preds.shape != targets.shape:
        return probs, probs, probs, fault or "a result for shapes that do not fit"
    if np.any(preds != np.floor(preds)):
        return probs, probs, probs, "a result for predictions that are no classes"
    count = int(given.get("n_bins", 15))
    confidence = probs.max(axis=1)
    edges = np.linspace(0, 1, count + 1).astype(np.float32)
    index = np.clip(np.searchsorted(edges[1:-1], confidence.astype(np.float32), "left"), 0, count)
    weights = np.bincount(index)
    right = np.bincount(index, preds == targets)
    sure = np.bincount(index, confidence)
    return weights, right, sure, ""


def calibration_error(largest: bool) -> Oracle:
    def oracle(given: Arguments, result: Any) -> str:
        weights, right, sure, fault = bins(given)
        if fault:
            return fault
        gaps = np.abs(right - sure)
        held = weights > 0
        wanted = np.max(gaps[held] / weights[held]) if largest else gaps.sum() / weights.sum()
        return agrees(result, wanted, 2e-5)

    return oracle


def reliability_diagram(given: Arguments, result: Any) -> str:
    weights, right, _, fault = bins(given)
    if fault:
        return fault
    counts, right_found = wide(result.counts), wide(result.accuracy)
    held = np.flatnonzero(weights)
    same_counts = agrees(counts[: len(weights)], weights)
    return same_counts or agrees(right_found[held], right[held] / weights[held])


def rmse(given: Arguments, result: Any) -> str:
    preds, targets = wide(given["preds"]), wide(given["targets"])
    if preds.shape != targets.shape or preds.ndim not in (1, 2) or not preds.size:
        return "a result for shapes that do not fit"
    with np.errstate(over="ignore"):
        return agrees(result, np.sqrt(np.sum((preds - targets) ** 2) / len(preds)))


def coverage(given: Arguments, result: Any) -> str:
    low, high, y = (wide(given[name]) for name in ("lower_bounds", "upper_bounds", "targets"))
    if len({array.size for array in (low, high, y)}) > 1 or not y.size:
        return "a result for shapes that do not fit"
    low, high, y = low.ravel(), high.ravel(), y.ravel()
    return agrees(result, np.mean((low <= y) & (y <= high)))


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


def hands_out(argument: str) -> Oracle:
    """The batches of a loader are those that it was given, whatever they hold."""

    def oracle(given: Arguments, result: Any) -> str:
        value = given[argument]
        batches = list(value) if argument.endswith(("iterable", "loader")) else [value]
        wanted, found = (leaves_with_points(side) for side in (batches, result[0]))
        if given.get("batch_size") or given.get("shuffle"):
            wanted, found = sorted_numbers(wanted), sorted_numbers(found)
        if len(wanted) != len(found):
            return f"{len(found)} arrays were handed out of {len(wanted)}"
        return "" if all(map(equal, wanted, found)) else "other numbers were handed out"

    return oracle


def leaves_with_points(batches: Any) -> list[np.ndarray]:
    leaves = (leaf.numpy() if hasattr(leaf, "numpy") else leaf for leaf in jax.tree.leaves(batches))
    return [np.asarray(leaf) for leaf in leaves if np.size(leaf) or not np.shape(leaf)]


def sorted_numbers(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """All numbers in one row, by size: of batches cut otherwise, or in another order."""
    return [np.sort(np.concatenate([array.ravel() for array in arrays]).astype(np.float64))]


def equal(first: np.ndarray, second: np.ndarray) -> bool:
    if first.shape != second.shape:
        return False
    if first.dtype.kind in "fc":
        return bool(np.all((first == second) | ((first != first) & (second != second))))
    return bool(np.all(first == second))


DENSITIES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "Gaussian": lambda f, y: stats.norm.logpdf(y, f, 0.5),
    "HeteroscedasticGaussian": lambda f, y: (
        -0.5 * (np.log(2 * np.pi) + f[:, 1:] + (y - f[:, :1]) ** 2 * np.exp(-f[:, 1:]))
    ),
    "Poisson": lambda f, y: y * f - np.exp(f) - special.gammaln(y + 1),
    "Bernoulli": lambda f, y: y * f - np.logaddexp(0, f),
    "Categorical": lambda f, y: special.log_softmax(f, 1)[np.arange(len(y)), y.astype(int)],
}


ORACLES: dict[str, Oracle] = {
    "accuracy": accuracy,
    "negative_log_likelihood": negative_log_likelihood,
    "nll": negative_log_likelihood,
    "brier_score": brier_score,
    "expected_calibration_error": calibration_error(largest=False),
    "ece": calibration_error(largest=False),
    "maximum_calibration_error": calibration_error(largest=True),
    "mce": calibration_error(largest=True),
    "reliability_diagram": reliability_diagram,
    "root_mean_squared_error": rmse,
    "rmse": rmse,
    "prediction_interval_coverage_probability": coverage,
    "picp": coverage,
    "RegressionPrediction.quantile": gaussian_quantile,
    "RegressionPrediction.credible_interval": credible_interval,
    "IsotropicGaussianPrior": prior_log_density,
    "Laplace.log_marginal_likelihood": evidence,
    "DataLoader": hands_out("iterable"),
    "DataLoader.from_iterable": hands_out("iterable"),
    "DataLoader.from_array_data": hands_out("data"),
    "DataLoader.from_tensorflow_data_loader": hands_out("tf_data_loader"),
    "DataLoader.from_torch_data_loader": hands_out("torch_data_loader"),
    "InputsLoader": hands_out("iterable"),
    "InputsLoader.from_iterable": hands_out("iterable"),
    "InputsLoader.from_array_inputs": hands_out("inputs"),
    "TargetsLoader": hands_out("iterable"),
    "TargetsLoader.from_iterable": hands_out("iterable"),
    "TargetsLoader.from_array_targets": hands_out("targets"),
    **{f"{of}.log_prob": log_likelihood(of) for of in DENSITIES},
}
