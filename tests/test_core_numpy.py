"""The compiled core against float64 NumPy, for sizes about the edges of its tiles and lanes.

Everything runs in a process of its own for 1, 2 and 3 threads, which must agree bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from hoarfrost import _core

EPS = np.finfo(np.float64).eps

# A lane has 8 columns, a chunk 256 rows, a panel 1,024 or 2,048; a tile's edge is at most 256.
# The last sizes are beyond every other constant too: groups of four tiles, slices of 48 lanes.
EDGES = (1, 7, 8, 9, 241, 255, 256, 257, 479, 481, 512, 513, 1409)
ROWS = (1, 257, 1_025)
HEADS = ((2, 1, 5), (3, 128, 257), (4, 86, 2049), (5, 129, 300), (11, 24, 700), (4, 401, 500))


def random(*shape: int) -> np.ndarray:
    """The same numbers at every call."""
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def check(name: str, ours: np.ndarray, exact: Any, bound: float) -> np.ndarray:
    """The array, which may differ from NumPy's by `bound` times its largest entry."""
    error = np.max(np.abs(ours - exact)) / max(np.max(np.abs(exact)), 1e-300)
    assert error <= bound, f"{name}: {error / EPS:.1f} eps, and {bound / EPS:.1f} are allowed"
    return ours


def condition(matrix: np.ndarray) -> float:
    """Of a precision; of a large one an upper bound, all priors here being at least a half."""
    if len(matrix) > 600:
        return float(np.abs(matrix).sum(axis=1).max() / 0.5)
    values = np.linalg.eigvalsh(matrix)
    return float(values[-1] / values[0])


def answers(
    name: str, posterior: object, precision: np.ndarray, factor: float = 1.0
) -> list[np.ndarray]:
    """What a posterior says of itself, each compared with dense algebra."""
    size = len(precision)
    order = np.arange(size)
    covariance = np.linalg.inv(precision)
    # The inverse moves by eps times the condition number, as does NumPy's own.
    bound = factor * 8 * size * EPS * condition(precision)
    rounding = factor * 4 * (size + 2) * EPS
    log_det = np.linalg.slogdet(precision)[1]
    return [
        check(f"{name} precision", posterior.precision(order), precision, rounding),
        check(f"{name} covariance", posterior.covariance(order), covariance, bound),
        check(f"{name} variance", posterior.variance(), np.diag(covariance), bound),
        # Moved by bound for each eigenvalue, and maybe near zero itself.
        check(f"{name} log det", np.exp((posterior.log_det() - log_det) / size), 1.0, bound),
        posterior.sample(3, 5),
    ]


def dense_cases() -> list[np.ndarray]:
    """General subsets: rows in float32, as they come from JAX."""
    results = []
    for index, size in enumerate(EDGES):
        rows = random(ROWS[index % len(ROWS)], size).astype(np.float32)
        prior = 1.0 + np.arange(size) % 3
        curvature = _core.FullCurvature(size)
        for part in np.array_split(rows, 1 + index // len(ROWS) % 2):
            curvature.add_rows(part)
        wide = rows.astype(np.float64)
        precision = wide.T @ wide + np.diag(prior)
        posterior = curvature.factor(prior)
        results += answers(f"P = {size}", posterior, precision)
        # The curvature comes back from the factor to the rounding of the precision.
        again = posterior.curvature(prior).factor(2 * prior)
        bound = 16 * (size + 2) * EPS
        again = again.precision(np.arange(size))
        results.append(check(f"P = {size} again", again, precision + np.diag(prior), bound))
    return results


def head_cases() -> list[np.ndarray]:
    """Softmax heads, and outputs that do not interact, with priors that outputs share or do not."""
    results = []
    for classes, width, count in HEADS:
        x, outputs = random(count, width), 2 * random(count, classes)
        p = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        curvature_of = {
            "softmax": np.einsum("nc,cd->ncd", p, np.eye(classes)) - p[:, :, None] * p[:, None],
            "independent": np.einsum("nc,cd->ncd", outputs**2, np.eye(classes)),
        }
        points = random(530, width)
        for kind, output_curvature in curvature_of.items():
            head = _core.HeadCurvature(kind, classes, width)
            head.add(x, outputs if kind == "softmax" else outputs**2)
            blocks = np.einsum("ncd,ni,nj->cidj", output_curvature, x, x, optimize=True)
            size = classes * width
            by_feature = np.tile(1.0 + np.arange(width) % 3, classes)
            priors = (np.full(size, 0.5), by_feature, 1.0 + np.arange(size) % 7)
            for prior in priors if size < 1000 else priors[:1]:
                name = f"{kind} C = {classes}, D' = {width}"
                precision = blocks.reshape(size, size) + np.diag(prior)
                posterior = head.factor(prior)
                results += answers(name, posterior, precision)
                covariance = np.linalg.inv(precision).reshape(classes, width, classes, width)
                exact = np.einsum("ni,cidj,nj->ncd", points, covariance, points, optimize=True)
                bound = 16 * size * EPS * condition(precision)
                for question in (0, 10**6):  # by solves (of few points), then from blocks
                    if kind == "softmax":
                        ours = posterior.functional_covariance(points, question)
                        results.append(check(f"{name} covariance", ours, exact, bound))
                    ours = posterior.functional_variance(points, question)
                    variance = np.einsum("ncc->nc", exact)
                    results.append(check(f"{name} outputs", ours, variance, bound))
    return results


def gaussian_cases() -> list[np.ndarray]:
    """Heads under Gaussian noise, from one eigendecomposition."""
    results = []
    for outputs, width, count in HEADS:
        x, noise = random(count, width), 1.0 + np.arange(outputs)
        prior = 1.0 + np.arange(width) % 3
        gram = _core.HeadCurvature("independent", 1, width)
        gram.add(x, np.ones((count, 1)))
        posterior = gram.kronecker(prior).posterior(1.0, noise)
        precision = np.kron(np.diag(noise), x.T @ x) + np.diag(np.tile(prior, outputs))
        name = f"Gaussian C = {outputs}, D' = {width}"
        # An eigendecomposition has an error of eps times the largest eigenvalue throughout.
        results += answers(name, posterior, precision, 8)
    return results


def digests() -> list[str]:
    """One hash an array."""
    everything = dense_cases() + head_cases() + gaussian_cases()
    return [hashlib.sha256(a.tobytes()).hexdigest() for a in everything]


@pytest.fixture(scope="module")
def runs() -> dict[int, list[str]]:
    """The digests for each number of threads; a process whose comparisons fail has none."""
    found = {}
    for threads in (1, 2, 3):
        done = subprocess.run(
            [sys.executable, __file__],
            env={**os.environ, "RAYON_NUM_THREADS": str(threads)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        used, found[threads] = json.loads(done.stdout)
        assert used == threads
    return found


@pytest.mark.parametrize("threads", [2, 3])
def test_everything_agrees_with_numpy_and_any_number_of_threads(
    runs: dict[int, list[str]], threads: int
) -> None:
    assert len(runs[1]) > 100
    assert runs[threads] == runs[1]


if __name__ == "__main__":
    print(json.dumps([_core.num_threads(), digests()]))
