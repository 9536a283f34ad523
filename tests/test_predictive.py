"""The predictive of the front against formulas written out over its weight samples."""

from __future__ import annotations

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.errors import DataError, InvalidArgumentError, NonFiniteError, NotFittedError
from hoarfrost.predictive import classes, weight_samples
from hoarfrost.predictive.link.bridge import bridge
from hoarfrost.prob_model import (
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
    ProbClassifier,
)
from hoarfrost.prob_model.likelihood.statistics import over_inputs

RNG = np.random.default_rng(4)
X = RNG.normal(size=(25, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 25)
DATA = DataLoader.from_array_data((X, Y), batch_size=10)
INPUTS = DATA.to_inputs_loader()
KEY = jax.random.PRNGKey(8)
ADAM = optax.adam(1e-2)
TRACES: list[tuple[int, ...]] = []


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        TRACES.append(x.shape)
        # Statistics that stay as they are, on purpose.
        x = nn.BatchNorm(use_running_average=True)(nn.Dense(5, name="body")(x))
        return nn.Dense(3, name="head")(jnp.tanh(x))


def fit(approximator, freeze_fun=None):
    prob_model = ProbClassifier(Net(), posterior_approximator=approximator)
    optimizer = FitOptimizer(method=ADAM, n_epochs=2)
    config = FitConfig(optimizer=optimizer, monitor=FitMonitor(verbose=False))
    if isinstance(approximator, MAPPosteriorApproximator):
        prob_model.train(DATA, fit_config=config)
        return prob_model
    head = FitOptimizer(freeze_fun=freeze_fun)
    prob_model.train(
        DATA,
        fit_config=FitConfig(optimizer=head, monitor=FitMonitor(verbose=False)),
        map_fit_config=config,
    )
    return prob_model


@pytest.fixture(scope="module")
def model():
    return fit(
        LaplacePosteriorApproximator(tune_prior_log_variance=False),
        lambda path, v: "trainable" if "head" in path else "frozen",
    )


@pytest.fixture(scope="module")
def map_model():
    return fit(MAPPosteriorApproximator())


@pytest.fixture(scope="module")
def probabilities(model):
    """Class probabilities of every weight sample of `KEY`, shape (30, 25, 3), by hand."""
    samples = model.posterior.weight_samples(30, KEY)
    state = model.posterior.state.get()
    logits = []
    for s in range(30):
        one = jax.tree.map(lambda x, s=s: x[s], samples.trainable)
        params = samples.partition.merge(one, samples.frozen)["model"]
        logits.append(Net().apply({**params, **state.mutable["model"]}, X))
    logits = np.asarray(logits, np.float64)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6)


def test_log_probabilities(model, probabilities):
    chosen = probabilities[:, np.arange(25), Y]
    got = model.predictive.ensemble_log_prob(DATA, rng=KEY)
    assert got.shape == (30, 25)
    close(got, np.log(chosen))
    close(model.predictive.log_prob(DATA, rng=KEY), np.log(chosen.mean(0)))


def test_moments(model, probabilities):
    mean = probabilities.mean(0)
    predictive = model.predictive
    close(predictive.mean(INPUTS, rng=KEY), mean)
    np.testing.assert_array_equal(predictive.mode(INPUTS, rng=KEY), mean.argmax(1))
    aleatoric = (probabilities * (1 - probabilities)).mean(0)
    epistemic = probabilities.var(0)
    close(predictive.aleatoric_variance(INPUTS, rng=KEY), aleatoric)
    close(predictive.epistemic_variance(INPUTS, rng=KEY), epistemic)
    close(predictive.variance(INPUTS, rng=KEY), mean * (1 - mean))
    close(predictive.std(INPUTS, rng=KEY), np.sqrt(mean * (1 - mean)))
    assert np.all(epistemic > 0)


def test_entropies(model, probabilities):
    def entropy(p):
        return -(p * np.log(p)).sum(-1)

    total, aleatoric = entropy(probabilities.mean(0)), entropy(probabilities).mean(0)
    predictive = model.predictive
    close(predictive.entropy(INPUTS, rng=KEY), total)
    close(predictive.aleatoric_entropy(INPUTS, rng=KEY), aleatoric)
    close(predictive.epistemic_entropy(INPUTS, rng=KEY), total - aleatoric)


