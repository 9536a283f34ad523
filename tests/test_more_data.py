"""More data, and posteriors as priors, against dense algebra and linear-Gaussian closed forms."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hoarfrost
from hoarfrost.errors import DataError, HoarfrostError, InvalidArgumentError, NonFiniteError
from hoarfrost.likelihood import Gaussian

RNG = np.random.default_rng(0)
D, H, C, N = 4, 5, 3, 42
X = RNG.normal(size=(N, D)).astype(np.float32)
PARAMS = {
    "body": RNG.normal(size=(D, H)).astype(np.float32),
    "head": {
        "w": RNG.normal(size=(H, C)).astype(np.float32),
        "b": RNG.normal(size=C).astype(np.float32),
    },
}
TARGETS = {
    "categorical": RNG.integers(0, C, N),
    "bernoulli": RNG.integers(0, 2, (N, C)),
    "poisson": RNG.poisson(2.0, (N, C)),
    "gaussian": RNG.normal(size=(N, C)).astype(np.float32),
    "each": RNG.normal(size=(N, C)).astype(np.float32),
}
EACH = Gaussian((0.5, 1.0, 2.0))
CASES = pytest.mark.parametrize("likelihood", TARGETS)
OF = pytest.mark.parametrize("part", ["head", "every"])
STRUCTURES = pytest.mark.parametrize("structure", ["full", "dual", "kron", "diag"])
PARTS = [slice(0, 17), slice(17, 30), slice(30, 42)]


def network(params, x):
    return jnp.tanh(x @ params["body"]) @ params["head"]["w"] + params["head"]["b"]


def head_only(path, value):
    return "head" in path


def loader(likelihood, *parts):
    return [(X[part], TARGETS[likelihood][part]) for part in parts]


def fitted(likelihood, data, part="head", params=PARAMS, under=None, **options):
    options["likelihood"] = under or (EACH if likelihood == "each" else likelihood)
    options.setdefault("trainable", head_only if part == "head" else None)
    return hoarfrost.fit_laplace(network, params, data, progress=False, **options)


def near(got, expected, tolerance=1e-9):
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def assert_alike(one, other, tolerance=1e-9):
    near(one.precision(), other.precision(), tolerance)
    near(one.log_marginal_likelihood(), other.log_marginal_likelihood(), tolerance)
    near(one.log_likelihood, other.log_likelihood)
    assert one.num_data == other.num_data and one.noise_std == other.noise_std
    for got, expected in zip(
        *map(jax.tree.leaves, (one.predict(X), other.predict(X))), strict=True
    ):
        near(got, expected, 1e-6)


@CASES
@OF
@STRUCTURES
def test_updates_are_as_having_had_all_at_once(likelihood, part, structure):
    whole = fitted(likelihood, loader(likelihood, *PARTS), part, hessian_structure=structure)
    posterior = fitted(likelihood, loader(likelihood, PARTS[1]), part, hessian_structure=structure)
    before = posterior.with_prior_precision(1.0)
    old = before.precision()
    for more in (PARTS[2], PARTS[0]):
        posterior.update(loader(likelihood, more), progress=False)
    assert_alike(posterior, whole)
    # Another that shared its curvature is as it was.
    np.testing.assert_array_equal(before.precision(), old)
    # And it goes on as the whole does.
    assert_alike(posterior.with_prior_precision(0.3), whole.with_prior_precision(0.3))
    posterior.optimize_prior_precision()
    whole.optimize_prior_precision()
    near(posterior.prior_precision, whole.prior_precision, 1e-6)


@pytest.mark.parametrize("likelihood", ["gaussian", "each"])
@OF
def test_updates_after_noise_and_temperature_were_changed(likelihood, part):
    posterior = fitted(likelihood, loader(likelihood, PARTS[0]), part, temperature=0.5)
    posterior.optimize_hyperparameters()
    noise, prior = posterior.noise_std, posterior.prior_precision
    posterior.update(loader(likelihood, *PARTS[1:]), progress=False)
    whole = fitted(
        likelihood,
        loader(likelihood, *PARTS),
        part,
        under=Gaussian(noise),
        prior_precision=prior,
        temperature=0.5,
    )
    assert posterior.tuning is None
    # Rows of a Jacobian are scaled by the noise in float32.
    assert_alike(posterior, whole, 1e-9 if part == "head" else 2e-5)


@OF
def test_updates_of_a_curvature_that_is_not_kept(part):
    posterior = fitted("categorical", loader("categorical", PARTS[0]), part, keep_curvature=False)
    if part == "head":
        with pytest.raises(InvalidArgumentError, match="update needs the curvature"):
            posterior.update(loader("categorical", PARTS[1]))
        return
    posterior.update(loader("categorical", *PARTS[1:]), progress=False)
    assert posterior.curvature is None
    assert_alike(posterior, fitted("categorical", loader("categorical", *PARTS), part))


BAD = {
    "labels": ([(X, np.full(N, 7))], InvalidArgumentError),
    "nan": ([(X * np.nan, TARGETS["categorical"])], NonFiniteError),
    "later": ([*loader("categorical", PARTS[0]), (X, np.full(N, 9))], InvalidArgumentError),
    "form": ([({"x": X}, TARGETS["categorical"])], DataError),
    "empty": ([], DataError),
    "none": (None, HoarfrostError),
}


@pytest.mark.parametrize("why", BAD)
def test_an_update_that_fails_leaves_the_posterior(why):
    data, error = BAD[why]
    posterior = fitted("categorical", loader("categorical", PARTS[0]))
    precision, evidence = posterior.precision(), posterior.log_marginal_likelihood()
    with pytest.raises(error):
        posterior.update(data, progress=False)
    np.testing.assert_array_equal(posterior.precision(), precision)
    assert posterior.log_marginal_likelihood() == evidence and posterior.num_data == 17


def test_updates_with_masks_and_positions():
    def tokens(params, x):
        return jnp.tanh(x) @ params["w"]

    x = RNG.normal(size=(8, 5, D)).astype(np.float32)
    y = RNG.integers(0, C, (8, 5))
    y[RNG.random((8, 5)) < 0.3] = -1
    params = {"w": jnp.asarray(RNG.normal(size=(D, C)), jnp.float32)}
    options = {"ignored_label": -1, "progress": False}
    whole = hoarfrost.fit_laplace(tokens, params, [(x, y)], **options)
    posterior = hoarfrost.fit_laplace(tokens, params, [(x[:4], y[:4])], **options)
    # Sequences of another length, too.
    posterior.update([(x[4:, :3], y[4:, :3])], progress=False)
    posterior.update([(x[4:, 3:], y[4:, 3:])], progress=False)
    near(posterior.precision(), whole.precision())
    assert posterior.num_data == whole.num_data
    with pytest.raises(DataError, match="no target of data_loader counts"):
        posterior.update([(x[:4], np.full((4, 5), -1))], progress=False)


@CASES
@OF
@pytest.mark.parametrize("structure", ["full", "diag"])
def test_a_posterior_is_the_prior_of_the_next(likelihood, part, structure):
    first = fitted(
        likelihood,
        loader(likelihood, PARTS[0]),
        part,
        hessian_structure=structure,
        prior_precision=0.5,
    )
    moved = jax.tree.map(lambda x: x + np.float32(0.125), PARAMS)
    if part == "head":
        moved["body"] = PARAMS["body"]
    data = loader(likelihood, *PARTS[1:])
    options = {"part": part, "params": moved, "hessian_structure": structure}
    second = fitted(likelihood, data, prior=first, **options)
    alone = fitted(likelihood, data, prior_precision=1.0, **options)
    new = alone.precision() - np.eye(alone.num_params)
    if structure == "diag":
        new = np.diag(np.diag(new))
    old = first.precision()
    near(second.precision(), old + new)
    deviation = second.mean - first.mean
    np.testing.assert_array_equal(second.prior_mean, first.mean)
    evidence = second.log_likelihood + 0.5 * (
        np.linalg.slogdet(old)[1] - deviation @ old @ deviation - np.linalg.slogdet(old + new)[1]
    )
    near(second.log_marginal_likelihood(), evidence)
    covariance = np.linalg.inv(old + new)
    near(second.covariance(), covariance)
    draws = second.sample(0, 4000)
    flat = np.concatenate(
        [np.asarray(x, float).reshape(4000, -1) for x in jax.tree.leaves(draws)], axis=1
    )
    root = np.linalg.cholesky(old + new)
    white = (flat - second.mean) @ root
    # Whitened draws: each entry of the covariance is off by about 1/sqrt(4000).
    assert np.abs(np.cov(white.T) - np.eye(len(root))).max() < 6 / np.sqrt(4000)


@CASES
@OF
def test_kronecker_factors_of_a_prior_and_of_new_data_are_added(likelihood, part):
    """Both factors are of all points; the evidence is that of its own two precisions."""
    options = {"part": part, "hessian_structure": "kron"}
    first = fitted(likelihood, loader(likelihood, PARTS[0]), prior_precision=0.5, **options)
    second = fitted(likelihood, loader(likelihood, *PARTS[1:]), prior=first, **options)
    whole = fitted(likelihood, loader(likelihood, *PARTS), prior_precision=0.5, **options)
    old, new = first.precision(), second.precision()
    near(new, whole.precision())
    log_det = np.linalg.slogdet(old)[1] - np.linalg.slogdet(new)[1]
    near(second.log_marginal_likelihood(), second.log_likelihood + log_det / 2)


def linear(params, x):
    return x @ params["w"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("structure", ["full", "kron", "diag"])
def test_a_linear_gaussian_model_fed_in_parts(order, structure):
    """Mean, covariance and evidence of all data, in whichever order they came."""
    std, tau, y = 0.7, 0.4, TARGETS["gaussian"][:, :1].astype(float)
    # Orthogonal columns make the diagonal exact, too; of each part, so that every step is.
    x = X.astype(float).copy()
    if structure == "diag":
        for part in PARTS:
            x[part] = np.linalg.qr(x[part])[0]
    x = x.astype(np.float32).astype(float)
    precision, shift, prior, evidence = tau * np.eye(D), np.zeros(D), None, 0.0
    for part in (PARTS[k] for k in order):
        precision = precision + x[part].T @ x[part] / std**2
        shift = shift + x[part].T @ y[part, 0] / std**2
        mean = np.linalg.solve(precision, shift)
        options = {"prior_precision": tau} if prior is None else {"prior": prior}
        with jax.enable_x64(True):
            prior = hoarfrost.fit_laplace(
                linear,
                {"w": jnp.asarray(mean[:, None])},
                [(x[part], y[part])],
                likelihood=Gaussian(std),
                hessian_structure=structure,
                progress=False,
                **options,
            )
        evidence += prior.log_marginal_likelihood()
    tolerance = 1e-9 if structure == "full" else 1e-6
    near(prior.mean, mean)
    near(prior.precision(), precision, tolerance)
    # The chain rule: the evidences of the parts, each given those before, are that of all.
    covariance = std**2 * np.eye(N) + x @ x.T / tau
    together = -0.5 * (
        np.linalg.slogdet(2 * np.pi * covariance)[1]
        + y[:, 0] @ np.linalg.solve(covariance, y[:, 0])
    )
    near(evidence, together, tolerance)


def test_noise_and_temperature_may_differ_between_fits():
    first = fitted("gaussian", loader("gaussian", PARTS[0]), under=Gaussian(0.5))
    data = loader("gaussian", PARTS[1])
    second = fitted("gaussian", data, under=Gaussian(2.0), prior=first, temperature=3.0)
    alone = fitted("gaussian", data, under=Gaussian(2.0), temperature=3.0)
    near(second.precision(), first.precision() + alone.precision() - np.eye(alone.num_params))
    tuned = fitted("gaussian", loader("gaussian", PARTS[0]))
    tuned.optimize_hyperparameters()
    second = fitted("gaussian", data, under=Gaussian(2.0), prior=tuned)
    alone = fitted("gaussian", data, under=Gaussian(2.0))
    near(second.precision(), tuned.precision() + alone.precision() - np.eye(alone.num_params))
    with pytest.raises(InvalidArgumentError, match="noise_std changes by another factor"):
        fitted("gaussian", data, under=EACH, prior=first)


def test_posteriors_that_are_no_prior_of_this_fit():
    data = loader("categorical", PARTS[0])
    first = fitted("categorical", data)
    for options, message in [
        ({"prior": 3.0}, "prior is a float"),
        ({"prior": first, "prior_precision": 2.0}, "leave them out"),
        ({"prior": first, "prior_mean": 2.0}, "leave them out"),
        ({"prior": first, "hessian_structure": "diag"}, "hessian_structure is 'diag'"),
        ({"prior": first, "trainable": None}, "over other parameters.*body"),
    ]:
        with pytest.raises(InvalidArgumentError, match=message):
            fitted("categorical", data, **options)
    beside = {**PARAMS, "body": -PARAMS["body"]}
    with pytest.raises(InvalidArgumentError, match="beside other frozen ones"):
        fitted("categorical", data, params=beside, prior=first)
    with pytest.raises(InvalidArgumentError, match="leave them out"):
        tree = {"head": {"w": np.ones((H, C)), "b": np.ones(C)}}
        fitted("categorical", data, prior=first, prior_precision=tree)
    with pytest.raises(InvalidArgumentError, match="another form"):
        fitted("bernoulli", loader("bernoulli", PARTS[0]), prior=first)
    unkept = fitted("categorical", data, keep_curvature=False)
    with pytest.raises(InvalidArgumentError, match="a posterior as prior needs the curvature"):
        fitted("categorical", data, prior=unkept)


def test_what_such_a_posterior_refuses_and_what_not(tmp_path):
    first = fitted("gaussian", loader("gaussian", PARTS[0]))
    second = fitted("gaussian", loader("gaussian", PARTS[1]), prior=first)
    for verb in (
        lambda: second.with_prior_precision(2.0),
        lambda: second.log_marginal_likelihood(2.0),
        lambda: second.log_marginal_likelihood(noise_std=2.0),
        lambda: second.with_temperature(2.0),
        second.optimize_prior_precision,
        second.optimize_hyperparameters,
        lambda: second.optimize_on(loader("gaussian", PARTS[2])),
    ):
        with pytest.raises(InvalidArgumentError, match="is an earlier posterior"):
            verb()
    second.update(loader("gaussian", PARTS[2]), progress=False)
    near(second.precision(), fitted("gaussian", loader("gaussian", *PARTS)).precision())
    second.save(tmp_path / "file")
    again = hoarfrost.load_laplace(tmp_path / "file", model=network)
    assert again.earlier == second.earlier
    assert again.log_marginal_likelihood() == second.log_marginal_likelihood()
    third = fitted("gaussian", loader("gaussian", PARTS[0]), prior=again)
    near(
        third.precision(),
        again.precision() + first.precision() - np.eye(first.num_params),
    )
