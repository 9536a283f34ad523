"""Corners of `fit_laplace` that a fresh pair of eyes found."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import linen as nn

import hoarfrost
from hoarfrost import fit_laplace
from hoarfrost.errors import (
    InvalidArgumentError,
    NonFiniteError,
    NotFittedError,
    NotPositiveDefiniteError,
    ShapeError,
)


def test_noise_in_the_proportions_of_the_fit_is_accepted_whatever_its_rounding(small):
    targets = np.stack([small.x[:, 0], small.x[:, 1], small.x[:, 0] + 1], axis=1)
    std = (1.0, 0.3, 0.7)
    fit = lambda scale: fit_laplace(  # noqa: E731
        lambda params, x: x @ params["a"] @ params["b"],
        {"a": np.eye(small.x.shape[1], 4, dtype=np.float32), "b": np.ones((4, 3), np.float32)},
        [(small.x, targets)],
        likelihood=hoarfrost.likelihood.Gaussian(tuple(scale * s for s in std)),
        progress=False,
    )
    expected = fit(1.1).log_marginal_likelihood()
    got = fit(1.0).log_marginal_likelihood(noise_std=[1.1 * s for s in std])
    assert got == pytest.approx(expected, rel=1e-6)


def test_the_prior_that_there_is_needs_no_curvature(small):
    posterior = fit_laplace(
        lambda params, x: x @ params["a"],
        {"a": np.ones((small.x.shape[1], 3), np.float32)},
        [(small.x, small.y % 3)],
        prior_precision=2.0,
        keep_curvature=False,
        progress=False,
    )
    same = posterior.log_marginal_likelihood(2.0)
    assert same == posterior.log_marginal_likelihood()
    with pytest.raises(InvalidArgumentError, match="curvature was not kept"):
        posterior.log_marginal_likelihood(3.0)


def test_a_first_batch_of_dead_features_shows_no_structure(small):
    apply = lambda params, x: jax.nn.relu(x) @ params["w"].T  # noqa: E731
    width = small.x.shape[1]
    params = {"w": np.ones((width, width), np.float32) * np.arange(1, width + 1)[:, None]}
    labels = small.y % width
    dead = (-np.abs(small.x), labels)
    one = fit_laplace(apply, params, [dead, (small.x, labels)], progress=False)
    other = fit_laplace(apply, params, [(small.x, labels), dead], progress=False)
    np.testing.assert_allclose(one.precision(), other.precision(), rtol=1e-4, atol=1e-4)


def test_merge_checks_the_shapes(small):
    posterior = fit_laplace(
        lambda params, x: x @ params["a"],
        {"a": np.ones((small.x.shape[1], 3), np.float32)},
        [(small.x, small.y % 3)],
        progress=False,
    )
    with pytest.raises(ShapeError, match=r"tree\['a'\] has shape \(5, 3\)"):
        posterior.merge({"a": np.ones((5, 3))})


def test_inputs_that_do_not_fit_the_parameters_are_explained(small):
    module = nn.Dense(3)
    variables = module.init(jax.random.key(0), small.x)
    with pytest.raises(ShapeError, match="Dense cannot take inputs of shape"):
        fit_laplace(module, variables, [(small.x[:, :1], small.y % 3)], progress=False)
    posterior = fit_laplace(module, variables, [(small.x, small.y % 3)], progress=False)
    with pytest.raises(ShapeError, match="the others be those"):
        posterior.predict(small.x[:, :1])


def test_a_training_that_fails_leaves_the_old_posterior_over_its_own_parameters(small):
    import optax

    from hoarfrost.prob_model import FitConfig, FitOptimizer, ProbClassifier

    model = ProbClassifier(nn.Dense(4))
    good = FitConfig(FitOptimizer(n_epochs=2))
    model.train(small.loader, map_fit_config=good)
    before, state = model.posterior.sample(3), model.posterior.state.get()
    bad = FitConfig(FitOptimizer(method=optax.sgd(1e30), n_epochs=3))
    with pytest.raises(NonFiniteError):
        model.train(small.loader, map_fit_config=bad)
    assert model.posterior.state.get() is state
    for old, new in zip(
        *map(jax.tree.leaves, (before.params, model.posterior.sample(3).params)), strict=True
    ):
        np.testing.assert_array_equal(old, new)
    # Other parameters have no posterior over them.
    model.posterior.state.put(model.posterior.state.unfinished)
    with pytest.raises(NotFittedError):
        model.posterior.sample()
    model.train(small.loader, map_fit_config=good)
    model.posterior.sample()


def test_a_matrix_that_is_not_positive_definite_does_not_lose_the_pass(small):
    # Multiples of one feature and hardly any prior: rounding decides.
    factors = np.array([[1, 3, 7, 1 / 3, 0.1, 0.7]])
    x = (1e8 * small.x[:, :1] * factors).astype(np.float32)
    passes = []

    class Loader:
        def __iter__(self):
            passes.append(1)
            return iter([(x, small.y)])

    def fit(prior_precision):
        return fit_laplace(
            lambda params, inputs: inputs @ params["a"],
            {"a": np.zeros((x.shape[1], 4), np.float32)},
            Loader(),
            prior_precision=prior_precision,
            progress=False,
        )

    with pytest.raises(
        NotPositiveDefiniteError, match="give a prior_precision of at least"
    ) as caught:
        fit(1e-12)
    assert len(passes) == 1
    enough = 10 * caught.value.least_prior_precision
    posterior = caught.value.with_prior_precision(enough)
    assert len(passes) == 1
    assert posterior.log_marginal_likelihood() == fit(enough).log_marginal_likelihood()
