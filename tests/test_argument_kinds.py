"""Bad kinds of every argument: a typed error that names it, before any work."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hoarfrost
from hoarfrost import checks
from hoarfrost.errors import HoarfrostError, InvalidArgumentError, MemoryLimitError, NonFiniteError
from hoarfrost.likelihood import Gaussian
from hoarfrost.prob_model.random import RandomNumberGenerator

RNG = np.random.default_rng(0)
X = np.float32(RNG.normal(size=(12, 3)))
PARAMS = {"kernel": np.float32(0.1 * RNG.normal(size=(3, 2))), "bias": np.zeros(2, np.float32)}
CLASSES, NUMBERS = RNG.integers(0, 2, 12), np.float32(RNG.normal(size=(12, 2)))


def network(params, x):
    return x @ params["kernel"] + params["bias"]


@pytest.fixture(scope="module")
def classes():
    return hoarfrost.fit_laplace(network, PARAMS, [(X, CLASSES)], progress=False)


@pytest.fixture(scope="module")
def numbers():
    data = [(X, NUMBERS)]
    return hoarfrost.fit_laplace(network, PARAMS, data, likelihood=Gaussian(0.5), progress=False)


# What is no number, no word and no key, whatever is asked for.
NONSENSE = [
    b"x",
    1j,
    np.nan,
    np.inf,
    [],
    {},
    object(),
    np.array("probit"),
    np.array(["mc", "nn"]),
    np.array([]),
    np.ma.masked,
    np.datetime64("2020"),
    len,
    np.zeros(3, np.uint32),
    np.zeros((2, 2), np.uint32),
    10**400,
    -(10**400),
]
NO_NUMBER = [*NONSENSE, True, np.True_, np.array(True), "1.0", "a"]
NO_COUNT = [*NO_NUMBER, None, 0, -1, 1.5, 10**12, 2**200]
NO_SEED = [*NO_NUMBER, None, -1, 1.5, 2**200]
THREE = (0.5, 0.5, 0.5)  # for a network with two outputs
NO_WORD = [*NONSENSE, "probits", 3, True]

METHODS = {
    "log_marginal_likelihood": ({}, {"prior_precision": [*NO_NUMBER, 0, -1.0]}),
    "with_prior_precision": ({}, {"prior_precision": [*NO_NUMBER, 0, -1.0]}),
    "optimize_prior_precision": ({}, {"structure": [*NO_WORD, None]}),
    "optimize_prior_scale": (
        {"low": 0.5, "high": 2.0},
        {"low": [*NO_NUMBER, None, 0, -1, 2.0], "high": [*NO_NUMBER, None, 0, 0.5]},
    ),
    "optimize_on": (
        {"data_loader": [(X, CLASSES)], "grid_size": 2},
        {
            "link": NO_WORD,
            "n_samples": NO_COUNT,
            "seed": NO_SEED,
            "low": [*NO_NUMBER, None, 0, -1, 1e5],
            "high": [*NO_NUMBER, None, 0, 1e-5],
            "grid_size": [*NO_COUNT, 1],
        },
    ),
    "sample": ({"seed": 0, "n_samples": 2}, {"seed": NO_SEED, "n_samples": NO_COUNT}),
    "functional_covariance": ({"inputs": X}, {"joint": [*NONSENSE, None, 1, "yes"]}),
    "predict": (
        {"inputs": X},
        {
            "link": NO_WORD,
            "n_samples": NO_COUNT,
            "seed": NO_SEED,
            "log": [*NONSENSE, None, 1, "yes"],
        },
    ),
    "predict_proba": ({"inputs": X}, {"link": NO_WORD, "n_samples": NO_COUNT, "seed": NO_SEED}),
    "log_prob": (
        {"data_loader": [(X, CLASSES)]},
        {"link": NO_WORD, "n_samples": NO_COUNT, "seed": NO_SEED},
    ),
}
CASES = [(method, argument) for method, (_, kinds) in METHODS.items() for argument in kinds]


@pytest.mark.parametrize(("method", "argument"), CASES)
def test_a_posterior_refuses_what_is_none(classes, method, argument, monkeypatch):
    given, kinds = METHODS[method]
    # Nothing is begun: neither a pass over inputs nor a draw.
    monkeypatch.setattr(type(classes.linearised), "walk_batches", None)
    monkeypatch.setattr(type(classes.factor), "deviations", None)
    before = classes.prior_precision
    for bad in kinds[argument]:
        with pytest.raises(HoarfrostError, match=argument):
            getattr(classes, method)(**{**given, argument: bad})
    assert classes.prior_precision == before


@pytest.mark.parametrize("bad", [*NO_NUMBER, 0, -1.0, 1e-200, 1e200, THREE, [0.5, -1]])
def test_noise_that_is_none(numbers, bad):
    with pytest.raises(HoarfrostError, match="noise_std"):
        numbers.log_marginal_likelihood(noise_std=bad)
    if bad is not THREE:
        with pytest.raises(InvalidArgumentError, match="noise_std is"):
            Gaussian(bad)


@pytest.mark.parametrize(
    "bad", [*NO_NUMBER, None, 0, 1, -0.1, 1.1, [0.5, np.nan], [[0.5]], [0.5, 2]]
)
def test_levels_that_are_none(numbers, bad):
    prediction = numbers.predict_regression(X)
    with pytest.raises(InvalidArgumentError, match="q is"):
        prediction.quantile(bad)
    with pytest.raises(InvalidArgumentError, match="error is"):
        prediction.credible_interval(bad)
    with pytest.raises(InvalidArgumentError, match="interval_type is"):
        prediction.credible_interval(0.1, bad)


@pytest.mark.parametrize("bad", NO_SEED)
def test_seeds_of_a_model_that_are_none(bad):
    with pytest.raises(InvalidArgumentError, match="seed is"):
        RandomNumberGenerator(bad)
    with pytest.raises(InvalidArgumentError, match="rng is"):
        checks.check_key(bad)


@pytest.mark.parametrize("kind", [np.float32, np.array, jnp.asarray, lambda v: np.array(v, ">f8")])
def test_numbers_of_any_library(numbers, kind):
    prediction = numbers.predict_regression(X)
    np.testing.assert_array_equal(prediction.quantile(kind(0.25)), prediction.quantile(0.25))
    for got, want in zip(
        prediction.credible_interval(kind(0.25)), prediction.credible_interval(0.25), strict=True
    ):
        np.testing.assert_array_equal(got, want)
    assert Gaussian(kind(0.5)) == Gaussian(0.5)
    expected = numbers.log_marginal_likelihood(2.0, 0.5)
    assert numbers.log_marginal_likelihood(kind(2.0), kind(0.5)) == expected
    found = numbers.with_prior_precision(2.0).optimize_prior_scale(0.5, 2.0)
    assert numbers.with_prior_precision(2.0).optimize_prior_scale(kind(0.5), kind(2.0)) == found


@pytest.mark.parametrize("kind", [np.int8, np.uint64, np.array, jnp.asarray])
def test_counts_and_seeds_of_any_library(classes, kind):
    want = classes.sample(3, 2)
    got = classes.sample(kind(3), kind(2))
    jax.tree.map(np.testing.assert_array_equal, got, want)
    np.testing.assert_array_equal(
        classes.predict(X, "mc", kind(5), kind(1)), classes.predict(X, "mc", 5, 1)
    )
    assert RandomNumberGenerator(kind(3)).seed == 3
    assert checks.check_number("a", Fraction(1, 2), positive=True) == 0.5


def test_more_draws_than_there_is_memory(classes):
    many = checks.LARGEST_COUNT
    for call in (
        lambda: classes.sample(0, many),
        lambda: classes.predict(X, "nn", many),
        lambda: classes.predict(X, "mc", many),
    ):
        with pytest.raises(MemoryLimitError, match="n_samples") as raised:
            call()
        assert raised.value.bytes_needed >= 8 * many


def test_draws_too_large_for_half_precision():
    params = jax.tree.map(lambda leaf: leaf.astype(np.float16), PARAMS)
    posterior = hoarfrost.fit_laplace(
        network,
        params,
        [(np.zeros((4, 3), np.float16), np.zeros(4, int))],
        prior_precision=1e-10,
        hessian_structure="diag",
        progress=False,
    )
    with pytest.raises(NonFiniteError, match="too large for float16; give a larger prior"):
        posterior.sample(0, 3)
    drawn = posterior.with_prior_precision(1.0).sample(0, 3)
    assert drawn["kernel"].dtype == np.float16


def test_a_message_shows_neither_a_whole_array_nor_all_digits():
    with pytest.raises(InvalidArgumentError) as raised:
        checks.check_count("n", 10**400, 1)
    assert str(raised.value) == f"n is a number of 1329 bits; give at most {2**31 - 1}"
    with pytest.raises(InvalidArgumentError) as raised:
        Gaussian(-np.arange(10**4))
    assert len(str(raised.value)) < 400
