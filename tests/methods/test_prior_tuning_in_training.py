"""Priors learnt in training: against dense algebra, and against posteriors fitted at the stops."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from same_network import KINDS, WIDTH, arrays, network
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from hoarfrost import fit_laplace
from hoarfrost.data import DataLoader
from hoarfrost.errors import (
    HoarfrostError,
    InvalidArgumentError,
    MemoryLimitError,
    NonFiniteError,
    StructureError,
)
from hoarfrost.laplace.plan import MemoryPlan
from hoarfrost.likelihood import Gaussian
from hoarfrost.methods import WeightPosterior, fit_map, learnt_prior

COMPILED: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: COMPILED.append(name) if "backend_compile" in name else None
)
RNG = np.random.default_rng(6)
SIZE, CLASSES = 30, 3
X = RNG.normal(size=(SIZE, WIDTH)).astype(np.float32)
Y = RNG.integers(0, CLASSES, SIZE)
PARAMS = arrays(CLASSES)
ADAM = optax.adam(3e-2)

# A sum of two linear layers, each with weights of a size of its own.
WIDE = RNG.normal(size=(80, 7)).astype(np.float32)
LARGE, SMALL = 2.0 * RNG.normal(size=(3, 1)), 0.3 * RNG.normal(size=(4, 1))
NUMBERS = (WIDE[:, :3] @ LARGE + WIDE[:, 3:] @ SMALL + 0.4 * RNG.normal(size=(80, 1))).astype(
    np.float32
)
EPS = float(np.finfo(np.float32).eps)


def _two_layers(params: Any, x: Any) -> Any:
    return x[:, :3] @ params["large"]["kernel"] + x[:, 3:] @ params["small"]["kernel"]


def _frozen_and_head(params: Any, x: Any) -> Any:
    return (x @ params["body"]) @ params["head"]["kernel"]


def _log_evidence(logs: np.ndarray, parts: list[np.ndarray]) -> float:
    """``log N(y; 0, sigma^2 I + sum_g X_g X_g^T / tau_g)``; the last logarithm is of sigma."""
    covariance = np.exp(2 * logs[-1]) * np.eye(len(NUMBERS))
    for log_precision, part in zip(logs[:-1], parts, strict=True):
        covariance += np.exp(-log_precision) * part @ part.T
    return float(multivariate_normal.logpdf(NUMBERS[:, 0], cov=covariance))


def _best(parts: list[np.ndarray]) -> tuple[np.ndarray, float]:
    """The largest evidence over precisions and noise, by another optimiser."""
    found = minimize(
        lambda logs: -_log_evidence(logs, parts),
        np.zeros(len(parts) + 1),
        method="Nelder-Mead",
        options={"xatol": 1e-8, "fatol": 1e-11, "maxiter": 4000},
    )
    return found.x, -found.fun


def _never_falls(evidence: np.ndarray) -> None:
    """By more than what single precision knows of the parameters and of the prior's numbers."""
    noise = len(NUMBERS) * EPS * np.abs(evidence).max()
    assert np.diff(evidence).min() > -noise
    assert evidence[-1] - evidence[0] > 1e-2


def _linear(model: Any, params: Any, **options: Any) -> WeightPosterior:
    # Steps that no prior or noise on the way makes too long.
    return fit_map(
        model,
        params,
        DataLoader.from_array_data((WIDE, NUMBERS)),
        likelihood=Gaussian(1.0),
        optimizer=ADAM,
        n_epochs=800,
        tune_prior="evidence",
        every=40,
        burn_in=40,
        progress=False,
        **options,
    )


def test_two_layers_come_to_the_largest_evidence_of_the_closed_form() -> None:
    params = {"large": {"kernel": jnp.ones((3, 1))}, "small": {"kernel": jnp.ones((4, 1))}}
    posterior = _linear(_two_layers, params, hessian_structure="full")
    wide = WIDE.astype(np.float64)
    logs, largest = _best([wide[:, :3], wide[:, 3:]])
    status = posterior.status
    _never_falls(status["evidence"])
    np.testing.assert_allclose(status["evidence"][-1], largest, rtol=1e-5)
    np.testing.assert_allclose(np.log(status["prior_precision"][-1]), logs[:2], atol=2e-3)
    np.testing.assert_allclose(np.log(status["noise_std"][-1]), logs[2], atol=1e-3)
    assert status["prior_leaves"] == ["large/kernel", "small/kernel"]
    assert posterior.likelihood.noise_std == status["noise_std"][-1]
    # The parameters are the mode under the prior and the noise that are given back.
    precision = np.repeat(status["prior_precision"][-1], [3, 4])
    weight = status["noise_std"][-1] ** -2
    mode = np.linalg.solve(
        weight * wide.T @ wide + np.diag(precision), weight * wide.T @ NUMBERS.astype(np.float64)
    )
    found = np.concatenate([np.asarray(leaf) for leaf in jax.tree.leaves(posterior.mean)])
    np.testing.assert_allclose(found, mode, atol=1e-3)


