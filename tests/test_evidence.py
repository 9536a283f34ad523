"""The evidence: closed forms of Bayesian linear regression, other noise, reference values."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.laplace import fit_laplace
from hoarfrost.laplace.plan import make_plan
from hoarfrost.laplace.structure.gaussian_head import GramFactor, SeparateFactors
from hoarfrost.likelihood import Gaussian

REFERENCE = Path(__file__).parent / "reference"


def linear(params, x):
    return x @ params["w"] + params["b"][None, :]


def bent(params, x):
    """A network without a last layer's structure."""
    return jnp.tanh(x @ params["w"]) * params["b"][None, :]


@pytest.fixture
def regression(x64):
    """Two outputs with their own noise; parameters at the MAP."""
    generator = np.random.default_rng(3)
    num_data, num_inputs = 30, 4
    x = generator.standard_normal((num_data, num_inputs))
    phi = np.concatenate([x, np.ones((num_data, 1))], axis=1)
    truth = generator.standard_normal((num_inputs + 1, 2))
    noise = np.array([0.3, 0.9])
    y = phi @ truth + noise * generator.standard_normal((num_data, 2))
    return SimpleNamespace(x=x, y=y, phi=phi, noise=noise)


def at_map(data, tau, noise_std):
    """The MAP in closed form, as a parameter tree."""
    columns = [
        np.linalg.solve(
            data.phi.T @ data.phi / s**2 + tau * np.eye(data.phi.shape[1]), data.phi.T @ y / s**2
        )
        for y, s in zip(data.y.T, np.broadcast_to(noise_std, 2), strict=True)
    ]
    stacked = np.stack(columns, axis=1)
    return {"w": jnp.asarray(stacked[:-1]), "b": jnp.asarray(stacked[-1])}


def fit(data, params, noise_std, model=linear, **options):
    return fit_laplace(
        model,
        params,
        [(data.x[:17], data.y[:17]), (data.x[17:], data.y[17:])],
        likelihood=Gaussian(noise_std),
        progress=False,
        **options,
    )


def exact_evidence(data, tau, noise_std):
    """``sum_c log N(y_c; 0, sigma_c^2 I + Phi Phi^T / tau)``."""
    total = 0.0
    for y, s in zip(data.y.T, np.broadcast_to(noise_std, 2), strict=True):
        marginal = s**2 * np.eye(len(y)) + data.phi @ data.phi.T / tau
        log_det = np.linalg.slogdet(2 * np.pi * marginal)[1]
        total -= 0.5 * (y @ np.linalg.solve(marginal, y) + log_det)
    return total


@pytest.mark.parametrize("noise_std", [0.5, (0.3, 1.2)])
@pytest.mark.parametrize("tau", [1e-3, 0.7, 50.0])
def test_linear_regression_by_a_second_route(regression, tau, noise_std):
    posterior = fit(regression, at_map(regression, tau, noise_std), noise_std, prior_precision=tau)
    assert isinstance(posterior.factor, GramFactor)
    expected = exact_evidence(regression, tau, noise_std)
    np.testing.assert_allclose(posterior.log_marginal_likelihood(), expected, rtol=1e-9)
    # The same through prior and noise asked for afterwards.
    other = fit(regression, at_map(regression, tau, noise_std), (2.0, 0.1), prior_precision=7.0)
    np.testing.assert_allclose(other.log_marginal_likelihood(tau, noise_std), expected, rtol=1e-9)


