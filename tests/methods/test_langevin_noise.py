"""What the noise of minibatches adds to Langevin chains, against the moments of their recursion.

On a linear model with Gaussian noise a step is linear. With theta counted from the posterior mean
and A the precision, ``s = (theta, p)`` goes to ``M s + N (g, xi)``, M of the precision that the
batch estimates and g its gradient at the posterior mean; the covariance of s solves a Lyapunov
equation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_gaussian import NOISE, PRIOR, SIZE, Exact, apply, problem
from scipy.linalg import solve_continuous_lyapunov, solve_discrete_lyapunov

from hoarfrost.data import DataLoader
from hoarfrost.likelihood import Gaussian
from hoarfrost.methods import sample_sghmc
from hoarfrost.methods.batches import Resident, batches_of
from hoarfrost.methods.chain_run import ChainRun
from hoarfrost.methods.problem import problem_of
from hoarfrost.methods.sghmc import sghmc_plan

BATCH = 6
CHAINS, SAMPLES = 60, 100


@dataclass(frozen=True)
class Step:
    """The recursion of BAOAB with step h and persistence c in d dimensions."""

    h: float
    c: float
    d: int

    def matrix(self, precision: np.ndarray) -> np.ndarray:
        """M, for a batch that estimates this precision, or ``(..., d, d)`` of them."""
        eye = np.broadcast_to(np.eye(self.d), precision.shape)
        half = self.h * (1 + self.c) / 2
        return np.block(
            [
                [eye - half * self.h * precision, half * eye],
                [-self.c * self.h * precision, self.c * eye],
            ]
        )

    @property
    def of_gradient(self) -> np.ndarray:
        """N for the gradient, ``(2 d, d)``."""
        return np.kron([[self.h**2 * (1 + self.c) / 2], [self.c * self.h]], np.eye(self.d))

    @property
    def fresh(self) -> np.ndarray:
        """Covariance that the drawn momentum adds, ``(2 d, 2 d)``."""
        part = np.sqrt(1 - self.c**2) * np.array([[self.h / 2], [1.0]])
        return np.kron(part @ part.T, np.eye(self.d))


# --- the closed forms ----------------------------------------------------------------------------


@pytest.mark.parametrize("c", [0.0, 0.3, 0.9])
def test_what_a_minibatch_adds_goes_with_the_square_of_the_step(c: float) -> None:
    """``A X + X A = h^2 / 2 (1 + c) / (1 - c) V`` to first order, as `langevin` says."""
    exact = problem()
    noise = _per_point(exact).T @ _per_point(exact)
    for h in (1e-3, 1e-4):
        step = Step(h, c, 3)
        found = _added(step, exact.precision, noise)
        scale = h**2 / 2 * (1 + c) / (1 - c)
        expected = solve_continuous_lyapunov(exact.precision, scale * noise)
        # What is left out goes with the square of the step in units of the stable one.
        left_out = h**2 * np.linalg.norm(exact.precision, 2) * (1 + c) / (1 - c) ** 2
        error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        assert error < 4 * left_out < 0.5


def _added(step: Step, precision: np.ndarray, noise: np.ndarray) -> np.ndarray:
    matrix, into = step.matrix(precision), step.of_gradient
    without, extra = (
        solve_discrete_lyapunov(matrix, part) for part in (step.fresh, into @ noise @ into.T)
    )
    # Without it the covariance is exact at any stable step.
    np.testing.assert_allclose(without[:3, :3] @ precision, np.eye(3), atol=1e-6)
    return extra[:3, :3]


def _per_point(exact: Exact) -> np.ndarray:
    """Gradients of each point's log-likelihood at the posterior mean, ``(N, d)``."""
    residuals = exact.y[:, 0] - exact.features @ exact.mean
    return residuals[:, None] * exact.features / NOISE**2


# --- chains with batches drawn anew at each step -------------------------------------------------


@dataclass(frozen=True, eq=False)
class Independent(Resident):
    """Batches of points drawn with replacement at every step."""

    def blocks(self, first: int, stops: Sequence[int]) -> Iterator[tuple[int, int, Any]]:
        rng = np.random.default_rng(self.seed)
        data = self.inputs, self.targets, self.counted
        for start, stop in zip((first, *stops), stops, strict=False):
            shape = stop - start, self.num_chains, self.batch_size
            yield start, stop, (data, rng.integers(0, SIZE, shape, dtype=np.int32))


@pytest.mark.parametrize(("rate", "decay"), [(2e-3, 1.0), (5e-4, 0.2)])
def test_chains_spread_as_their_recursion_says(rate: float, decay: float) -> None:
    exact = problem()
    thinning = 25
    plan = sghmc_plan(SAMPLES, thinning, 300, decay, rate, None)
    given = problem_of(apply, exact.params, exact.loader(BATCH), **exact.options)
    drawn = batches_of(given.loader, given.points, pads=True, num_chains=CHAINS, seed=1)
    batches = Independent(**{name: getattr(drawn, name) for name in drawn.__dataclass_fields__})
    run = ChainRun(given, plan, jax.random.key(2), batches, [range(CHAINS)])
    chains = run.groups[0]
    states = run.states(chains, run.begin(chains), 0, plan.keep)
    draws = np.stack([np.asarray(chain.trainable["head"][..., 0]) for _, chain, _ in states])
    expected = _with_replacement(Step(np.sqrt(rate), 1 - decay, 3), exact)
    # Minibatches widen it by far more than the errors allowed.
    assert (np.diag(expected) > 1.3 * np.diag(np.linalg.inv(exact.precision))).all()
    _agrees(draws - exact.mean, expected)