@pytest.mark.parametrize("hessian_structure", ["kron", "full"])
def test_a_head_comes_to_it_too(hessian_structure: str) -> None:
    """Kronecker factors are exact there; the frozen part runs once."""
    body = np.random.default_rng(2).normal(size=(7, 4)).astype(np.float32)
    posterior = _linear(
        _frozen_and_head,
        {"body": jnp.asarray(body), "head": {"kernel": jnp.ones((4, 1))}},
        trainable=lambda path, value: path[0] == "head",
        hessian_structure=hessian_structure,
        structure="scalar",
    )
    logs, largest = _best([(WIDE @ body).astype(np.float64)])
    _never_falls(posterior.status["evidence"])
    np.testing.assert_allclose(posterior.status["evidence"][-1], largest, rtol=1e-5)
    found = [posterior.status["prior_precision"][-1, 0], posterior.status["noise_std"][-1]]
    np.testing.assert_allclose(np.log(found), logs, atol=2e-3)


def test_noise_that_is_known_stays() -> None:
    params = {"large": {"kernel": jnp.ones((3, 1))}, "small": {"kernel": jnp.ones((4, 1))}}
    posterior = _linear(_two_layers, params, tune_noise=False)
    np.testing.assert_array_equal(posterior.status["noise_std"], 1.0)
    assert posterior.likelihood == Gaussian(1.0)


def _fit(kind: str = "function", **options: Any) -> WeightPosterior:
    model, params = network(kind, PARAMS)
    given = {"optimizer": ADAM, "n_epochs": 9, "tune_prior": "evidence", "every": 2, "burn_in": 4}
    loader = DataLoader.from_array_data((X, Y), batch_size=10, shuffle=True, seed=1)
    return fit_map(model, params, loader, **{"progress": False, **given, **options})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("structure", ["layerwise", "scalar"])
def test_the_first_stop_is_the_posterior_fitted_there(kind: str, structure: str) -> None:
    learnt = _fit(kind, structure=structure, prior_precision=2.0)
    plain = {"tune_prior": None, "every": 10, "burn_in": 10, "prior_precision": 2.0}
    there = _fit(kind, n_epochs=4, **plain)
    model, _ = network(kind, PARAMS)
    laplace = fit_laplace(
        model,
        there.merge(),
        [(X, Y)],
        hessian_structure="kron",
        prior_precision=2.0,
        progress=False,
    )
    laplace.optimize_prior_precision(structure)
    # Sums over the data come in another order.
    np.testing.assert_allclose(learnt.status["evidence"][0], laplace.tuning.evidence, rtol=1e-5)
    expected = laplace.prior.vector[np.cumsum([0, 5, 15, 3])]
    np.testing.assert_allclose(learnt.status["prior_precision"][0], expected, rtol=1e-4)
    # Until then training is what it is under a prior that stays, to the bit.
    np.testing.assert_array_equal(learnt.status["loss"][:4], there.status["loss"])


def test_the_last_prior_is_the_one_that_training_went_on_with() -> None:
    """The loss of the epoch after a stop is the negative log joint density under it."""
    learnt = _fit(n_epochs=5, optimizer=optax.sgd(0.0))
    given = _fit(
        n_epochs=1,
        optimizer=optax.sgd(0.0),
        tune_prior=None,
        every=10,
        burn_in=10,
        prior_precision=learnt_prior(learnt),
    )
    np.testing.assert_allclose(learnt.status["loss"][-1], given.status["loss"][0], rtol=1e-6)
    assert abs(learnt.status["loss"][-1] - learnt.status["loss"][0]) > 1.0


