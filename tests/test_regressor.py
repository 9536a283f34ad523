"""`ProbRegressor`: two networks, any part of them trainable, and its predictive distribution."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.flatten_util import ravel_pytree

from hoarfrost.data import DataLoader
from hoarfrost.errors import InvalidArgumentError, NonFiniteError, NotFittedError, ShapeError
from hoarfrost.predictive import numbers
from hoarfrost.prior import DiagonalGaussianPrior, IsotropicGaussianPrior
from hoarfrost.prob_model import (
    FitCheckpointer,
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
    ProbRegressor,
)

RNG = np.random.default_rng(3)
X = RNG.normal(size=(30, 2)).astype(np.float32)
Y = (np.sin(X) + 0.3 * RNG.normal(size=X.shape)).astype(np.float32)
ADAM = optax.adam(1e-2)
FAST = optax.adam(0.05)
KEY = jax.random.PRNGKey(5)


class Net(nn.Module):
    """One hidden layer, with a BatchNorm on request."""

    width: int = 1
    norm: bool = False

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(4, name="body")(x)
        if self.norm:
            x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        return nn.Dense(self.width, name="head")(jnp.tanh(x))


def loader(targets=Y):
    return DataLoader.from_array_data((X, targets), batch_size=12)


def config(freeze_fun=None, **options):
    optimizer = FitOptimizer(
        method=ADAM, n_epochs=options.pop("n_epochs", 3), freeze_fun=freeze_fun
    )
    return FitConfig(optimizer=optimizer, monitor=FitMonitor(verbose=False, **options))


def in_networks(*prefixes):
    """A freeze function: what lies under one of these paths is trainable."""

    def freeze_fun(path, value):
        return "trainable" if any(path[: len(p)] == p for p in prefixes) else "frozen"

    return freeze_fun


MEAN_HEAD = ("model", "params", "head")
NOISE_HEAD = ("lik_log_var", "params", "head")


def fit(model, noise, targets=Y, freeze_fun=None, tune=False, **options):
    approximator = LaplacePosteriorApproximator(tune_prior_log_variance=tune)
    prob_model = ProbRegressor(model, noise, posterior_approximator=approximator, **options)
    status = prob_model.train(
        loader(targets), fit_config=config(freeze_fun), map_fit_config=config()
    )
    return prob_model, status["fit_status"]


@pytest.fixture(scope="module")
def both():
    """Two targets, the last layers of both networks trainable."""
    return fit(Net(2), Net(2), freeze_fun=in_networks(MEAN_HEAD, NOISE_HEAD))


@pytest.mark.parametrize("names", [(MEAN_HEAD,), (NOISE_HEAD,), (("model",), ("lik_log_var",))])
def test_precision_is_the_fisher_information_of_the_subset(names):
    prob_model, status = fit(Net(2), Net(2), freeze_fun=in_networks(*names))
    laplace, state = prob_model.posterior.laplace, prob_model.posterior.state.get()
    assert status["laplace"]["num_params"] == laplace.num_params
    assert set(state.params) == {"model", "lik_log_var"}
    partition = laplace.linearised.subset.partition
    trainable, frozen = partition.split(state.params)
    flat, unravel = ravel_pytree(trainable)

    def outputs(vector):
        return prob_model.joint.network.evaluate(partition.merge(unravel(vector), frozen), {}, X)

    jacobian = np.asarray(jax.jit(jax.jacrev(outputs))(flat), np.float64)
    log_variance = np.asarray(outputs(flat), np.float64)[:, 2:]
    weights = np.concatenate([np.exp(-log_variance), np.full_like(log_variance, 0.5)], axis=1)
    expected = np.einsum("ncp,nc,ncq->pq", jacobian, weights, jacobian) + np.eye(flat.size)
    np.testing.assert_allclose(laplace.precision(), expected, rtol=2e-5, atol=2e-5)
    # A draw differs from the MAP where it is trainable and nowhere else.
    drawn = prob_model.posterior.sample(KEY).params
    same = jax.tree.leaves(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), drawn, state.params))
    assert same == [not chosen for chosen in partition.mask]


def test_loss_is_the_negative_log_joint_and_one_target_may_lack_its_axis():
    flat, column = (
        fit(Net(), Net(), targets, freeze_fun=in_networks(MEAN_HEAD))
        for targets in (Y[:, 0], Y[:, :1])
    )
    np.testing.assert_array_equal(flat[1]["map"]["loss"], column[1]["map"]["loss"])
    params = flat[0].posterior.state.get().params
    jax.tree.map(np.testing.assert_array_equal, params, column[0].posterior.state.get().params)
    inputs = loader().to_inputs_loader()
    means = [model.predictive.mean(inputs, rng=KEY) for model, _ in (flat, column)]
    assert means[0].shape == (30, 1)
    np.testing.assert_array_equal(*means)
    scores = [
        flat[0].predictive.log_prob(loader(targets), rng=KEY) for targets in (Y[:, 0], Y[:, :1])
    ]
    np.testing.assert_array_equal(*scores)
    # One batch of all data, one epoch: its loss is that of the initial parameters.
    whole = DataLoader.from_array_data((X, Y[:, 0]))
    model = ProbRegressor(Net(), Net(), posterior_approximator=MAPPosteriorApproximator())
    status = model.train(whole, fit_config=config(n_epochs=1))["fit_status"]
    start = model.joint.init((2,)).params
    outputs = np.asarray(model.joint.network.evaluate(start, {}, X), np.float64)
    mean, log_variance = outputs[:, 0], outputs[:, 1]
    terms = np.exp(-log_variance) * (Y[:, 0] - mean) ** 2 + log_variance + math.log(2 * math.pi)
    vector = np.asarray(ravel_pytree(start)[0], np.float64)
    prior = 0.5 * (vector @ vector + vector.size * math.log(2 * math.pi))
    np.testing.assert_allclose(status["loss"][0], terms.sum() / 2 + prior, rtol=1e-5)
    assert not np.allclose(
        start["model"]["params"]["body"]["kernel"], start["lik_log_var"]["params"]["body"]["kernel"]
    )


@pytest.mark.parametrize("norm", [(False, True), (True, True)])
def test_batch_norm_in_either_network(norm):
    frozen = in_networks(MEAN_HEAD)
    prob_model, _ = fit(Net(2, norm[0]), Net(2, norm[1]), freeze_fun=frozen)
    state = prob_model.posterior.state.get()
    names = [n for n, has in zip(("model", "lik_log_var"), norm, strict=True) if has]
    assert sorted(state.mutable) == sorted(names)
    statistics = [state.mutable[name]["batch_stats"]["norm"]["mean"] for name in names]
    assert all(np.any(np.abs(values) > 1e-3) for values in statistics)
    if all(norm):
        assert not np.allclose(*statistics)
    assert prob_model.predictive.mean(loader().to_inputs_loader(), rng=KEY).shape == (30, 2)
    # A network that is frozen keeps its statistics while the other one is trained further.
    further = FitCheckpointer(start_from_current_state=True)
    on = ProbRegressor(
        Net(2, norm[0]), Net(2, norm[1]), posterior_approximator=MAPPosteriorApproximator()
    )
    on.posterior.state.put(state)
    options = config(in_networks(("model",)))
    on.train(
        loader(),
        fit_config=FitConfig(
            optimizer=options.optimizer, monitor=options.monitor, checkpointer=further
        ),
    )
    after = on.posterior.state.get()
    for name in names:
        pair = (state.mutable[name], after.mutable[name])
        equal = jax.tree.leaves(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), *pair))
        assert all(equal) == (name == "lik_log_var")


def test_predictive_is_the_mixture_of_its_outputs(both):
    prob_model, _ = both
    predictive, inputs, data = prob_model.predictive, loader().to_inputs_loader(), loader()
    options = {"n_posterior_samples": 7, "rng": KEY}
    outputs = np.asarray(predictive.sample_calibrated_outputs(inputs, 7, KEY), np.float64)
    assert outputs.shape == (7, 30, 4)
    means, variances = outputs[..., :2], np.exp(outputs[..., 2:])
    log_p = -0.5 * np.sum((Y - means) ** 2 / variances + np.log(2 * np.pi * variances), axis=2)
    expected = {
        "mean": means.mean(0),
        "mode": means.mean(0),
        "aleatoric_variance": variances.mean(0),
        "epistemic_variance": means.var(0),
        "variance": variances.mean(0) + means.var(0),
        "std": np.sqrt(variances.mean(0) + means.var(0)),
        "aleatoric_entropy": np.sum(0.5 * np.log(2 * np.pi * np.e * variances), axis=2).mean(0),
    }
    for name, value in expected.items():
        got = getattr(predictive, name)(inputs, **options)
        np.testing.assert_allclose(got, value, rtol=2e-4, atol=1e-6, err_msg=name)
    ensemble = predictive.ensemble_log_prob(data, **options)
    np.testing.assert_allclose(ensemble, log_p, rtol=1e-4, atol=1e-5)
    mixed = np.log(np.mean(np.exp(log_p), axis=0))
    np.testing.assert_allclose(predictive.log_prob(data, **options), mixed, rtol=1e-4, atol=1e-5)


def test_quantiles_invert_the_mixture(both):
    predictive, inputs = both[0].predictive, loader().to_inputs_loader()
    levels = [0.025, 0.5, 0.9]
    found = predictive.quantile(levels, inputs, 9, KEY)
    outputs = predictive.sample_calibrated_outputs(inputs, 9, KEY)
    means, stds = numbers.means_and_stds(outputs)
    for level, quantile in zip(levels, found, strict=True):
        below = jnp.mean(jax.scipy.special.ndtr((quantile - means) / stds), axis=0)
        np.testing.assert_allclose(below, level, atol=2e-6)
    np.testing.assert_array_equal(predictive.quantile(0.5, inputs, 9, KEY), found[1])
    assert predictive.quantile(np.array([0.5]), inputs, 9, KEY).shape == (1, 30, 2)
    assert np.any(predictive.quantile(0.5, inputs, 8, KEY) != found[1])


def test_samples_have_the_predictive_moments(both):
    predictive = both[0].predictive
    inputs = DataLoader.from_array_data((X[:3], Y[:3])).to_inputs_loader()
    drawn, aux = predictive.sample(inputs, 4000, ["outputs"], KEY)
    assert drawn.shape == (4000, 3, 2) and aux["outputs"].shape == (4000, 3, 4)
    variance = predictive.variance(inputs, 4000, rng=KEY)
    mean = predictive.mean(inputs, 4000, rng=KEY)
    error = np.sqrt(variance / 4000)
    assert np.all(np.abs(drawn.mean(0) - mean) < 5 * error)
    np.testing.assert_allclose(drawn.var(0), variance, rtol=0.15)
    assert np.std(np.asarray(aux["outputs"]), axis=0).min() > 0


def test_entropies(both):
    predictive, inputs = both[0].predictive, loader().to_inputs_loader()
    many = {"n_posterior_samples": 5, "rng": KEY, "n_target_samples": 400}
    total, aleatoric, epistemic = (
        np.asarray(getattr(predictive, name)(inputs, **many))
        for name in ("entropy", "aleatoric_entropy", "epistemic_entropy")
    )
    assert total.shape == aleatoric.shape == epistemic.shape == (30,)
    np.testing.assert_allclose(total - aleatoric, epistemic, atol=1e-5)
    assert np.all(epistemic <= math.log(5)) and epistemic.mean() > 0
    # By quadrature for the first target alone, of a mixture that is known.
    outputs = jnp.asarray([[[0.0, 0.0]], [[3.0, 1.0]]])
    grid = np.linspace(-12, 15, 20001)
    std = np.exp([0.0, 0.5])
    density = np.mean(
        np.exp(-0.5 * ((grid[:, None] - [0.0, 3.0]) / std) ** 2) / (std * math.sqrt(2 * math.pi)), 1
    )
    expected = -np.sum(density * np.log(density)) * (grid[1] - grid[0])
    got = numbers.entropy(outputs, KEY, 4000)
    np.testing.assert_allclose(got, [expected], atol=0.03)
    fewer = predictive.entropy(inputs, **{**many, "n_target_samples": 2})
    assert np.any(fewer != total)


def test_credible_intervals():
    prob_model, _ = fit(Net(), Net(), Y[:, 0], freeze_fun=in_networks(MEAN_HEAD), tune=True)
    predictive, inputs = prob_model.predictive, loader().to_inputs_loader()
    ends = predictive.credible_interval(inputs, 20, 0.2, rng=KEY)
    quantiles = predictive.quantile([0.1, 0.9], inputs, 20, KEY)
    np.testing.assert_allclose(ends, np.asarray(quantiles)[:, :, 0].T)
    for kind, level in (("left-tailed", 0.2), ("right-tailed", 0.8)):
        end = predictive.credible_interval(inputs, 20, 0.2, kind, KEY)
        assert end.shape == (30, 1)
        np.testing.assert_allclose(end, predictive.quantile(level, inputs, 20, KEY))
    # Of a point mass the interval is that of one Gaussian.
    on = ProbRegressor(Net(), Net(), posterior_approximator=MAPPosteriorApproximator())
    on.posterior.state.put(prob_model.posterior.state.get())
    mean, std = on.predictive.mean(inputs), on.predictive.std(inputs)
    ends = on.predictive.credible_interval(inputs)
    np.testing.assert_allclose(
        ends, np.hstack([mean - 1.959964 * std, mean + 1.959964 * std]), 2e-4
    )
    params = on.posterior.state.get().params
    for name, value in (("mean", mean), ("std", std), ("mode", mean), ("variance", std**2)):
        got = getattr(on.likelihood, name)(params, inputs)
        np.testing.assert_allclose(got, value, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(on.likelihood.quantile(0.5, params, inputs), mean, atol=1e-5)
    entropy = on.likelihood.entropy(params, inputs)
    np.testing.assert_allclose(entropy, on.predictive.entropy(inputs), rtol=1e-5)
    np.testing.assert_allclose(
        on.likelihood.log_prob(params, loader(Y[:, 0])), on.predictive.log_prob(loader(Y[:, 0]))
    )
    assert on.likelihood.get_outputs(params, inputs).shape == (30, 2)


def test_metrics_see_means_shaped_like_the_targets():
    seen = []

    def rmse(predictions, targets):
        seen.append((predictions.shape, targets.shape))
        return np.sqrt(np.mean((predictions - targets) ** 2))

    model = ProbRegressor(Net(), Net(), posterior_approximator=MAPPosteriorApproximator())
    status = model.train(loader(Y[:, 0]), fit_config=config(metrics=(rmse,)))["fit_status"]
    assert seen[0] == ((30, 1), (30, 1)) and status["rmse"].shape == (3,)


@pytest.mark.parametrize("kind", ["isotropic", "diagonal"])
def test_prior_is_the_same_in_training_and_in_the_posterior(kind):
    net = Net(2)
    like = ProbRegressor(net, net).joint.init((2,)).params
    size = ravel_pytree(like)[0].size
    centre = np.linspace(-1, 1, size)
    log_var = np.linspace(-3, 0, size) if kind == "diagonal" else -1.0
    prior = (DiagonalGaussianPrior if kind == "diagonal" else IsotropicGaussianPrior)(
        log_var, mean=centre
    )
    prob_model, _ = fit(net, net, prior=prior, freeze_fun=in_networks(NOISE_HEAD))
    laplace, params = prob_model.posterior.laplace, prob_model.posterior.state.get().params
    chosen = np.concatenate(
        [
            np.full(leaf.size, path[0] == "lik_log_var" and path[2] == "head")
            for path, leaf in zip(
                laplace.linearised.subset.partition.paths, jax.tree.leaves(params), strict=True
            )
        ]
    )
    deviation = (np.asarray(ravel_pytree(params)[0], np.float64) - centre)[chosen]
    precision = np.exp(-np.broadcast_to(log_var, size))[chosen]
    np.testing.assert_allclose(laplace.deviation, deviation, atol=1e-7)
    curvature = laplace.precision() - np.diag(precision)
    assert np.linalg.eigvalsh(curvature).min() > -1e-6
    by_hand = laplace.log_likelihood + 0.5 * (
        np.log(precision).sum()
        - np.sum(precision * deviation**2)
        - np.linalg.slogdet(laplace.precision())[1]
    )
    np.testing.assert_allclose(laplace.log_marginal_likelihood(), by_hand, rtol=1e-9)
    assert prob_model.posterior.sample(KEY).params.keys() == params.keys()
    # Training goes to the same prior: without data to speak of it arrives at the prior's mean.
    model = ProbRegressor(net, net, prior, MAPPosteriorApproximator())
    settings = FitConfig(
        optimizer=FitOptimizer(method=FAST, n_epochs=300),
        monitor=FitMonitor(verbose=False),
    )
    model.train(DataLoader.from_array_data((X[:1], Y[:1])), fit_config=settings)
    arrived = np.asarray(ravel_pytree(model.posterior.state.get().params)[0])
    slack = 0.1 + 2 * np.exp(np.broadcast_to(log_var, size) / 2)
    assert np.all(np.abs(arrived - centre) < slack)
    assert np.corrcoef(arrived, centre)[0, 1] > 0.9


def test_what_is_refused():
    for argument, args in (
        ("model", (lambda x: x, Net())),
        ("likelihood_log_variance_model", (Net(), Net)),
    ):
        with pytest.raises(InvalidArgumentError, match=f"^{argument} is .*flax.linen.Module"):
            ProbRegressor(*args)
    with pytest.raises(InvalidArgumentError, match="model_editor is 3"):
        ProbRegressor(Net(), Net(), model_editor=3)
    approximator = MAPPosteriorApproximator()
    for model, targets, error, message in (
        ((Net(2), Net(1)), Y, ShapeError, r"'model' have shape \(\d+, 2\) .*\(\d+, 1\); both need"),
        ((Net(2), Net(2)), Y[:, 0], ShapeError, r"with 2 predicted means a point .* \(batch, 2\)"),
        ((Net(1), Net(1)), Y, ShapeError, r"\(batch, 1\) or \(batch,\)"),
        ((Net(1), Net(1)), np.full(30, np.nan), NonFiniteError, "hold nan"),
    ):
        with pytest.raises(error, match=message):
            ProbRegressor(*model, posterior_approximator=approximator).train(
                loader(targets), fit_config=config()
            )


def test_what_the_predictive_refuses(both):
    predictive, inputs = both[0].predictive, loader().to_inputs_loader()
    with pytest.raises(NotFittedError, match=r"call train"):
        ProbRegressor(Net(), Net()).predictive.mean(inputs)
    with pytest.raises(ShapeError, match=r"one target a point, and there are 2; quantile\(\[0.025"):
        predictive.credible_interval(inputs)
    for q in (0.0, 1.0, [0.5, np.nan], [], "half", [[0.5]]):
        with pytest.raises(InvalidArgumentError, match=r"q is .*; give a number between 0 and 1"):
            predictive.quantile(q, inputs)
    with pytest.raises(InvalidArgumentError, match=r"error is 1\.0; give a number between"):
        predictive.credible_interval(inputs, error=1.0)
    with pytest.raises(InvalidArgumentError, match="interval_type is 'both'; give one of 'two"):
        predictive.credible_interval(inputs, interval_type="both")
    with pytest.raises(InvalidArgumentError, match="n_target_samples is 0; give a positive"):
        predictive.aleatoric_entropy(inputs, n_target_samples=0)
    with pytest.raises(InvalidArgumentError, match="return_aux holds 'logits'"):
        predictive.sample(inputs, return_aux=["logits"])
