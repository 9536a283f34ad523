"""`predictive.conformal_set` of a classifier, against its formula written out."""

from __future__ import annotations

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from hoarfrost import conformal
from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.errors import DataError, InvalidArgumentError, NotFittedError, ShapeError
from hoarfrost.prob_model import (
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
    ProbClassifier,
)

RNG = np.random.default_rng(4)
X = RNG.normal(size=(40, 4)).astype(np.float32)
Y = (X[:, 0] + 0.7 * RNG.normal(size=40) > 0).astype(np.int64) + (X[:, 1] > 1)
NEW = RNG.normal(size=(17, 4)).astype(np.float32)
DATA = DataLoader.from_array_data((X, Y), batch_size=16)
INPUTS = InputsLoader.from_array_inputs(NEW, batch_size=7)
KEY = jax.random.PRNGKey(8)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        return nn.Dense(3, name="head")(jnp.tanh(nn.Dense(5, name="body")(x)))


def fit(approximator) -> ProbClassifier:
    quiet = FitMonitor(verbose=False)
    model = ProbClassifier(Net(), posterior_approximator=approximator)
    config = FitConfig(optimizer=FitOptimizer(method=optax.adam(5e-2), n_epochs=8), monitor=quiet)
    if isinstance(approximator, MAPPosteriorApproximator):
        model.train(DATA, fit_config=config)
        return model
    head = FitOptimizer(freeze_fun=lambda path, v: "trainable" if "head" in path else "frozen")
    model.train(DATA, fit_config=FitConfig(optimizer=head, monitor=quiet), map_fit_config=config)
    return model


@pytest.fixture(scope="module")
def model() -> ProbClassifier:
    return fit(LaplacePosteriorApproximator(tune_prior_log_variance=False))


def sets_by_hand(train: np.ndarray, tests: np.ndarray, error: float) -> list[list[int]]:
    """As the paper has it: probabilities (S, n) of training labels, (S, N, C) at new points."""
    found = []
    for point in range(tests.shape[1]):
        held = []
        for label in range(tests.shape[2]):
            weights = tests[:, point, label] / tests[:, point, label].sum()
            scores = np.append(weights @ train, weights @ tests[:, point, label])
            if (scores <= scores[-1]).sum() > error * len(scores) + 1e-9:
                held.append(label)
        found.append(held)
    return found


@pytest.mark.parametrize("link", [None, "mc", "nn"])
@pytest.mark.parametrize("error", [0.05, 0.2, 0.6])
def test_the_sets_of_the_paper(model, error, link):
    def outputs(x: np.ndarray) -> np.ndarray:
        loader = InputsLoader.from_array_inputs(x)
        found = model.predictive.sample_calibrated_outputs(loader, 25, KEY, link=link)
        logits = np.asarray(found, np.float64)
        p = np.exp(logits - logits.max(-1, keepdims=True))
        return p / p.sum(-1, keepdims=True)

    train, tests = outputs(X)[:, np.arange(40), Y], outputs(NEW)
    sets, sizes = model.predictive.conformal_set(
        DATA, INPUTS, 25, error, KEY, return_ess=True, link=link
    )
    assert sets.dtype == object and sets.shape == (17,)
    assert sets.tolist() == sets_by_hand(train, tests, error)
    weights = tests / tests.sum(axis=0)
    np.testing.assert_allclose(sizes, 1 / (weights**2).sum(axis=0), rtol=1e-5)
    assert sizes.shape == (17, 3) and sizes.dtype == np.float64
    assert (sizes >= 1).all() and (sizes <= 25 * (1 + 1e-12)).all()
    without = model.predictive.conformal_set(DATA, INPUTS, 25, error, KEY, link=link)
    assert without.tolist() == sets.tolist()


def test_sets_shrink_and_follow_the_key(model):
    def sets(error: float, rng: object = KEY) -> list[list[int]]:
        return model.predictive.conformal_set(DATA, INPUTS, error=error, rng=rng).tolist()

    found = [sets(error) for error in (0.03, 0.1, 0.3, 0.6, 0.9)]
    for larger, smaller in itertools.pairwise(found):
        assert all(set(b) <= set(a) for a, b in zip(larger, smaller, strict=True))
    assert sum(map(len, found[0])) > sum(map(len, found[-1]))
    assert sets(0.3) == found[2]


def test_a_loader_that_shuffles_and_the_size_of_batches_make_no_difference(model):
    wanted = model.predictive.conformal_set(DATA, INPUTS, error=0.2, rng=KEY)
    shuffled = DataLoader.from_array_data((X, Y), batch_size=11, shuffle=True)
    inputs = InputsLoader.from_array_inputs(NEW, batch_size=5, shuffle=True)
    found = model.predictive.conformal_set(shuffled, inputs, error=0.2, rng=KEY)
    assert found.tolist() == wanted.tolist()


def test_labels_that_are_not_in_the_training_data_are_classes_too(model):
    """Fortuna counts the labels that it sees."""
    two = DataLoader.from_array_data((X, np.minimum(Y, 1)), batch_size=16)
    with pytest.warns(UserWarning, match="less than 40 points can show: the answer is all classes"):
        sets = model.predictive.conformal_set(two, INPUTS, error=0.01, rng=KEY)
    assert sets.tolist() == [[0, 1, 2]] * 17