def test_what_is_frozen_may_run_once_or_at_each_stop() -> None:
    once, each = (
        _fit(trainable=lambda path, value: path[0] == "head", cache_features=cache)
        for cache in (True, False)
    )
    assert once.status["features"].startswith("cached")
    for name in ("evidence", "prior_precision"):
        np.testing.assert_allclose(once.status[name], each.status[name], rtol=1e-3)
    assert once.status["prior_leaves"] == ["head/bias", "head/kernel"]


def _behind_a_layer(params: Any, x: Any) -> Any:
    return network("function", PARAMS)[0](params["rest"], jnp.sin(x @ params["first"]))


def test_a_frozen_first_layer_may_run_once_or_at_each_stop() -> None:
    first = jnp.asarray(RNG.normal(size=(WIDTH, WIDTH)), jnp.float32)
    loader = DataLoader.from_array_data((X, Y), batch_size=10)
    once, each = (
        fit_map(
            _behind_a_layer,
            {"first": first, "rest": PARAMS},
            loader,
            trainable=lambda path, value: path[0] == "rest",
            cache_features=cache,
            optimizer=ADAM,
            n_epochs=5,
            tune_prior="evidence",
            burn_in=4,
            progress=False,
        )
        for cache in (True, False)
    )
    assert once.status["features"].startswith("cached")
    for name in ("evidence", "prior_precision"):
        np.testing.assert_allclose(once.status[name], each.status[name], rtol=1e-3)


class Normed(nn.Module):  # type: ignore[misc]
    """A hidden layer under BatchNorm, whose statistics training moves."""

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(nn.Dense(4)(x))
        return nn.Dense(CLASSES)(jnp.tanh(x))


def test_statistics_of_the_stop_are_those_that_training_moved() -> None:
    model, loader = Normed(), DataLoader.from_array_data((X, Y), batch_size=15)
    variables = model.init(jax.random.PRNGKey(0), X)
    given = {"optimizer": ADAM, "progress": False}
    learnt = fit_map(
        model, variables, loader, n_epochs=6, tune_prior="evidence", burn_in=5, **given
    )
    there = fit_map(model, variables, loader, n_epochs=5, **given)
    moved = jax.tree.map(lambda leaf: leaf[0], there.weight_samples().own)
    statistics = jax.tree.unflatten(jax.tree.structure(variables["batch_stats"]), moved)
    assert not np.allclose(moved[0], jax.tree.leaves(variables["batch_stats"])[0])
    params = {**there.merge(), "batch_stats": statistics}
    laplace = fit_laplace(model, params, loader, hessian_structure="kron", progress=False)
    laplace.optimize_prior_precision("layerwise")
    np.testing.assert_allclose(learnt.status["evidence"], [laplace.tuning.evidence], rtol=1e-5)


def test_the_same_arguments_give_the_same_bits() -> None:
    first, second = (_fit(seed=3) for _ in range(2))
    for one, other in zip(jax.tree.leaves(first.mean), jax.tree.leaves(second.mean), strict=True):
        np.testing.assert_array_equal(one, other)
    for name in ("loss", "evidence", "prior_precision"):
        np.testing.assert_array_equal(first.status[name], second.status[name])


def test_a_new_prior_and_a_new_noise_compile_nothing() -> None:
    loader = DataLoader.from_array_data((X, Y[:, None].astype(np.float32)), batch_size=10)
    params = arrays(1)
    model, _ = network("function", params)

    def fit(n_epochs: int, noise: float, **options: Any) -> None:
        fit_map(
            model,
            params,
            loader,
            likelihood=Gaussian(noise),
            optimizer=ADAM,
            n_epochs=n_epochs,
            tune_prior="evidence",
            every=1,
            burn_in=3,
            progress=False,
            **options,
        )

    fit(4, 0.5)
    before = len(COMPILED)
    fit(9, 0.7, prior_precision=3.0)
    fit(9, 0.7, prior_precision=jax.tree.map(lambda _: 2.0, params), structure="scalar")
    assert len(COMPILED) == before


