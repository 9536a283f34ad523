"""What a user may write: short names, a last layer by structure, seeds of either kind."""

from __future__ import annotations

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import hoarfrost
from hoarfrost import fit_laplace
from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.errors import InvalidArgumentError, NotPositiveDefiniteError, SelectionError
from hoarfrost.laplace.evidence.validation import Question, best_on_held_out_data
from hoarfrost.likelihood import Gaussian
from hoarfrost.prob_model import FitConfig, FitMonitor, FitOptimizer, ProbClassifier

RNG = np.random.default_rng(2)
X = RNG.standard_normal((40, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 40)
NUMBERS = RNG.standard_normal((40, 2)).astype(np.float32)


class Net(nn.Module):
    """The last layer is called by a name that says nothing, in the middle of the tree."""

    widths: tuple[int, ...] = (3, 3, 3)

    @nn.compact
    def __call__(self, x):
        for index, width in enumerate(self.widths[:-1]):
            x = jnp.tanh(nn.Dense(width, name=f"m{index}")(x))
        return nn.Dense(self.widths[-1], name="a")(x)


def fitted(model, **options):
    params = model.init(jax.random.PRNGKey(0), X)
    return fit_laplace(model, params, [(X, Y)], progress=False, **options)


def test_the_last_layer_is_found_by_structure():
    """All layers have the shapes that the last one has; one of them gives the outputs."""
    posterior = fitted(Net(), trainable="last_layer")
    named = fitted(Net(), trainable=lambda path, value: "a" in path)
    np.testing.assert_array_equal(posterior.precision(), named.precision())
    assert set(posterior.sample(0, 1)["params"]) == {"a"}


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_the_last_layer_of_a_function(bias, transposed):
    draw = np.random.default_rng(1).standard_normal
    params = {"k": draw((4, 3)), "shift": draw(3), "w": draw((3, 3)), "free": draw(3)}
    params = {name: leaf.astype(np.float32) for name, leaf in params.items()}

    def apply(p, x):
        hidden = jnp.tanh(x @ p["k"] + p["free"])
        outputs = hidden @ (p["w"].T if transposed else p["w"])
        return outputs + p["shift"] if bias else outputs

    posterior = fit_laplace(apply, params, [(X, Y)], trainable="last_layer", progress=False)
    assert set(posterior.sample(0, 1)) == ({"w", "shift"} if bias else {"w"})
    plan = hoarfrost.plan(apply, params, X, trainable="last_layer")
    assert (plan.num_params, plan.head) == (12 if bias else 9, "softmax")


def test_no_last_layer_or_two_is_an_error():
    params = {name: RNG.standard_normal((4, 3)).astype(np.float32) for name in ("w", "v")}
    with pytest.raises(SelectionError, match="the network has none"):
        fit_laplace(lambda p, x: jnp.tanh(x @ p["w"]), params, [(X, Y)], trainable="last_layer")
    with pytest.raises(SelectionError, match="the network has several: v; w"):
        fit_laplace(
            lambda p, x: x @ p["w"] + x**2 @ p["v"], params, [(X, Y)], trainable="last_layer"
        )
    with pytest.raises(SelectionError, match="trainable is 'first_layer'"):
        fit_laplace(lambda p, x: x @ p["w"], params, [(X, Y)], trainable="first_layer")


def test_gaussian_is_a_name():
    params = {"w": jnp.ones((4, 2))}

    def fit(likelihood):
        return fit_laplace(
            lambda p, x: x @ p["w"], params, [(X, NUMBERS)], likelihood=likelihood, progress=False
        )

    named, made = fit("gaussian"), fit(Gaussian(1.0))
    np.testing.assert_array_equal(named.precision(), made.precision())
    assert named.noise_std == 1.0
    assert named.optimize_hyperparameters()[1] != 1.0


def test_probabilities_of_classes():
    posterior = fitted(Net(), trainable="last_layer")
    for link in (None, "mc", "bridge", "nn"):
        found = posterior.predict_proba(X, link, 20, 3)
        np.testing.assert_array_equal(found, posterior.predict(X, link, 20, 3))
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    for outputs in (1, 3):
        labels = RNG.integers(0, 2, (40, outputs))
        params = {"w": 0.3 * jnp.ones((4, outputs))}
        labelled = fit_laplace(
            lambda p, x: x @ p["w"], params, [(X, labels)], likelihood="bernoulli", progress=False
        )
        found, yes = labelled.predict_proba(X), labelled.predict(X)
        expected = np.c_[1 - yes, yes] if outputs == 1 else yes
        np.testing.assert_array_equal(found, expected)
    numbers = fit_laplace(
        lambda p, x: x @ p["w"],
        {"w": jnp.ones((4, 2))},
        [(X, NUMBERS)],
        likelihood="gaussian",
        progress=False,
    )
    with pytest.raises(InvalidArgumentError, match="predict_proba is for classes"):
        numbers.predict_proba(X)


@pytest.mark.parametrize("key", [jax.random.PRNGKey(5), jax.random.key(5)], ids=["old", "new"])
def test_seeds_are_numbers_or_keys(key):
    posterior = fitted(Net(), trainable="last_layer")
    calls = {
        "sample": lambda seed: jax.tree.leaves(posterior.sample(seed, 3)),
        "predict": lambda seed: [posterior.predict(X, "mc", 9, seed)],
        "log_prob": lambda seed: [posterior.log_prob([(X, Y)], "nn", 9, seed)],
    }
    for call in calls.values():
        first, again, other = call(key), call(key), call(jax.random.fold_in(key, 1))
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a, b)
        assert any(np.any(np.asarray(a) != b) for a, b in zip(first, other, strict=True))