def test_a_map_posterior_ranks_its_probabilities():
    predictive = fit(MAPPosteriorApproximator()).predictive
    sets, sizes = predictive.conformal_set(DATA, INPUTS, 4, 0.2, KEY, return_ess=True)
    own = np.asarray(predictive.mean(DATA.to_inputs_loader()), np.float64)[np.arange(40), Y]
    p = np.asarray(predictive.mean(INPUTS), np.float64)
    ranks = 1 + (own[None, None] <= p[..., None]).sum(-1)
    assert sets.tolist() == [np.flatnonzero(row).tolist() for row in ranks > 8]  # floor(.2 * 41)
    np.testing.assert_allclose(sizes, 4.0, rtol=1e-12)


def test_the_arguments_are_fortunas():
    parameters = inspect.signature(ProbClassifier(Net()).predictive.conformal_set).parameters
    assert list(parameters) == [
        *("train_data_loader", "test_inputs_loader", "n_posterior_samples", "error", "rng"),
        *("distribute", "return_ess", "link"),
    ]
    defaults = [parameter.default for parameter in parameters.values()][2:]
    assert defaults == [30, 0.05, None, True, False, None]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"error": 0}, InvalidArgumentError, "error is 0; give a number between 0 and 1"),
        ({"error": 1.0}, InvalidArgumentError, "error is 1.0"),
        ({"error": np.nan}, InvalidArgumentError, "error is nan"),
        ({"return_ess": 1}, InvalidArgumentError, "return_ess must be True or False"),
        ({"distribute": None}, InvalidArgumentError, "distribute must be True or False"),
        ({"n_posterior_samples": 0}, InvalidArgumentError, "n_posterior_samples is 0"),
        ({"rng": "a"}, InvalidArgumentError, "rng is 'a'"),
        ({"link": "probit"}, InvalidArgumentError, "link is 'probit', which draws no samples"),
        ({"link": "bridge"}, InvalidArgumentError, "link is 'bridge', which draws no samples"),
        ({"link": "other"}, InvalidArgumentError, "link"),
        ({"train_data_loader": INPUTS}, InvalidArgumentError, "data_loader is a InputsLoader"),
        ({"test_inputs_loader": DATA}, InvalidArgumentError, "inputs_loader is a DataLoader"),
        ({"test_inputs_loader": (x for x in [NEW])}, DataError, "one-shot"),
        (
            {"train_data_loader": DataLoader.from_array_data((X, Y + 2), batch_size=40)},
            InvalidArgumentError,
            "targets of batch 0 hold the label",
        ),
    ],
)
def test_arguments_that_cannot_be_used(model, change, error, message):
    given = {"train_data_loader": DATA, "test_inputs_loader": INPUTS, "rng": KEY, **change}
    with pytest.raises(error, match=message):
        model.predictive.conformal_set(**given)


def test_positions_are_no_points():
    x, y = np.stack([X, X[::-1]], axis=1), np.stack([Y, Y[::-1]], axis=1)
    data = DataLoader.from_array_data((x, y), batch_size=16)
    model = ProbClassifier(Net(), posterior_approximator=MAPPosteriorApproximator())
    quiet = FitConfig(
        optimizer=FitOptimizer(method=optax.adam(5e-2), n_epochs=1),
        monitor=FitMonitor(verbose=False),
    )
    model.train(data, fit_config=quiet)
    with pytest.raises(ShapeError, match=r"positions of shape \(2,\).*credible_set"):
        model.predictive.conformal_set(data, data.to_inputs_loader(), 3, 0.2)
    masked = [(x, (y, y > 0))]  # what counts of them is in one row
    with pytest.raises(ShapeError, match="positions of shape"):
        model.predictive.conformal_set(masked, data.to_inputs_loader(), 3, 0.2)


def test_masked_points_do_not_count(model):
    mask = np.arange(40) % 3 > 0
    some = DataLoader.from_array_data((X[mask], Y[mask]), batch_size=16)
    wanted = model.predictive.conformal_set(some, INPUTS, 25, 0.2, KEY)
    found = model.predictive.conformal_set([(X, (Y, mask))], INPUTS, 25, 0.2, KEY)
    assert found.tolist() == wanted.tolist()


def test_before_training():
    with pytest.raises(NotFittedError, match="call train"):
        ProbClassifier(Net()).predictive.conformal_set(DATA, INPUTS)


def test_split_sets_of_the_means(model):
    """Fortuna's way: the predictive means of held-out and of new points."""
    val = InputsLoader.from_array_inputs(X)
    means, tests = (model.predictive.mean(loader, rng=KEY) for loader in (val, INPUTS))
    classifier = conformal.AdaptivePredictionConformalClassifier()
    sets = classifier.conformal_set(
        val_probs=means, val_targets=DATA.to_array_targets(), test_probs=tests, error=0.1
    )
    assert len(sets) == 17 and all(sets)
    assert sets == classifier.conformal_set(np.asarray(means), Y, np.asarray(tests), 0.1)
