"""Likelihoods that a user adds: their curvature is checked, and `fit_laplace` takes them."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hoarfrost
from hoarfrost.errors import InvalidArgumentError, NonFiniteError, ShapeError
from hoarfrost.likelihood import CustomLikelihood, Likelihood, resolve
from hoarfrost.likelihood.check import check_likelihood

RNG = np.random.default_rng(5)
X = RNG.normal(size=(30, 4)).astype(np.float32)
PARAMS = {"w": jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)}


def linear(params, inputs):
    return inputs @ params["w"]


@dataclasses.dataclass(frozen=True)
class StudentT(CustomLikelihood):
    """Its Hessian depends on the target and may be negative; its Fisher information is constant."""

    degrees: float = 4.0

    def log_prob(self, outputs, targets):
        return jnp.sum(jax.scipy.stats.t.logpdf(targets - outputs, self.degrees), axis=1)

    def sample(self, outputs, key):
        return outputs + jax.random.t(key, self.degrees, outputs.shape)

    def output_curvature(self, outputs):
        fisher = (self.degrees + 1) / (self.degrees + 3)
        return fisher * jnp.broadcast_to(
            jnp.eye(outputs.shape[1]), (*outputs.shape, outputs.shape[1])
        )


class Softmax(CustomLikelihood):
    """`Categorical` by its log-probability and little else; no decorator, as it has no fields."""

    num_outputs = 3

    def log_prob(self, outputs, targets):
        return jnp.take_along_axis(jax.nn.log_softmax(outputs), targets[:, None], 1)[:, 0]

    def sample(self, outputs, key):
        return jax.random.categorical(key, outputs, axis=1)

    def mean(self, outputs):
        return jax.nn.softmax(outputs)


class Squares(CustomLikelihood):
    """`Gaussian` with unit noise, by its log-density alone."""

    def log_prob(self, outputs, targets):
        return jnp.sum(-((targets - outputs) ** 2) / 2 - jnp.log(2 * jnp.pi) / 2, axis=1)


@pytest.mark.parametrize(
    ("custom", "builtin", "targets", "head"),
    [
        (Softmax, "categorical", RNG.integers(0, 3, 30), "general"),
        (Squares, hoarfrost.likelihood.Gaussian(1.0), RNG.normal(size=(30, 3)), "independent"),
    ],
    ids=["softmax", "squares"],
)
@pytest.mark.parametrize("structure", ["full", "dual", "kron", "diag"])
def test_same_posterior_as_the_likelihood_of_the_house(custom, builtin, targets, head, structure):
    likelihood = custom()
    assert isinstance(likelihood, Likelihood) and resolve(likelihood) is likelihood
    assert likelihood.head == head
    data, options = [(X, targets)], {"hessian_structure": structure, "progress": False}
    own = hoarfrost.fit_laplace(linear, PARAMS, data, likelihood=likelihood, **options)
    other = hoarfrost.fit_laplace(linear, PARAMS, data, likelihood=builtin, **options)
    np.testing.assert_allclose(own.precision(), other.precision(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        own.log_marginal_likelihood(), other.log_marginal_likelihood(), rtol=1e-6
    )


def test_predictions_go_through_its_mean():
    data = [(X, RNG.integers(0, 3, 30))]
    own = hoarfrost.fit_laplace(linear, PARAMS, data, likelihood=Softmax(), progress=False)
    other = hoarfrost.fit_laplace(linear, PARAMS, data, progress=False)
    np.testing.assert_allclose(own.predict(X[:5]), other.predict(X[:5], "mc"), atol=1e-5)
    blind = hoarfrost.fit_laplace(
        linear, PARAMS, [(X, RNG.normal(size=(30, 3)))], likelihood=StudentT(), progress=False
    )
    with pytest.raises(InvalidArgumentError, match=r"StudentT does not say .* define mean"):
        blind.predict(X[:5])


def test_fisher_information_of_a_hessian_that_depends_on_the_target():
    posterior = hoarfrost.fit_laplace(
        linear, PARAMS, [(X, RNG.normal(size=(30, 3)))], likelihood=StudentT(3.0), progress=False
    )
    # Class-major Kronecker product, in the order of a (4, 3) kernel.
    gram = (4 / 6) * X.astype(np.float64).T @ X
    np.testing.assert_allclose(posterior.precision(), np.kron(gram, np.eye(3)) + np.eye(12), 1e-5)
    assert StudentT(3.0) == StudentT(3.0) and StudentT(3.0) != StudentT(4.0)
    before = check_likelihood.cache_info().misses
    StudentT(3.0)
    assert check_likelihood.cache_info().misses == before


def variant(**methods):
    """`StudentT` with some methods replaced."""
    return type("Variant", (StudentT,), methods)


@pytest.mark.parametrize(
    ("methods", "error", "message"),
    [
        (
            {"output_curvature": lambda self, f: 1.1 * StudentT.output_curvature(self, f)},
            InvalidArgumentError,
            r"Variant.output_curvature is not the mean negative Hessian .* at the outputs "
            r"\(.*, .*\) its entry \((0, 0|1, 1)\) is 0.785714, and the Hessian's 0\.[67]\d*, a "
            r"difference of 0\.\d+",
        ),
        (
            {"output_curvature": CustomLikelihood.output_curvature},
            InvalidArgumentError,
            "the Hessian of Variant.log_prob depends on the target: at the outputs .* it varies by",
        ),
        (
            {"sample": CustomLikelihood.sample},
            InvalidArgumentError,
            r"so define sample\(outputs, key\) to draw targets from the model",
        ),
        (
            {"output_curvature": lambda self, f: jnp.ones((len(f), 2))},
            ShapeError,
            r"output_curvature gives shape \(8, 2\) .* must be \(8, 2, 2\)",
        ),
        (
            {"log_prob": lambda self, f, y: -((y - f) ** 2)},
            ShapeError,
            r"log_prob gives shape \(16, 2\) .* must be \(16,\), one number a point",
        ),
        (
            {"log_prob": lambda self, f, y: -jnp.sum((y - f - jnp.mean(f, 0)) ** 2, axis=1)},
            InvalidArgumentError,
            "log_prob mixes points: it gives .* for a point alone",
        ),
        (
            {
                "log_prob": lambda self, f, y: jnp.sum((y - f) ** 2, axis=1),
                "output_curvature": CustomLikelihood.output_curvature,
            },
            InvalidArgumentError,
            "not positive semi-definite: at the outputs .* eigenvalue -2",
        ),
        (
            {"log_prob": lambda self, f, y: jnp.sum(jnp.sqrt(y - f), axis=1)},
            NonFiniteError,
            "Variant.log_prob is nan at the outputs .* for the target .* targets that the",
        ),
        (
            {"log_prob": lambda self, f, y: -jnp.sum(jnp.sqrt((y - f) ** 2 * 0), axis=1)},
            NonFiniteError,
            "second derivative of Variant.log_prob holds a NaN",
        ),
        (
            {"sample": lambda self, f, key: jnp.zeros((1, 2))},
            ShapeError,
            r"sample\(outputs, key\) gives shape \(1, 2\)",
        ),
    ],
    ids=[
        "factor",
        "undefined",
        "sample",
        "shape",
        "vector",
        "mixes",
        "negative",
        "nan",
        "derivative",
        "draws",
    ],
)
def test_what_the_check_finds(methods, error, message):
    with pytest.raises(error, match=message):
        variant(**methods)()


def test_targets_and_outputs_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"outputs have shape \(5, 2\); .* \(batch, 3\)"):
        Softmax().check_outputs((5, 2))
    with pytest.raises(ShapeError, match=r"batch 7 have shape \(5,\); .* needs \(batch, 3\)"):
        Squares().check_targets(np.zeros(5), 3, 7)
    with pytest.raises(NonFiniteError, match="batch 7 hold nan"):
        Squares().check_targets(np.full((5, 3), np.nan), 3, 7)


def test_parameters_without_a_hash():
    with pytest.raises(InvalidArgumentError, match=r"no hash.*give tuples in place of lists"):
        StudentT([3.0, 4.0])
