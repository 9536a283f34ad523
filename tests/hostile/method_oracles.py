"""Schedules of steps in closed form, and diagnostics of samples by their sums, in float64 NumPy."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from agreement import Arguments, agrees, wide

STEPS = np.arange(12.0)


def half_cosine(done: np.ndarray) -> np.ndarray:
    return (1 + np.cos(np.pi * np.minimum(done, 1))) / 2


def constant(given: Arguments, result: Any) -> str:
    return agrees(result, np.full(12, float(given["init_step_size"])))


def constant_with_burnin(given: Arguments, result: Any) -> str:
    first, last = float(given["init_step_size"]), float(given["final_step_size"])
    return agrees(result, last + (first - last) * half_cosine(STEPS / int(given["burnin_steps"])))


def cosine(given: Arguments, result: Any) -> str:
    done = STEPS / int(given["total_steps"])
    return agrees(result, float(given["init_step_size"]) * half_cosine(done))


def cyclical(given: Arguments, result: Any) -> str:
    length = int(given["cycle_length"])
    place = np.maximum(STEPS - int(given["burnin_steps"]) - 1, 0) % length
    return agrees(result, float(given["init_step_size"]) * half_cosine(place / length))


def polynomial(given: Arguments, result: Any) -> str:
    defaults = {"a": 1.0, "b": 1.0, "gamma": 0.55}
    a, b, gamma = (float(given.get(name, own)) for name, own in defaults.items())
    with np.errstate(all="ignore"):
        return agrees(result, a * (b + STEPS) ** -gamma)


def rows(samples: Any) -> np.ndarray:
    """Samples as the rows of a matrix."""
    if isinstance(samples, list | tuple):
        samples = jax.tree.map(lambda *leaves: np.stack(leaves), *samples)
    leaves = jax.tree.leaves(samples)
    return np.concatenate([wide(leaf).reshape(len(leaf), -1) for leaf in leaves], axis=1)


def effective_size(given: Arguments, result: Any) -> str:
    samples, threshold = rows(given["samples"]), given.get("filter_threshold", 0.0)
    size, wanted = len(samples), []
    for column in samples.T:
        column = column / max(np.abs(column).max(), 1e-300)
        centred = column - column.mean()
        variance = np.mean(centred**2)
        if variance <= np.finfo(float).eps ** 2:
            wanted.append(1.0)
            continue
        total = 1.0
        for lag in range(1, size):
            correlation = np.mean(centred[:-lag] * centred[lag:]) / variance
            if threshold is not None and correlation < float(threshold):
                break
            total += 2 * (1 - lag / size) * correlation
        wanted.append(size / max(total, 1 / size))
    return agrees(result, wanted, 1e-6)


def stein_discrepancy(given: Arguments, result: Any) -> str:
    x, score = rows(given["samples"]), rows(given["grads"])
    c, beta = float(given.get("c", 1.0)), float(given.get("beta", -0.5))
    apart = x[:, None] - x[None]
    distance = np.sum(apart**2, axis=-1)
    base = c**2 + distance
    slope = -2 * beta * base ** (beta - 1)
    along = np.einsum("ijd,ijd->ij", apart, score[:, None] - score[None])
    trace = x.shape[1] * slope - 4 * beta * (beta - 1) * base ** (beta - 2) * distance
    total = np.sum(trace + slope * along + base**beta * (score @ score.T))
    return agrees(result, [np.sqrt(max(total, 0)) / len(x)], 1e-5)


ORACLES = {
    "constant_schedule": constant,
    "constant_schedule_with_cosine_burnin": constant_with_burnin,
    "cosine_schedule": cosine,
    "cyclical_cosine_schedule_with_const_burnin": cyclical,
    "polynomial_schedule": polynomial,
    "effective_sample_size": effective_size,
    "kernel_stein_discrepancy_imq": stein_discrepancy,
}
