"""What a posterior hands out is the caller's own, and what `fit_laplace` takes `predict` takes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hoarfrost import fit_laplace
from hoarfrost.data import InputsLoader
from hoarfrost.errors import DataError, ShapeError


@pytest.fixture
def posterior(small):
    prior = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.7), small.params)
    return fit_laplace(
        small.apply,
        small.params,
        small.loader,
        prior_precision=prior,
        prior_mean=0.3,
        progress=False,
    )


def test_writing_to_an_answer_changes_no_posterior(posterior):
    evidence, mean = posterior.log_marginal_likelihood(), posterior.prior_mean
    np.testing.assert_array_equal(mean, 0.3)
    for array in (
        mean,
        posterior.mean,
        posterior.deviation,
        posterior.variance(),
        *jax.tree.leaves(posterior.prior_precision),
        *jax.tree.leaves(posterior.with_prior_precision(0.7).prior_mean),
    ):
        array[...] = 99.0
    np.testing.assert_array_equal(posterior.prior_mean, 0.3)
    for leaf in jax.tree.leaves(posterior.prior_precision):
        np.testing.assert_array_equal(leaf, 0.7)
    assert posterior.log_marginal_likelihood() == evidence
    assert posterior.with_prior_precision(0.7).log_marginal_likelihood() == evidence


def test_writing_to_a_tuned_prior_changes_no_posterior(posterior):
    tuned = posterior.optimize_prior_precision("diagonal")
    expected = [leaf.copy() for leaf in jax.tree.leaves(tuned)]
    for leaf in jax.tree.leaves(tuned):
        leaf[...] = 5.0
    for leaf, value in zip(jax.tree.leaves(posterior.prior_precision), expected, strict=True):
        np.testing.assert_array_equal(leaf, value)


VERBS = {
    "predict": lambda posterior, inputs: posterior.predict(inputs),
    "by Monte Carlo": lambda posterior, inputs: posterior.predict(inputs, "mc", 9),
    "through the network": lambda posterior, inputs: posterior.predict(inputs, "nn", 9),
    "variance": lambda posterior, inputs: posterior.functional_variance(inputs),
    "covariance": lambda posterior, inputs: posterior.functional_covariance(inputs),
    "joint": lambda posterior, inputs: posterior.functional_covariance(inputs, joint=True),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_list_of_batches_is_predicted_for_as_one(small, posterior, verb):
    run = VERBS[verb]
    expected = run(posterior, small.x)
    parts = [small.x[:5], jnp.asarray(small.x[5:6]), small.x[6:]]
    np.testing.assert_allclose(run(posterior, parts), expected, rtol=2e-5, atol=1e-6)
    loader = InputsLoader.from_iterable(parts)
    np.testing.assert_array_equal(run(posterior, parts), run(posterior, loader))
    # The very list that a fit takes: the targets are left out.
    pairs = [(small.x[:5], small.y[:5]), (small.x[5:], small.y[5:])]
    np.testing.assert_allclose(run(posterior, pairs), expected, rtol=2e-5, atol=1e-6)


def of_two(params, inputs):
    return inputs[0] @ params["w"] + inputs[1] @ params["v"]


def test_inputs_that_are_a_list_are_no_list_of_batches(small):
    params = {"w": jnp.ones((2, 3)), "v": -jnp.ones((2, 3))}
    inputs = [small.x, small.x**2]
    posterior = fit_laplace(of_two, params, [(inputs, small.y % 3)], progress=False)
    found = posterior.predict(inputs)
    assert found.shape == (12, 3)
    np.testing.assert_allclose(posterior.predict([inputs, inputs])[12:], found, rtol=1e-6)


def test_what_is_neither_is_still_an_error(small, posterior):
    with pytest.raises(ShapeError, match="hold a scalar"):
        posterior.predict([0.5, 1.0])
    with pytest.raises(DataError, match="inputs of batch 1 have shape"):
        posterior.predict([small.x, small.x[:, :1]])