def test_values_that_are_given_are_used(model):
    predictive = model.predictive
    ones = jnp.ones((25, 3))
    np.testing.assert_array_equal(predictive.mode(INPUTS, means=ones * jnp.arange(3)), 2)
    variance = predictive.variance(INPUTS, aleatoric_variances=ones, epistemic_variances=2 * ones)
    np.testing.assert_array_equal(variance, 3 * ones)
    np.testing.assert_array_equal(predictive.std(INPUTS, variances=4 * ones), 2 * ones)


def test_credible_sets_are_the_smallest_that_cover(model, probabilities):
    mean = probabilities.mean(0)
    for error in (0.0, 0.05, 0.5):
        sets = model.predictive.credible_set(INPUTS, error=error, rng=KEY)
        assert sets.shape == (25,)
        assert sets.dtype == object
        for labels, p in zip(sets, mean, strict=True):
            assert labels == list(np.argsort(-p)[: len(labels)])
            assert p[labels].sum() >= 1 - error - 1e-6
            assert p[labels[:-1]].sum() < 1 - error


def test_labels_are_drawn_from_the_predictive(model):
    single = InputsLoader.from_array_inputs(X[:1])
    labels = model.predictive.sample(single, n_target_samples=4000, rng=KEY)
    assert labels.shape == (4000, 1)
    frequencies = np.bincount(labels[:, 0], minlength=3) / 4000
    mean = model.predictive.mean(single, n_posterior_samples=4000, rng=KEY)[0]
    np.testing.assert_allclose(frequencies, mean, atol=5 * 0.5 / np.sqrt(4000))
    labels, aux = model.predictive.sample(INPUTS, 2, return_aux=["outputs"], rng=KEY)
    assert labels.shape == (2, 25)
    assert aux["outputs"].shape == (2, 25, 3)
    assert np.any(aux["outputs"][0] != aux["outputs"][1])
    np.testing.assert_array_equal(labels, model.predictive.sample(INPUTS, 2, rng=KEY))


@pytest.mark.parametrize("form", ["model", "map_model"])
def test_outputs_beside_the_targets_take_one_run_of_the_network(form, request, monkeypatch):
    model, runs = request.getfixturevalue(form), []
    program = weight_samples._program

    def counted(*arguments):
        runs.append(1)
        return program(*arguments)

    key = jax.random.split(KEY)[0]
    expected = over_inputs(
        model.likelihood.network,
        model.predictive._samples(3, key, None),
        model.predictive.mixture.raw,
        INPUTS,
        axis=1,
    )
    monkeypatch.setattr(weight_samples, "_program", counted)
    _, aux = model.predictive.sample(INPUTS, 3, return_aux=["outputs"], rng=KEY)
    once = len(runs)
    runs.clear()
    model.predictive.sample(INPUTS, 3, rng=KEY)
    assert once == len(runs) > 0
    np.testing.assert_array_equal(aux["outputs"], np.broadcast_to(expected, aux["outputs"].shape))


def test_the_number_of_samples_and_the_key_act(model):
    mean = model.predictive.mean
    base = mean(INPUTS, rng=KEY)
    np.testing.assert_array_equal(base, mean(INPUTS, 30, KEY, True))
    np.testing.assert_array_equal(base, mean(INPUTS, rng=KEY, distribute=False))
    assert np.any(base != mean(INPUTS, n_posterior_samples=29, rng=KEY))
    assert np.any(base != mean(INPUTS, rng=jax.random.PRNGKey(9)))
    assert np.any(np.asarray(mean(INPUTS)) != np.asarray(mean(INPUTS)))


def test_a_shuffling_loader_gives_values_in_the_order_of_the_data(model):
    shuffled = DataLoader.from_array_data((X, Y), batch_size=10, shuffle=True)
    np.testing.assert_array_equal(
        model.predictive.log_prob(shuffled, rng=KEY), model.predictive.log_prob(DATA, rng=KEY)
    )


def test_batches_do_not_change_the_result(model):
    whole = model.predictive.mean(InputsLoader.from_array_inputs(X), rng=KEY)
    close(model.predictive.mean(INPUTS, rng=KEY), whole)