def test_the_status_says_when_and_what(tmp_path: Any) -> None:
    from hoarfrost import load_posterior

    posterior = _fit(structure="weights_biases")
    status = posterior.status
    np.testing.assert_array_equal(status["prior_epochs"], [4, 6, 8])
    assert status["evidence"].shape == (3,)
    assert status["prior_precision"].shape == (3, 4)
    assert status["prior_leaves"] == ["body/bias", "body/kernel", "head/bias", "head/kernel"]
    biases, weights = status["prior_precision"][:, ::2], status["prior_precision"][:, 1::2]
    np.testing.assert_array_equal(biases[:, 0], biases[:, 1])
    np.testing.assert_array_equal(weights[:, 0], weights[:, 1])
    assert not np.allclose(biases, weights)
    assert "noise_std" not in status
    prior = learnt_prior(posterior)
    assert prior["head"]["bias"] == status["prior_precision"][-1, 2]
    posterior.save(tmp_path / "map")
    again = load_posterior(tmp_path / "map", model=network("function", PARAMS)[0])
    assert learnt_prior(again) == prior


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tune_prior": "validation"}, "tune_prior is 'validation'"),
        ({"tune_prior": True}, "tune_prior is True"),
        ({"structure": "kron"}, "structure is 'kron'"),
        ({"structure": "diagonal"}, "structure is 'diagonal'"),
        ({"hessian_structure": "layerwise"}, "hessian_structure is 'layerwise'"),
        ({"every": 0}, "every is 0"),
        ({"burn_in": 1.5}, "burn_in is 1.5"),
        ({"burn_in": 9}, "burn_in is 9, and n_epochs 9"),
        ({"tune_noise": 1}, "tune_noise must be True or False"),
        ({"tune_prior": None}, "every, burn_in would have no effect"),
        ({"prior_precision": jax.tree.map(np.ones_like, PARAMS)}, "'body/bias' is an array"),
        ({"prior_precision": -1.0}, "prior_precision is -1"),
    ],
)
def test_what_cannot_be_used_is_said_before_training(options: Any, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        _fit(**{"optimizer": _refuses(), **options})


def test_a_curvature_that_does_not_fit_is_said_before_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MemoryPlan, "fits", lambda self, name, keep: name == "diag")
    with pytest.raises(MemoryLimitError, match="'kron'"):
        _fit(optimizer=_refuses())


def test_a_network_without_layers_is_said_before_training() -> None:
    with pytest.raises(StructureError, match="'twice'"):
        fit_map(
            lambda params, x: jnp.tanh(x @ params["twice"]) @ params["twice"],
            {"twice": jnp.eye(WIDTH)},
            DataLoader.from_array_data((X, Y), batch_size=10),
            optimizer=_refuses(),
            tune_prior="evidence",
            progress=False,
        )


def test_on_a_device_of_choice_with_an_empty_leaf_the_numbers_are_the_same() -> None:
    params = {"large": {"kernel": jnp.ones((3, 1))}, "small": {"kernel": jnp.ones((4, 1))}}
    with_empty = {**params, "none": {"kernel": jnp.ones((0, 1))}}
    given = {
        "likelihood": Gaussian(1.0),
        "optimizer": ADAM,
        "n_epochs": 5,
        "tune_prior": "evidence",
        "every": 1,
        "burn_in": 2,
        "progress": False,
        "hessian_structure": "full",
    }
    loader = DataLoader.from_array_data((WIDE, NUMBERS))
    plain = fit_map(_two_layers, params, loader, **given)
    other = fit_map(_two_layers, with_empty, loader, devices=0, **given)
    for name in ("evidence", "noise_std"):
        np.testing.assert_allclose(other.status[name], plain.status[name], rtol=1e-5)
    numbers = other.status["prior_precision"]
    np.testing.assert_allclose(numbers[:, [0, 2]], plain.status["prior_precision"], rtol=1e-5)


def test_a_prior_that_was_not_learnt_is_none() -> None:
    posterior = _fit(tune_prior=None, every=10, burn_in=10, n_epochs=1)
    with pytest.raises(InvalidArgumentError, match="was not learnt"):
        learnt_prior(posterior)


def test_training_that_diverges_under_a_prior_is_a_typed_error() -> None:
    with pytest.raises(NonFiniteError) as caught:
        _fit(optimizer=optax.sgd(1e30))
    assert isinstance(caught.value, HoarfrostError)


def _refuses() -> optax.GradientTransformation:
    """An optimiser that must not come to a step."""

    def update(*_: Any, **__: Any) -> Any:
        raise AssertionError("training began")

    return optax.GradientTransformation(lambda params: (), update)