def _with_replacement(step: Step, exact: Exact) -> np.ndarray:
    """The covariance of theta: each batch's precision and its gradient are drawn together.

    ``S = E[M S M^T] + fresh + N V N^T``: the mean of s is 0, so that M and g do not meet.
    """
    scale = SIZE / NOISE**2
    each = scale * np.einsum("ni,nj->nij", exact.features, exact.features)
    prior = PRIOR * np.eye(3)
    matrices = step.matrix(each + prior)
    mean = step.matrix(exact.precision)
    twice = np.kron(mean, mean)
    single = np.mean([np.kron(one, one) for one in matrices], axis=0)
    # A mean over a batch of B: the square of the mean, and a part 1 / B of the spread.
    operator = twice + (single - twice) / BATCH
    gradients = SIZE * _per_point(exact)
    noise = np.cov(gradients.T, bias=True) / BATCH
    into = step.of_gradient
    constant = step.fresh + into @ noise @ into.T
    size = len(constant)
    solved = np.linalg.solve(np.eye(size**2) - operator, constant.ravel())
    return solved.reshape(size, size)[:3, :3]


# --- arrays, gone over without replacement -------------------------------------------------------


def signs(params: Any, x: Any) -> Any:
    """Two numbers, of which each point says as much."""
    return x * params["w"]


@pytest.mark.parametrize(("rate", "decay"), [(4e-3, 1.0), (1e-3, 0.15)])
def test_a_pass_without_replacement_adds_what_its_orders_leave(rate: float, decay: float) -> None:
    """Batches of a pass sum up to all data: their noise is correlated and nearly cancels."""
    rng = np.random.default_rng(5)
    x = rng.choice([-1.0, 1.0], (SIZE, 1)).astype(np.float32)
    y = (rng.normal(size=(SIZE, 2)) @ [[1.5, 0.8], [0.0, 0.5]]).astype(np.float32)
    per_pass, precision = SIZE // BATCH, SIZE / NOISE**2 + PRIOR
    mean = (x * y).sum(axis=0, dtype=np.float64) / NOISE**2 / precision
    posterior = sample_sghmc(
        signs,
        {"w": jnp.asarray(mean, jnp.float32)},
        DataLoader.from_array_data((x, y), batch_size=BATCH),
        likelihood=Gaussian(noise_std=NOISE),
        prior_precision=PRIOR,
        n_samples=SAMPLES,
        n_thinning=3 * per_pass,
        burnin_length=20 * per_pass,
        momentum_decay=decay,
        step_schedule=rate,
        num_chains=CHAINS,
        progress=False,
    )
    found = posterior.weight_samples().trainable["w"].reshape(CHAINS, SAMPLES, 2)
    step = Step(np.sqrt(rate), 1 - decay, 2)
    gradients = x * y / NOISE**2 * SIZE
    # Without replacement: the spread of a mean of B of N, and what it is between two batches.
    spread = np.cov(gradients.T.astype(np.float64), bias=True) / (SIZE - 1)
    own, between = (SIZE / BATCH - 1) * spread, -spread
    matrix, into = step.matrix(precision * np.eye(2)), step.of_gradient
    powers = [np.linalg.matrix_power(matrix, k) for k in range(per_pass)]
    added = sum(
        a @ into @ (own if i == j else between) @ into.T @ b.T
        for i, a in enumerate(powers)
        for j, b in enumerate(powers)
    )
    added += sum(a @ step.fresh @ a.T for a in powers)
    expected = solve_discrete_lyapunov(matrix @ powers[-1], added)[:2, :2]
    independent = solve_discrete_lyapunov(matrix, step.fresh + into @ own @ into.T)[:2, :2]
    assert np.trace(expected) < np.trace(independent)
    _agrees(np.swapaxes(found, 0, 1) - mean, expected)


def _agrees(draws: np.ndarray, covariance: np.ndarray) -> None:
    """Draws ``(samples, chains, d)`` about their mean, within four of their own standard errors.

    Chains are independent, so that their spread gives the errors.
    """
    root = np.linalg.inv(np.linalg.cholesky(covariance))
    z = np.asarray(draws, np.float64) @ root.T
    for values, known in (
        (z.mean(axis=0), np.zeros(z.shape[-1])),
        (np.einsum("sci,scj->cij", z, z) / len(z), np.eye(z.shape[-1])),
    ):
        error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
        assert error.max() < 0.05
        assert (np.abs(values.mean(axis=0) - known) < 4 * error).all()