@pytest.fixture(scope="module")
def model():
    made = ProbClassifier(Net(), seed=1)
    quiet = FitMonitor(verbose=False)
    made.train(
        DataLoader.from_array_data((X, Y)),
        fit_config=FitConfig(
            FitOptimizer(freeze_fun=lambda p, v: "trainable" if "a" in p else "frozen"),
            monitor=quiet,
        ),
        map_fit_config=FitConfig(FitOptimizer(optax.sgd(1e-2), n_epochs=2), monitor=quiet),
    )
    return made


def test_the_front_takes_numbers_for_keys(model):
    inputs = InputsLoader.from_array_inputs(X)
    by_key = model.predictive.mean(inputs, rng=jax.random.PRNGKey(6))
    np.testing.assert_array_equal(model.predictive.mean(inputs, rng=6), by_key)
    draw, same = (model.posterior.sample(rng).params for rng in (6, jax.random.PRNGKey(6)))
    for a, b in zip(jax.tree.leaves(draw), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_model_takes_a_key_for_its_seed():
    starts = [
        ProbClassifier(Net(), seed=seed).joint.init(X).params
        for seed in (jax.random.key(3), jax.random.key(3), jax.random.key(4))
    ]
    first, again, other = (jax.tree.leaves(start) for start in starts)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(np.any(np.asarray(a) != b) for a, b in zip(first, other, strict=True))
    with pytest.raises(InvalidArgumentError, match=r"seed is 0\.5"):
        ProbClassifier(Net(), seed=0.5)


def held_out():
    generator = np.random.default_rng(9)
    return [(generator.standard_normal((60, 4)).astype(np.float32), generator.integers(0, 3, 60))]


@pytest.mark.parametrize("prior", [2.0, {"params": {"a": {"kernel": 2.0, "bias": 0.5}}}])
def test_the_prior_is_tuned_on_held_out_data(prior):
    posterior = fitted(Net(), trainable="last_layer", prior_precision=prior)
    before, data = posterior.prior_precision, held_out()
    returned = posterior.optimize_on(data, low=1e-3, high=1e3)
    assert jax.tree.leaves(returned) == jax.tree.leaves(posterior.prior_precision)
    ratios = [a / b for a, b in zip(*map(jax.tree.leaves, (returned, before)), strict=True)]
    np.testing.assert_allclose(ratios, ratios[0])
    best = posterior.log_prob(data).mean(dtype=float)
    for factor in np.geomspace(1e-3, 1e3, 25):
        scaled = jax.tree.map(lambda tau, f=factor: f * tau, before)
        other = posterior.with_prior_precision(scaled)
        assert other.log_prob(data).mean(dtype=float) <= best + 1e-4
    fresh = fitted(Net(), trainable="last_layer", prior_precision=returned)
    np.testing.assert_allclose(posterior.covariance(), fresh.covariance(), rtol=1e-9)
    assert posterior.tuning is None


def test_a_best_prior_at_a_bound_is_said():
    posterior = fitted(Net(), trainable="last_layer")
    with pytest.warns(UserWarning, match="lies at a bound, 0.9 times what it was"):
        posterior.optimize_on([(X, np.full(40, 0))], low=0.9, high=1.0)
    for options, message in (
        ({"low": 2.0, "high": 1.0}, "bounds are low=2.0"),
        ({"grid_size": 1}, "grid_size is 1"),
        ({"link": "magic"}, "link is 'magic'"),
        ({"n_samples": 0}, "n_samples is 0"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            posterior.optimize_on([(X, Y)], **options)


class Fragile:
    """A posterior whose prior must not be below a number."""

    def __init__(self, precision=1.0, least=0.5):
        self.precision, self.least = precision, least

    def with_prior_precision(self, precision):
        if precision < self.least:
            raise NotPositiveDefiniteError("too small", 0, self.least)
        return Fragile(precision, self.least)

    def log_prob(self, data_loader, link, n_samples, seed):
        return np.full(3, -self.precision)


def test_a_prior_too_small_for_rounding_is_no_candidate():
    def candidate(x):
        return Fragile().with_prior_precision(np.exp(x))

    def never(x):
        return Fragile(least=99.0).with_prior_precision(np.exp(x))

    best, found = best_on_held_out_data(candidate, Question([]), (-2.0, 2.0))
    assert 0.5 <= best.precision < 0.6 and found.value == pytest.approx(-best.precision)
    with pytest.raises(NotPositiveDefiniteError):
        best_on_held_out_data(never, Question([]), (-2.0, 2.0))


LAZY = """
import sys, hoarfrost
assert "jax" not in sys.modules and "flax" not in sys.modules, "nothing is loaded yet"
assert set(hoarfrost.__all__) <= set(dir(hoarfrost))
hoarfrost.prob_model.ProbClassifier, hoarfrost.data.DataLoader, hoarfrost.metric.accuracy
hoarfrost.plan, hoarfrost.likelihood.Gaussian, hoarfrost.errors.DataError, hoarfrost.fit_laplace
from jax._src import xla_bridge
assert not xla_bridge._backends, "no device is started"
try:
    hoarfrost.nothing
except AttributeError as error:
    assert "'nothing'" in str(error)
else:
    raise AssertionError
"""


def test_everything_is_reachable_and_nothing_is_started():
    done = subprocess.run([sys.executable, "-c", LAZY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert hoarfrost.plan is hoarfrost.laplace.plan_laplace


def test_the_first_sentence_says_whether_a_posterior_changes():
    for name in dir(hoarfrost.Laplace):
        first = (getattr(hoarfrost.Laplace, name).__doc__ or "").split(".")[0]
        if name.startswith("optimize_"):
            assert first.startswith("Change this posterior"), name
        if name.startswith("with_"):
            assert first.startswith("A copy"), name
