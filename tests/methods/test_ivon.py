"""IVON: its step by the paper's equations, priors that hold it, half precision."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_gaussian import NOISE, PRIOR, SIZE, apply, problem

from hoarfrost.data import DataLoader
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.likelihood import Gaussian
from hoarfrost.methods import fit_ivon
from hoarfrost.methods.draws import normal_like
from hoarfrost.methods.ivon import ivon_on
from hoarfrost.methods.problem import problem_of, problem_with
from hoarfrost.methods.target import WholePrior
from hoarfrost.prior import IsotropicGaussianPrior

CENTRE = 0.5


def test_steps_are_those_of_the_paper() -> None:
    """Algorithm 1 of Shen et al. (2024) in float64, on the draws that the seed gives."""
    model = problem(at_mean=False)
    rate, hess_init, beta1, beta2, steps = 0.3, 2.0, 0.8, 0.9, 5
    posterior = fit_ivon(
        apply,
        model.params,
        model.loader(),
        learning_rate=lambda step: rate,
        hess_init=hess_init,
        beta1=beta1,
        beta2=beta2,
        n_epochs=steps,
        prior_mean=CENTRE,
        seed=4,
        **model.options,
    )
    delta = PRIOR / SIZE
    mean, momentum, hess = np.zeros(3), np.zeros(3), np.full(3, hess_init)
    for step in range(steps):
        sigma = 1 / np.sqrt(SIZE * (hess + delta))
        noise = _noise(4, step)
        theta = mean + sigma * noise
        residuals = model.features @ theta - model.y[:, 0]
        gradient = model.features.T @ residuals / NOISE**2 / SIZE
        estimate = gradient * (theta - mean) / sigma**2
        momentum = beta1 * momentum + (1 - beta1) * gradient
        hess, old = beta2 * hess + (1 - beta2) * estimate, hess
        hess = hess + 0.5 * (1 - beta2) ** 2 * (old - estimate) ** 2 / (old + delta)
        unbiased = momentum / (1 - beta1 ** (step + 1))
        mean = mean - rate * (unbiased + delta * (mean - CENTRE)) / (hess + delta)
    found = posterior.distribution
    np.testing.assert_allclose(found.mean["head"][:, 0], mean, rtol=2e-5)
    sigma = 1 / np.sqrt(SIZE * (hess + delta))
    np.testing.assert_allclose(found.std["head"][:, 0], sigma, rtol=2e-5)


def _noise(seed: int, step: int) -> np.ndarray:
    """What chain 0 draws at a step."""
    own = jax.random.fold_in(jax.random.fold_in(jax.random.PRNGKey(seed), 0), step)
    draw_key, _ = jax.random.split(jax.random.split(own, 1)[0])
    drawn = normal_like({"head": jnp.zeros((3, 1))}, draw_key)["head"]
    return np.asarray(drawn, np.float64)[:, 0]


def test_each_parameter_has_its_own_prior() -> None:
    """Without a point that says anything the posterior is the prior, and steps end there."""
    precision = np.array([1.0, 4.0, 25.0])
    centre = np.array([-1.0, 0.0, 2.0])
    x = np.zeros((10, 3), np.float32)
    posterior = fit_ivon(
        lambda params, inputs: inputs @ params["w"],
        {"w": jnp.zeros((3, 1))},
        DataLoader.from_array_data((x, x[:, :1])),
        likelihood=Gaussian(noise_std=1.0),
        prior_precision={"w": precision[:, None]},
        prior_mean={"w": centre[:, None]},
        hess_init=1e-3,
        beta2=0.9,
        learning_rate=0.5,
        n_epochs=300,
        progress=False,
    )
    np.testing.assert_allclose(posterior.mean["w"][:, 0], centre, atol=1e-4)
    np.testing.assert_allclose(posterior.distribution.std["w"][:, 0], precision**-0.5, rtol=1e-4)


def test_the_curvature_stays_above_minus_the_prior() -> None:
    """Estimates of it are of either sign; a large step between two of them must not break it."""
    model = problem()
    posterior = fit_ivon(
        apply,
        model.params,
        model.loader(4),
        hess_init=1e-6,
        beta2=0.5,
        learning_rate=1e-3,
        n_epochs=20,
        **model.options,
    )
    std = posterior.distribution.std["head"]
    assert np.isfinite(std).all() and (std > 0).all()


def test_a_prior_that_is_not_gaussian_is_refused() -> None:
    model = problem()
    ours = problem_of(apply, model.params, model.loader(), **model.options)
    theirs = problem_with(
        ours.whole,
        model.loader(),
        likelihood=ours.likelihood,
        prior=WholePrior(IsotropicGaussianPrior()),
        ignored_label=None,
        cache_features="auto",
        progress=False,
    )
    with pytest.raises(InvalidArgumentError, match="give a Gaussian prior, or use ADVI"):
        ivon_on(theirs)


def test_same_seed_same_bits_and_frozen_parameters_stay() -> None:
    model = problem(at_mean=False)
    once, again, other = (
        fit_ivon(apply, model.params, model.loader(8), n_epochs=3, seed=seed, **model.options)
        for seed in (3, 3, 4)
    )
    first, second, third = (one.sample(0, 5)["head"] for one in (once, again, other))
    assert np.array_equal(first, second) and not np.array_equal(first, third)
    assert np.array_equal(once.merge()["body"], model.params["body"])


def test_the_frozen_part_run_once_gives_the_same_numbers() -> None:
    model = problem(at_mean=False)
    kept, whole = (
        fit_ivon(
            apply,
            model.params,
            model.loader(8),
            hess_init=1.0,
            learning_rate=0.01,
            n_epochs=4,
            cache_features=cached,
            **model.options,
        )
        for cached in (True, False)
    )
    for name in ("mean", "std"):
        found, expected = (getattr(one.distribution, name)["head"] for one in (kept, whole))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_half_precision_does_not_lose_the_curvature() -> None:
    """A step moves it by less than bfloat16 resolves."""
    model = problem()
    posterior = fit_ivon(
        apply,
        jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), model.params),
        model.loader(),
        hess_init=0.1,
        beta2=0.999,
        learning_rate=1e-6,
        mc_samples=8,
        n_epochs=400,
        **model.options,
    )
    start = 1 / np.sqrt(SIZE * 0.1 + PRIOR)
    std = posterior.distribution.std["head"]
    assert std.dtype == np.float32
    # The data's curvature is 2 and more, of which h takes a third in 400 steps.
    assert (std < 0.7 * start).all()
    assert posterior.sample(0, 2)["head"].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"hess_init": -1.0}, "hess_init"),
        ({"beta1": 1.0}, "beta1"),
        ({"beta2": 0.0}, "beta2"),
        ({"mc_samples": 0}, "mc_samples"),
        ({"n_epochs": 1.5}, "n_epochs"),
        ({"seed": "one"}, "seed"),
    ],
)
def test_wrong_arguments_are_said_before_the_data_are_read(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        fit_ivon(apply, {}, None, **options)