def test_nothing_is_compiled_again_between_calls_and_fits(model):
    model.predictive.mean(INPUTS, rng=KEY)
    model.predictive.log_prob(DATA, rng=KEY)
    before = len(TRACES)
    for _ in range(2):
        model.predictive.mean(INPUTS)
        model.predictive.log_prob(DATA)
    assert len(TRACES) == before
    other = fit(
        LaplacePosteriorApproximator(tune_prior_log_variance=False),
        lambda path, v: "trainable" if "head" in path else "frozen",
    )
    before = len(TRACES)
    other.predictive.mean(INPUTS)
    assert len(TRACES) == before


def test_parameters_are_no_constants_of_the_program(model):
    samples = model.posterior.weight_samples(3, KEY)
    network = model.likelihood.network
    text = weight_samples._program.lower(
        network,
        samples.partition,
        3,
        weight_samples._arrays(samples),
        X,
    ).as_text()
    dense = [line for line in text.splitlines() if "dense<" in line and "x" in line.split(":")[-1]]
    assert not [line for line in dense if line.count(",") > 4]


def test_chunks_bound_memory_and_change_nothing(model, monkeypatch):
    whole = model.predictive.mean(INPUTS, rng=KEY)
    samples = model.posterior.weight_samples(30, KEY)
    network = model.likelihood.network
    assert weight_samples.chunk_size(network, samples, X) == 30
    weight_samples._chunk_sizes.shared.cache_clear()
    # 25 points x 3 logits x 4 bytes a sample.
    monkeypatch.setattr(weight_samples, "MAX_BYTES", 25 * 3 * 4 * 8)
    assert weight_samples.chunk_size(network, samples, X) == 7
    close(model.predictive.mean(INPUTS, rng=KEY), whole)
    weight_samples._chunk_sizes.shared.cache_clear()


def test_map_is_a_point_mass(map_model):
    predictive, likelihood = map_model.predictive, map_model.likelihood
    state = map_model.posterior.state.get()
    known = (state.params, INPUTS, state.mutable)
    mean = likelihood.mean(*known)
    np.testing.assert_array_equal(predictive.mean(INPUTS, rng=KEY), mean)
    np.testing.assert_array_equal(predictive.mean(INPUTS), predictive.mean(INPUTS))
    np.testing.assert_array_equal(predictive.mode(INPUTS), likelihood.mode(*known))
    assert np.all(predictive.epistemic_variance(INPUTS) == 0)
    assert np.all(predictive.epistemic_entropy(INPUTS) == 0)
    each = predictive.ensemble_log_prob(DATA, n_posterior_samples=4)
    assert each.shape == (4, 25)
    close(each, np.tile(predictive.log_prob(DATA), (4, 1)))
    close(predictive.log_prob(DATA), likelihood.log_prob(state.params, DATA, state.mutable))
    labels = predictive.sample(InputsLoader.from_array_inputs(X[:1]), 4000, rng=KEY)
    frequencies = np.bincount(labels[:, 0], minlength=3) / 4000
    np.testing.assert_allclose(frequencies, mean[0], atol=5 * 0.5 / np.sqrt(4000))
    outputs = likelihood.get_outputs(state.params, INPUTS, state.mutable)
    close(jax.nn.softmax(outputs), mean)


@pytest.fixture(scope="module")
def whole():
    """A posterior over both layers, of which the network is not linear."""
    return fit(LaplacePosteriorApproximator(tune_prior_log_variance=False))


def linearised_logits(model, n_samples):
    """Logits of the linearised network under weight samples of `KEY`, shape (S, 25, 3), by hand."""
    samples = model.posterior.weight_samples(n_samples, KEY)
    state = model.posterior.state.get()

    def outputs(params):
        return Net().apply({**params["model"], **state.mutable["model"]}, X)

    logits = []
    for s in range(n_samples):
        change = jax.tree.map(lambda x, m, s=s: x[s] - m, samples.trainable, state.params)
        at_map, along = jax.jvp(outputs, (state.params,), (change,))
        logits.append(at_map + along)
    return np.asarray(logits)