def test_posterior_and_predictive_of_linear_regression(regression):
    tau, noise = 0.7, (0.3, 1.2)
    params = at_map(regression, tau, noise)
    posterior = fit(regression, params, noise, prior_precision=tau)
    blocks = [
        np.linalg.inv(regression.phi.T @ regression.phi / s**2 + tau * np.eye(5)) for s in noise
    ]
    # Ravelled: b (2), then w (4, 2).
    order = [np.array([*range(2 + c, 10, 2), c]) for c in range(2)]
    expected = np.zeros((10, 10))
    for index, block in zip(order, blocks, strict=True):
        expected[np.ix_(index, index)] = block
    np.testing.assert_allclose(posterior.covariance(), expected, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(posterior.precision(), np.linalg.inv(expected), atol=1e-9)
    np.testing.assert_allclose(posterior.variance(), np.diag(expected), rtol=1e-10)
    variance = np.stack(
        [np.einsum("bi,ij,bj->b", regression.phi, block, regression.phi) for block in blocks], 1
    )
    np.testing.assert_allclose(posterior.functional_variance(regression.x), variance, rtol=1e-10)
    np.testing.assert_allclose(
        posterior.functional_covariance(regression.x),
        np.eye(2) * variance[:, :, None],
        rtol=1e-10,
    )
    mean, total = posterior.predict(regression.x)
    np.testing.assert_allclose(mean, linear(params, regression.x), rtol=1e-10)
    np.testing.assert_allclose(total, variance + np.square(noise), rtol=1e-10)


PRIORS = {
    "shared": {"w": 0.4, "b": 3.0},
    "separate": {"w": np.linspace(0.1, 4, 8).reshape(4, 2), "b": np.array([0.5, 2.0])},
}


@pytest.mark.parametrize("prior", PRIORS)
def test_every_member_of_a_gaussian_head(regression, prior):
    noise = (0.3, 1.2)
    params = at_map(regression, 1.0, noise)
    posterior = fit(regression, params, noise, prior_precision=PRIORS[prior])
    assert isinstance(posterior.factor, GramFactor if prior == "shared" else SeparateFactors)
    flat, unravel = ravel_pytree(params)
    jacobian = np.asarray(jax.jacobian(lambda v: linear(unravel(v), regression.x))(flat))
    precision = np.einsum("ncp,c,ncq->pq", jacobian, np.square(noise) ** -1.0, jacobian)
    precision += np.diag(posterior.prior.vector)
    covariance = np.linalg.inv(precision)
    np.testing.assert_allclose(posterior.precision(), precision, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(posterior.covariance(), covariance, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(posterior.variance(), np.diag(covariance), rtol=1e-10)
    functional = np.einsum("ncp,pq,ndq->ncd", jacobian, covariance, jacobian)
    np.testing.assert_allclose(
        posterior.functional_covariance(regression.x), functional, rtol=1e-9, atol=1e-13
    )
    np.testing.assert_allclose(
        posterior.functional_variance(regression.x), np.einsum("ncc->nc", functional), rtol=1e-9
    )
    np.testing.assert_allclose(
        posterior.factor.log_det(), np.linalg.slogdet(precision)[1], rtol=1e-10
    )
    assert posterior.factor.nbytes > 0
    draws = posterior.factor.deviations(5, 20_000)
    scatter = (draws.T @ draws) / len(draws)
    unit = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    np.testing.assert_allclose(scatter / unit, covariance / unit, atol=0.05)


@pytest.mark.parametrize("hessian_structure", ["full", "dual", "kron", "diag"])
@pytest.mark.parametrize("model", [linear, bent])
def test_other_noise_equals_a_fit_with_it(regression, model, hessian_structure):
    """Every structure takes other noise without another pass over the data."""
    params = at_map(regression, 1.0, 0.5)
    options = {"model": model, "hessian_structure": hessian_structure, "prior_precision": 0.8}
    posterior = fit(regression, params, 0.5, **options)
    expected = fit(regression, params, 1.3, **(options | {"prior_precision": 2.5}))
    np.testing.assert_allclose(
        posterior.log_marginal_likelihood(2.5, 1.3), expected.log_marginal_likelihood(), rtol=1e-10
    )
    # Its own values are not touched by that.
    assert (posterior.prior_precision, posterior.noise_std) == (0.8, 0.5)
    _, tuned_std = posterior.optimize_hyperparameters()
    again = fit(
        regression, params, tuned_std, **(options | {"prior_precision": posterior.prior_precision})
    )
    np.testing.assert_allclose(
        posterior.log_marginal_likelihood(), again.log_marginal_likelihood(), rtol=1e-10
    )
    # Back to the noise of the first fit, whose curvature is scaled by one.
    before = fit(
        regression, params, 0.5, **(options | {"prior_precision": posterior.prior_precision})
    )
    np.testing.assert_allclose(
        posterior.log_marginal_likelihood(noise_std=0.5),
        before.log_marginal_likelihood(),
        rtol=1e-10,
    )
    np.testing.assert_allclose(posterior.precision(), again.precision(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(posterior.covariance(), again.covariance(), rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(posterior.variance(), again.variance(), rtol=1e-9)
    x = regression.x
    np.testing.assert_allclose(
        posterior.functional_covariance(x), again.functional_covariance(x), rtol=1e-8, atol=1e-12
    )
    np.testing.assert_allclose(
        posterior.functional_variance(x), again.functional_variance(x), rtol=1e-9
    )
    for mine, other in zip(posterior.predict(x), again.predict(x), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-9)
    if not (model is linear and hessian_structure == "full"):  # eigenvectors have no fixed sign
        mine, other = (ravel_pytree(p.sample(4, 3))[0] for p in (posterior, again))
        np.testing.assert_allclose(mine, other, rtol=1e-8, atol=1e-10)


def test_last_layer_classification_by_the_hessian_of_the_log_joint(small, x64):
    """For a last layer the GGN is the Hessian, so that automatic differentiation is a reference."""
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), small.params)
    tau = 0.6

    def log_joint(flat):
        outputs = small.apply({**params, "last": unravel(flat)}, small.x.astype(np.float64))
        chosen = jax.nn.log_softmax(outputs)[np.arange(12), small.y]
        prior = -0.5 * tau * flat @ flat + 0.5 * len(flat) * np.log(tau / (2 * np.pi))
        return chosen.sum() + prior

    flat, unravel = ravel_pytree(params["last"])
    log_det = np.linalg.slogdet(-np.asarray(jax.hessian(log_joint)(flat)))[1]
    expected = log_joint(flat) + 0.5 * (len(flat) * np.log(2 * np.pi) - log_det)
    posterior = fit_laplace(
        small.apply,
        params,
        [(small.x.astype(np.float64), small.y)],
        trainable=lambda path, _: "last" in path,
        progress=False,
    )
    np.testing.assert_allclose(posterior.log_marginal_likelihood(tau), expected, rtol=1e-10)


def two_layers(params, x):
    hidden = jax.nn.relu(x @ params["hidden"]["kernel"] + params["hidden"]["bias"][None, :])
    return hidden @ params["head"]["kernel"] + params["head"]["bias"][None, :]


@pytest.fixture(scope="module")
def diabetes():
    with np.load(REFERENCE / "laplace_torch.npz") as arrays:
        values = {k.removeprefix("diabetes_"): v for k, v in arrays.items() if "digits" not in k}
    params = {
        layer: {leaf: values[f"{layer}_{leaf}"] for leaf in ("kernel", "bias")}
        for layer in ("hidden", "head")
    }
    return SimpleNamespace(params=params, **values)


@pytest.mark.parametrize("subset", ["net", "head"])
def test_regression_network_equals_laplace_torch(diabetes, subset, x64):
    posterior = fit_laplace(
        two_layers,
        diabetes.params,
        [(diabetes.x, diabetes.y.reshape(-1, 1))],
        likelihood=Gaussian(float(diabetes.sigma)),
        trainable=None if subset == "net" else lambda path, _: "head" in path,
        progress=False,
    )
    expected = getattr(diabetes, f"{subset}_logev")
    for index, tau in enumerate(diabetes.taus):
        np.testing.assert_allclose(
            posterior.log_marginal_likelihood(tau), expected[index], rtol=1e-9
        )
        if subset == "net":
            got = posterior.with_prior_precision(tau).functional_covariance(diabetes.x_test)
            np.testing.assert_allclose(got, diabetes.net_f_var[index], rtol=1e-7)


def test_noise_that_cannot_be_changed(regression, small):
    classes = fit_laplace(small.apply, small.params, small.loader, progress=False)
    assert classes.noise_std is None
    with pytest.raises(InvalidArgumentError, match=r"noise_std is 0\.5, but the likelihood 'cat"):
        classes.log_marginal_likelihood(noise_std=0.5)
    params = at_map(regression, 1.0, 0.5)
    posterior = fit(regression, params, (0.3, 1.2))
    assert posterior.noise_std == (0.3, 1.2)
    with pytest.raises(ShapeError, match="noise_std holds 3 numbers but the network has 2 outputs"):
        posterior.log_marginal_likelihood(noise_std=(1.0, 2.0, 3.0))
    for wrong in (0.0, -1.0, np.inf, "loud", True, (1.0, np.nan)):
        with pytest.raises(InvalidArgumentError, match="give a positive number, or one for each"):
            posterior.log_marginal_likelihood(noise_std=wrong)
    general = fit(regression, params, (0.3, 1.2), bent)
    assert np.isfinite(general.log_marginal_likelihood(noise_std=(0.6, 2.4)))
    with pytest.raises(InvalidArgumentError, match="changes by another factor for each output"):
        general.log_marginal_likelihood(noise_std=(0.6, 1.2))
    forgotten = fit(regression, params, 0.5, keep_curvature=False)
    with pytest.raises(InvalidArgumentError, match="noise_std cannot be changed: the curvature"):
        forgotten.log_marginal_likelihood(noise_std=0.4)


def test_the_plan_of_a_gaussian_head_does_not_grow_with_outputs_squared():
    """Millions of parameters: one matrix of edge D', whatever the number of outputs."""
    plan = make_plan(10_000 * 513, "gaussian", 10_000, 513)
    assert plan.bytes_needed("full", True) < 300 * 2**20
    separate = make_plan(10 * 513, "gaussian", 10, 513, same_prior=False)
    assert separate.costs["full"].factor > 5 * 4 * 513**2


def test_a_gaussian_head_of_two_million_parameters():
    generator = np.random.default_rng(0)
    x = generator.standard_normal((50, 200)).astype(np.float32)
    params = {"w": np.zeros((200, 10_000), np.float32)}
    y = generator.standard_normal((50, 10_000)).astype(np.float32)
    posterior = fit_laplace(
        lambda p, x: x @ p["w"], params, [(x, y)], likelihood=Gaussian(0.5), progress=False
    )
    assert posterior.num_params == 2_000_000
    values = np.linalg.eigvalsh(x.astype(np.float64).T @ x)
    expected = 10_000 * np.sum(np.log(4 * np.maximum(values, 0) + 1))
    np.testing.assert_allclose(posterior.factor.log_det(), expected, rtol=1e-6)
