"""Every method through the front, in every way that Fortuna's dry runs go."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from dry_runs import (
    CLASSES,
    CLASSES_VAL,
    INPUTS,
    NAMES,
    NUMBERS,
    NUMBERS_VAL,
    classifier,
    config,
    regressor,
    starts,
)

from hoarfrost import prob_model
from hoarfrost.errors import InvalidArgumentError, NotFittedError
from hoarfrost.metric.classification import accuracy
from hoarfrost.prob_model import CalibConfig, CalibMonitor, CalibOptimizer

CALIB = CalibConfig(optimizer=CalibOptimizer(n_epochs=2), monitor=CalibMonitor(verbose=False))
# Frozen from nothing is meant here.
FROM_NOTHING = pytest.mark.filterwarnings("ignore:freeze_fun freezes parameters at their random")


def probabilities(model: Any) -> np.ndarray:
    return np.asarray(model.predictive.mean(INPUTS, rng=1))


def checked(model: Any, status: dict[str, Any], name: str) -> np.ndarray:
    fit = status["fit_status"]
    found = fit if name == "sngp" else fit[name]
    assert np.isfinite(found["loss"]).all()
    mean = probabilities(model)
    assert np.isfinite(mean).all()
    return mean


@FROM_NOTHING
@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_classifier_with_validation_and_calibration(name: str, freeze: bool) -> None:
    model = classifier(name)
    metrics = None if name in ("sghmc", "cyclical_sgld") else (accuracy,)
    status = model.train(
        CLASSES,
        CLASSES_VAL,
        CLASSES_VAL,
        fit_config=config(freeze=freeze, metrics=metrics),
        calib_config=CALIB,
        **starts(name),
    )
    mean = checked(model, status, name)
    np.testing.assert_allclose(mean.sum(axis=1), 1, rtol=1e-5)
    assert np.isfinite(status["calib_status"]["loss"]).all()
    assert ("map" in status["fit_status"]) == (name == "swag")
    if metrics:
        found = status["fit_status"] if name == "sngp" else status["fit_status"][name]
        assert {"accuracy", "val_accuracy", "val_loss"} <= set(found)
    state = model.posterior.state.get()
    drawn = model.posterior.sample(rng=0)
    flags = jax.tree.leaves(state.partition.mask)
    pairs = zip(jax.tree.leaves(drawn.params), jax.tree.leaves(state.params), strict=True)
    for flag, (one, held) in zip(flags, pairs, strict=True):
        assert one.shape == held.shape and one.dtype == held.dtype
        if not flag:
            np.testing.assert_array_equal(one, held)
    if freeze and name != "sngp":
        assert sum(flags) == 2


@FROM_NOTHING
@pytest.mark.parametrize("name", NAMES)
def test_a_regressor(name: str) -> None:
    model = regressor(name)
    status = model.train(
        NUMBERS, NUMBERS_VAL, NUMBERS_VAL, fit_config=config(), calib_config=CALIB, **starts(name)
    )
    assert checked(model, status, name).shape == (24, 1)
    variance = np.asarray(model.predictive.epistemic_variance(INPUTS, rng=0))
    assert variance.shape == (24, 1) and (variance >= 0).all() and variance.max() > 0


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "sngp"])
def test_from_a_map_a_state_and_a_checkpoint(name: str, freeze: bool, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        # An ensemble without frozen parameters has no use for it, and says so.
        warnings.filterwarnings("ignore", "map_fit_config has no effect on a deep ensemble")
        first = classifier(name)
        status = first.train(
            CLASSES,
            fit_config=config(freeze=freeze, save_checkpoint_dir=str(tmp_path / "own")),
            map_fit_config=config(2, save_checkpoint_dir=str(tmp_path / "map")),
        )
    mean = checked(first, status, name)
    idle = name == "deep_ensemble" and not freeze
    assert ("map" in status["fit_status"]) != idle
    # From its own checkpoint, a MAP's, and the state that is there.
    where = [tmp_path / "own"] + ([] if idle else [tmp_path / "map"])
    for folder in where:
        again = classifier(name)
        found = again.train(
            CLASSES, fit_config=config(freeze=freeze, restore_checkpoint_path=str(folder))
        )
        checked(again, found, name)
        assert found["fit_status"]["start"]["from"] == "checkpoint"
    found = first.train(CLASSES, fit_config=config(freeze=freeze, start_from_current_state=True))
    checked(first, found, name)
    # Loaded into a new model.
    loaded = classifier(name)
    loaded.load_state(tmp_path / "own")
    if name == "swag" and not freeze:
        # Statistics of BatchNorm under each draw need the data, which are not in the file.
        np.testing.assert_allclose(probabilities(loaded), mean, atol=0.05)
        mean = probabilities(loaded)
    np.testing.assert_array_equal(probabilities(loaded), mean)
    loaded.save_state(tmp_path / "more")
    twice = classifier(name)
    twice.load_state(tmp_path / "more")
    np.testing.assert_array_equal(probabilities(twice), mean)


@FROM_NOTHING
@pytest.mark.parametrize("freeze", [False, True])
def test_an_sngp_is_saved_and_goes_on(freeze: bool, tmp_path: Path) -> None:
    model = classifier("sngp")
    own = config(freeze=freeze, save_checkpoint_dir=str(tmp_path))
    mean = checked(model, model.train(CLASSES, fit_config=own), "sngp")
    loaded = classifier("sngp")
    loaded.load_state(tmp_path)
    np.testing.assert_array_equal(probabilities(loaded), mean)
    again = config(freeze=freeze, start_from_current_state=True)
    checked(loaded, loaded.train(CLASSES, fit_config=again), "sngp")
    with pytest.warns(UserWarning, match="map_fit_config has no effect on SNGP"):
        loaded.train(CLASSES, fit_config=config(), map_fit_config=config())


@FROM_NOTHING
@pytest.mark.parametrize("name", NAMES)
def test_a_state_on_the_disk_and_put_back(name: str, tmp_path: Path) -> None:
    model = classifier(name)
    status = model.train(
        CLASSES,
        fit_config=config(save_checkpoint_dir=str(tmp_path), dump_state=True),
        **starts(name),
    )
    checked(model, status, name)
    state = model.posterior.state.get()
    mean = probabilities(model)
    other = classifier(name)
    other.posterior.state.put(state)
    np.testing.assert_array_equal(probabilities(other), mean)
    # With other parameters it is no posterior any more.
    other.posterior.state.update(params=state.params)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        other.predictive.mean(INPUTS)


@FROM_NOTHING
@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bits(name: str) -> None:
    means = []
    for seed in (0, 0, 1):
        model = classifier(name, seed=seed)
        model.train(CLASSES, fit_config=config(freeze=True), **starts(name))
        means.append(probabilities(model))
    np.testing.assert_array_equal(means[0], means[1])
    assert not np.array_equal(means[0], means[2])


@pytest.mark.parametrize("name", NAMES)
def test_before_a_fit_and_with_links_of_laplace(name: str) -> None:
    model = classifier(name)
    with pytest.raises(NotFittedError):
        model.predictive.mean(INPUTS)
    model.train(CLASSES, fit_config=config(), **starts(name))
    for link in ("mc", "probit"):
        with pytest.raises(InvalidArgumentError, match="Laplace posterior"):
            model.predictive.mean(INPUTS, link=link)
    given = np.asarray(model.predictive.mean(INPUTS, rng=1, link="nn"))
    np.testing.assert_array_equal(given, probabilities(model))


def test_swag_needs_a_start_and_enough_epochs() -> None:
    model = classifier("swag")
    with pytest.raises(InvalidArgumentError, match="SWAG needs trained parameters"):
        model.train(CLASSES, fit_config=config())
    with pytest.raises(InvalidArgumentError, match="n_epochs is 2, which collects 2"):
        model.train(CLASSES, fit_config=config(2), map_fit_config=config())
    assert model.posterior.state.is_empty


def test_a_chain_needs_enough_steps() -> None:
    approximator = prob_model.SGHMCPosteriorApproximator()
    model = prob_model.ProbClassifier(
        classifier("sghmc").model, posterior_approximator=approximator
    )
    with pytest.raises(InvalidArgumentError, match=r"9 steps of 3 batches.*needs 1010.*give 337"):
        model.train(CLASSES, fit_config=config(3))


def test_fields_that_a_chain_does_not_use_are_named() -> None:
    with pytest.warns(UserWarning, match=r"SGHMC does not use fit_config\.monitor\.metrics"):
        classifier("sghmc").train(CLASSES, fit_config=config(metrics=(accuracy,)))


def test_samples_and_members_come_evenly() -> None:
    model = classifier("deep_ensemble")
    model.train(CLASSES, fit_config=config())
    draws = model.posterior.weight_samples(30, jax.random.PRNGKey(0)).trainable
    leaf = np.asarray(jax.tree.leaves(draws)[-1]).reshape(30, -1)
    _, counts = np.unique(leaf, axis=0, return_counts=True)
    assert counts.tolist() == [15, 15]
