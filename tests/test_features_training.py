"""MAP training of a last layer over features, by hand and by itself: the same parameters."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from feature_cases import X_NEW, Y_NEW, C, D, H, N, Net, X, Y, loader, near, variables
from flax import linen as nn
from flax import nnx

import hoarfrost
from hoarfrost.data import DataLoader
from hoarfrost.errors import InvalidArgumentError, NonFiniteError
from hoarfrost.freezing import Subset, make_partition
from hoarfrost.likelihood import Categorical
from hoarfrost.network import as_network
from hoarfrost.prior import IsotropicGaussianPrior
from hoarfrost.prob_model import (
    CalibConfig,
    FitCallback,
    FitCheckpointer,
    FitConfig,
    FitMonitor,
    FitOptimizer,
    FitProcessor,
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
    ProbClassifier,
)
from hoarfrost.prob_model.posterior import feature_cache
from hoarfrost.training import fit_map

features = functools.partial(hoarfrost.features, progress=False)
ADAM = optax.adam(1e-2)
EPOCHS = 4


def subset(model, params, trainable):
    network, tree, mutable = as_network(model, params)
    return Subset(network, make_partition(tree, trainable), tree, mutable)


def trained(whole, train, val=None, **options):
    return fit_map(
        whole,
        prior=IsotropicGaussianPrior(),
        likelihood=Categorical(),
        train_loader=train,
        val_loader=val,
        optimizer=ADAM,
        n_epochs=EPOCHS,
        key=jax.random.key(0),
        verbose=False,
        **options,
    )


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(D, H, rngs=rngs)
        self.head = nnx.Linear(H, C, rngs=rngs)

    def __call__(self, x):
        return self.head(jnp.tanh(self.hidden(x)))


class Frozen(nn.Module):
    """A BatchNorm that is always in evaluation mode."""

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True)(jnp.tanh(nn.Dense(H)(x)))
        return nn.Dense(C, name="head")(x)


def with_skip(params, x):
    return jnp.tanh(x @ params["body"]) @ params["head"] + x[:, :C] * params["scale"]


SKIP = {
    "body": np.random.default_rng(1).standard_normal((D, H)).astype(np.float32),
    "head": np.random.default_rng(2).standard_normal((H, C)).astype(np.float32),
    "scale": np.float32(0.7),
}
CASES = {
    "linen": (Net(), variables()),
    "nnx": (NnxNet(nnx.Rngs(0)), None),
    "function, offset": (with_skip, SKIP),
    "linen, statistics": (Frozen(), variables(Frozen())),
}


@pytest.mark.filterwarnings("ignore:the network trains with BatchNorm")
@pytest.mark.parametrize("shuffle", [False, True], ids=["in order", "shuffled"])
@pytest.mark.parametrize("case", CASES)
def test_training_over_features_gives_the_same_parameters(case, shuffle):
    model, params = CASES[case]
    train, val = loader(shuffle=shuffle, seed=2), loader(X_NEW, Y_NEW)
    whole = subset(model, params, ["head"])
    known = trained(whole, train, val)
    ours = trained(
        whole, features(model, params, train, ["head"]), features(model, params, val, ["head"])
    )
    jax.tree.map(near, ours.params, known.params)
    jax.tree.map(np.testing.assert_array_equal, ours.mutable, known.mutable)
    assert set(ours.status) == set(known.status) == {"loss", "val_loss"}
    for name, values in known.status.items():
        near(ours.status[name], values)


def watched():
    """A network of a class of its own, and how it was traced: which batches, in which mode."""
    traced = []

    class Watched(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            traced.append((x.shape[0], train))
            return nn.Dense(C, name="head")(jnp.tanh(nn.Dense(H)(x)))

    return Watched(), traced


def test_no_step_runs_the_frozen_part():
    """A program that runs it would have been traced with it."""
    for cached in (False, True):
        model, traced = watched()
        params = model.init(jax.random.key(0), X)
        store = features(model, params, loader()) if cached else loader()
        whole = subset(model, params, ["head"])
        traced.clear()
        trained(whole, store, store)
        steps = [(rows, train) for rows, train in traced if rows > 1]
        assert bool(steps) is not cached


def classifier(model, approximator=MAPPosteriorApproximator, seed=0):
    return ProbClassifier(model, posterior_approximator=approximator(), seed=seed)


def config(cache="auto", freeze=("head",), epochs=EPOCHS, goes_on=True, **options):
    return FitConfig(
        optimizer=FitOptimizer(
            ADAM, n_epochs=epochs, freeze_fun=None if freeze is None else list(freeze)
        ),
        monitor=FitMonitor(verbose=False),
        processor=FitProcessor(cache_features=cache),
        checkpointer=FitCheckpointer(start_from_current_state=goes_on),
        **options,
    )


def head_run(model, cache="auto", train=None, val=None, **options):
    """A short training of all, then of the head: the model and its second status."""
    front = classifier(model)
    front.train(loader(), fit_config=config(freeze=None, goes_on=False, epochs=1))
    train = loader(shuffle=True) if train is None else train(front)
    val = loader(X_NEW, Y_NEW) if val is None else val(front)
    status = front.train(train, val, fit_config=config(cache, **options))["fit_status"]
    return front.posterior.state.get(), status


def of_front(data, model):
    def made(front):
        state = front.posterior.state.get()
        statistics = (state.mutable or {}).get("model", {})
        return features(model, {**state.params["model"], **statistics}, data)

    return made


@pytest.mark.parametrize("cache", ["auto", True, "by hand"])
@pytest.mark.parametrize("model", [Net(), NnxNet(nnx.Rngs(0))], ids=["linen", "nnx"])
def test_the_front_caches_features_by_itself(model, cache):
    known, said = head_run(model, False)
    assert "features" not in said
    if cache == "by hand":
        train, val = loader(shuffle=True), loader(X_NEW, Y_NEW)
        ours, status = head_run(model, train=of_front(train, model), val=of_front(val, model))
        assert "features" not in status
    else:
        ours, status = head_run(model, cache)
        assert status["features"].startswith(f"cached: the frozen layers ran once over {N} and 17")
    jax.tree.map(near, ours.params, known.params)
    for name in ("loss", "val_loss"):
        near(status[name], said[name])


def test_no_step_of_the_front_runs_the_frozen_part():
    for cache in (False, "auto"):
        model, traced = watched()
        front = classifier(model)
        front.train(loader(), fit_config=config(freeze=None, goes_on=False, epochs=1))
        traced.clear()
        front.train(loader(), fit_config=config(cache))
        steps = [rows for rows, train in traced if train and rows > 1]
        assert bool(steps) is (cache is False)


NOT_BY_ITSELF = {
    "one epoch": ({"epochs": 1}, Net(), "there is one epoch"),
    "dropout": ({}, Net(dropout=0.3), "draws random numbers in training"),
    "batch statistics": ({}, Net(norm=True), "something else in training than in evaluation"),
}


@pytest.mark.parametrize("case", NOT_BY_ITSELF)
def test_nothing_is_cached_where_it_would_change_results_or_not_pay(case):
    options, model, reason = NOT_BY_ITSELF[case]
    ours, status = head_run(model, "auto", **options)
    known, _ = head_run(model, False, **options)
    assert status["features"].startswith("not cached: ") and reason in status["features"]
    jax.tree.map(np.testing.assert_array_equal, ours.params, known.params)


@pytest.mark.parametrize("kind", ["stream", "transformed", "list"])
def test_data_that_may_change_are_not_cached_by_themselves(kind):
    """Augmentation, for example: only arrays are the same in each epoch."""
    random = np.random.default_rng(0)

    def noisy(inputs, targets, status):
        return inputs + random.standard_normal(inputs.shape).astype(np.float32), targets, status

    made = {
        "stream": lambda front: DataLoader.from_callable_iterable(lambda: iter([(X, Y)])),
        "transformed": lambda front: loader().to_transformed_data_loader(noisy),
        "list": lambda front: [(X, Y)],
    }[kind]
    _, status = head_run(Net(), "auto", train=made)
    assert "may give other data in each epoch" in status["features"]
    _, status = head_run(Net(), True, train=made)
    assert status["features"].startswith("cached: ")


def test_features_that_do_not_fit_are_not_cached(monkeypatch):
    monkeypatch.setattr(feature_cache, "available_bytes", lambda: 4 * (N + 17) * H * 4 - 1)
    _, status = head_run(Net())
    assert "more than a quarter of the" in status["features"]
    monkeypatch.setattr(feature_cache, "available_bytes", lambda: 4 * (N + 17) * H * 4)
    _, status = head_run(Net())
    assert status["features"].startswith("cached")


@pytest.mark.parametrize("freeze", [None, ["hidden"], ["hidden/bias", "head"]], ids=str)
def test_other_selections_say_nothing(freeze):
    assert "features" not in head_run(Net(), freeze=freeze)[1]


@pytest.mark.parametrize("model", [Net(dropout=0.3), Net(norm=True)], ids=["dropout", "norm"])
def test_what_trains_otherwise_than_it_is_evaluated_is_an_error_if_asked_for(model):
    with pytest.raises(InvalidArgumentError, match="cache_features is True, but the network"):
        head_run(model, True)
    with pytest.raises(InvalidArgumentError, match="features, which are made in evaluation mode"):
        head_run(model, train=of_front(loader(), model), val=of_front(loader(), model))


def test_a_selection_that_is_no_layer_is_an_error_if_asked_for():
    with pytest.raises(InvalidArgumentError, match="cache_features is True, but freeze_fun"):
        head_run(Net(), True, freeze=["hidden"])
    with pytest.raises(InvalidArgumentError, match="cache_features is True, but freeze_fun"):
        head_run(Net(), True, freeze=None)


@pytest.mark.parametrize("value", ["always", 1, None, 0.5, [True]], ids=str)
def test_what_cache_features_may_be(value):
    with pytest.raises(InvalidArgumentError, match=r"cache_features must be 'auto', True or False"):
        FitProcessor(cache_features=value)


def test_one_of_the_two_loaders_alone_is_an_error():
    for train, val in ((True, False), (False, True)):
        with pytest.raises(InvalidArgumentError, match="val_data_loader"):
            head_run(
                Net(),
                train=of_front(loader(), Net()) if train else None,
                val=of_front(loader(), Net()) if val else None,
            )


def test_features_under_other_parameters_are_refused():
    other = lambda front: features(Net(), variables(), loader())  # noqa: E731
    with pytest.raises(InvalidArgumentError, match="train_data_loader holds features of another"):
        head_run(Net(), train=other, val=other)


def test_calibration_asks_for_the_data():
    front = classifier(Net())
    front.train(loader(), fit_config=config(freeze=None, goes_on=False, epochs=1))
    store = features(Net(), front.posterior.state.get().params["model"], loader())
    with pytest.raises(InvalidArgumentError, match="calib_data_loader is a FeatureLoader"):
        front.calibrate(store, calib_config=CalibConfig())
    with pytest.raises(InvalidArgumentError, match="FeatureLoader"):
        front.predictive.log_prob(store)
    with pytest.raises(InvalidArgumentError, match="FeatureInputsLoader"):
        front.predictive.mean(store.to_inputs_loader())


def test_laplace_in_the_front_takes_features():
    evidences = []
    for cached in (False, True):
        front = classifier(Net(dropout=0.3), LaplacePosteriorApproximator)
        plain = FitConfig(optimizer=FitOptimizer(ADAM, 2), monitor=FitMonitor(verbose=False))
        front.train(loader(), fit_config=config(goes_on=False), map_fit_config=plain)
        train, val = loader(), loader(X_NEW, Y_NEW)
        if cached:
            params = front.posterior.state.get().params["model"]
            train, val = (features(Net(dropout=0.3), params, one) for one in (train, val))
        status = front.train(train, val, fit_config=config(freeze=("head",)))
        evidences.append(status["fit_status"]["laplace"]["log_marginal_likelihood"])
        evidences.append(front.predictive.mean(loader(X_NEW, Y_NEW).to_inputs_loader()))
    near(evidences[2], evidences[0])
    near(evidences[3], evidences[1])


def test_errors_come_before_features_are_made():
    made = []
    whole = subset(Net(), variables(), ["head"])
    bad = np.where(np.arange(N) == 3, C, Y)
    with pytest.raises(InvalidArgumentError, match="batch 0"):
        trained(whole, loader(y=bad), features=lambda: made.append(1))
    with pytest.raises(NonFiniteError):
        head_run(Net(), train=lambda front: loader(np.full_like(X, np.nan)))
    assert not made


def test_callbacks_see_the_same_states():
    seen = {}

    class Watch(FitCallback):
        def __init__(self, name):
            self.states = seen.setdefault(name, [])

        def training_step_end(self, state):
            self.states.append(jax.tree.map(np.asarray, (state.params, state.mutable)))
            return state

    said = {c: head_run(Net(), c, callbacks=[Watch(c)])[1] for c in (False, True, "auto")}
    assert len(seen[False]) == len(seen[True]) > EPOCHS
    for ours, known in zip(seen[True], seen[False], strict=True):
        jax.tree.map(near, ours, known)
    assert said["auto"]["features"] == "not cached: callbacks may change what is frozen"
    assert all(map(same_bits, seen["auto"], seen[False]))


def same_bits(one, other):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


@pytest.mark.parametrize("part", ["frozen_params", "mutable"])
def test_a_callback_that_changes_what_is_frozen_is_heard(part):
    class Change(FitCallback):
        def training_epoch_start(self, state):
            changed = jax.tree.map(lambda leaf: leaf + 1, getattr(state, part))
            return state.replace(**{part: changed})

    model, params = CASES["linen, statistics"]
    store = features(model, params, loader())
    whole = subset(model, params, ["head"])
    with pytest.raises(InvalidArgumentError, match=r"Change\.training_epoch_start changed frozen"):
        trained(whole, store, callbacks=[Change()])