def test_beyond_the_last_layer_the_predictive_is_that_of_the_linearised_network(whole):
    logits = linearised_logits(whole, 30)
    predictive = whole.predictive
    close(predictive.mean(INPUTS, rng=KEY), jax.nn.softmax(logits).mean(0))
    outputs = predictive.sample_calibrated_outputs(INPUTS, 30, rng=KEY)
    np.testing.assert_allclose(outputs, logits, atol=1e-4)
    log_p = np.asarray(jax.nn.log_softmax(logits))[:, np.arange(25), Y]
    np.testing.assert_allclose(
        predictive.ensemble_log_prob(DATA, rng=KEY), log_p, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(
        predictive.mean(INPUTS, rng=KEY), predictive.mean(INPUTS, rng=KEY, link="mc")
    )
    through = predictive.mean(INPUTS, rng=KEY, link="nn")
    assert np.abs(np.asarray(through - predictive.mean(INPUTS, rng=KEY))).max() > 1e-3


def test_chunks_change_nothing_for_the_linearised_network(whole, monkeypatch):
    mean = whole.predictive.mean(INPUTS, rng=KEY)
    weight_samples._chunk_sizes.shared.cache_clear()
    monkeypatch.setattr(weight_samples, "MAX_BYTES", 2000)
    samples = whole.posterior.weight_samples(30, KEY)
    assert weight_samples.chunk_size(whole.likelihood.network, samples, X) < 30
    close(whole.predictive.mean(INPUTS, rng=KEY), mean)
    weight_samples._chunk_sizes.shared.cache_clear()


def test_both_sampling_links_are_the_same_in_a_last_layer(model):
    predictive = model.predictive
    through = predictive.mean(INPUTS, rng=KEY)
    np.testing.assert_array_equal(predictive.mean(INPUTS, rng=KEY, link="nn"), through)
    close(predictive.mean(INPUTS, rng=KEY, link="mc"), through)


@pytest.mark.parametrize("link", ["probit", "bridge"])
def test_closed_links(model, link):
    predictive, laplace = model.predictive, model.posterior.laplace
    p = laplace.predict(X, link)
    mean = predictive.mean(INPUTS, link=link)
    np.testing.assert_allclose(mean, p, rtol=1e-5)
    np.testing.assert_array_equal(predictive.mode(INPUTS, link=link), p.argmax(1))
    close(predictive.log_prob(DATA, link=link), np.log(p[np.arange(25), Y]))
    close(predictive.variance(INPUTS, link=link), p * (1 - p))
    close(predictive.std(INPUTS, link=link), np.sqrt(p * (1 - p)))
    close(predictive.entropy(INPUTS, link=link), -(p * np.log(p)).sum(1))
    sets = predictive.credible_set(INPUTS, error=0.3, link=link)
    assert [labels[0] for labels in sets] == p.argmax(1).tolist()
    for name in ("aleatoric_entropy", "epistemic_variance", "sample"):
        with pytest.raises(InvalidArgumentError, match=f"link is '{link}'; give 'mc'"):
            getattr(predictive, name)(INPUTS, link=link)


@pytest.mark.parametrize("link", ["probit", "bridge"])
def test_closed_links_are_calibrated_too(model, link):
    state = model.posterior.state.get()
    laplace = model.posterior.laplace
    logits = np.asarray(model.likelihood.get_outputs(state.params, INPUTS, state.mutable))
    covariance = laplace.functional_covariance(X)
    try:
        calib_params = {"output_calibrator": {"params": {"log_temp": jnp.log(jnp.array([2.0]))}}}
        model.posterior.state.put(dataclasses.replace(state, calib_params=calib_params))
        got = model.predictive.mean(INPUTS, link=link)
    finally:
        model.posterior.state.put(state)
    if link == "probit":
        variance = np.einsum("bcc->bc", covariance) / 4
        expected = jax.nn.softmax(logits / 2 / np.sqrt(1 + np.pi / 8 * variance))
    else:
        expected = np.exp(bridge(logits / 2, covariance / 4))
    close(got, expected)
    assert np.abs(np.asarray(got) - model.predictive.mean(INPUTS, link=link)).max() > 1e-3


def test_links_that_a_point_mass_has(map_model):
    predictive = map_model.predictive
    for link in ("mc", "nn"):
        np.testing.assert_array_equal(predictive.mean(INPUTS, link=link), predictive.mean(INPUTS))
    with pytest.raises(InvalidArgumentError, match="link is 'probit', which needs the covariance"):
        predictive.mean(INPUTS, link="probit")
    with pytest.raises(InvalidArgumentError, match="link is 'logit'; give 'mc'"):
        predictive.mean(INPUTS, link="logit")


def test_extreme_logits_stay_finite(strict):
    outputs = jnp.array([[[1e4, 0.0, -1e4]], [[-1e4, 1e4, 0.0]]])
    for statistic in (
        classes.mean,
        classes.aleatoric_variance,
        classes.epistemic_variance,
        classes.entropy,
        classes.aleatoric_entropy,
        classes.epistemic_entropy,
    ):
        assert np.isfinite(statistic(outputs)).all()
    for label in range(3):
        assert np.isfinite(classes.log_prob(outputs, jnp.array([label]))).all()
    np.testing.assert_allclose(classes.entropy(outputs), np.log(2), rtol=1e-6)


CALLS = {
    "log_prob": DATA,
    "ensemble_log_prob": DATA,
    "sample": INPUTS,
    "sample_calibrated_outputs": INPUTS,
    "mean": INPUTS,
    "mode": INPUTS,
    "aleatoric_variance": INPUTS,
    "epistemic_variance": INPUTS,
    "variance": INPUTS,
    "std": INPUTS,
    "entropy": INPUTS,
    "aleatoric_entropy": INPUTS,
    "epistemic_entropy": INPUTS,
    "credible_set": INPUTS,
}


@pytest.mark.parametrize("name", CALLS)
def test_signatures_and_use_before_training(name):
    method = getattr(ProbClassifier(Net()).predictive, name)
    parameters = inspect.signature(method).parameters
    assert list(parameters)[-3:] == ["rng", "distribute", "link"]
    assert parameters["link"].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters["distribute"].default is True
    first = "data_loader" if CALLS[name] is DATA else "inputs_loader"
    assert next(iter(parameters)) == first
    if not name.startswith("sample"):
        assert parameters["n_posterior_samples"].default == 30
    with pytest.raises(NotFittedError, match="call train"):
        method(CALLS[name])


def spoiled():
    x = X.copy()
    x[12, 0] = np.inf
    return x


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("mean", (DATA,), InvalidArgumentError, r"inputs_loader is a DataLoader.*to_inputs_load"),
        ("mean", (X,), InvalidArgumentError, "inputs_loader is a ndarray.*from_array_inputs"),
        ("mean", (INPUTS, 0), InvalidArgumentError, "n_posterior_samples is 0"),
        ("mean", (INPUTS, 30, 0.7), InvalidArgumentError, "rng is 0.7; give a key"),
        ("log_prob", (INPUTS,), InvalidArgumentError, "data_loader is a InputsLoader"),
        (
            "log_prob",
            (DataLoader.from_array_data((X, Y + 1), batch_size=25),),
            InvalidArgumentError,
            "targets of batch 0 hold the label 3",
        ),
        (
            "mean",
            (InputsLoader.from_array_inputs(spoiled(), batch_size=10),),
            NonFiniteError,
            "batch 1 of the data loader hold inf",
        ),
        ("mean", ((x for x in [X]),), DataError, "one-shot"),
        ("credible_set", (INPUTS, 30, 1.0), InvalidArgumentError, "error is 1.0"),
        ("sample", (INPUTS, 1, ["logits"]), InvalidArgumentError, "return_aux holds 'logits'"),
        ("sample", (INPUTS, 0), InvalidArgumentError, "n_target_samples is 0"),
    ],
)
def test_arguments_that_cannot_be_used(map_model, name, arguments, error, message):
    with pytest.raises(error, match=message):
        getattr(map_model.predictive, name)(*arguments)


def test_calibration_parameters_of_another_form(map_model):
    params = map_model.posterior.state.get().params
    with pytest.raises(InvalidArgumentError, match=r"calib_params must be a tree .*calibrate"):
        map_model.likelihood.mean(params, INPUTS, calib_params={"a": 1})
