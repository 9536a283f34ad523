"""Conformal sets and intervals: small cases by hand, coverage by simulation, every error."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from itertools import pairwise

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from hoarfrost import conformal
from hoarfrost.conformal.add_one_in import add_one_in_sets
from hoarfrost.conformal.level import rank, score_quantile

SIMPLE = conformal.SimplePredictionConformalClassifier()
ADAPTIVE = conformal.AdaptivePredictionConformalClassifier()
CV_SIMPLE = conformal.CVPlusSimplePredictionConformalClassifier()
CV_ADAPTIVE = conformal.CVPlusAdaptivePredictionConformalClassifier()
QUANTILE = conformal.QuantileConformalRegressor()
ONE_DIM = conformal.OneDimensionalUncertaintyConformalRegressor()
CV_PLUS = conformal.CVPlusConformalRegressor()
JACKKNIFE = conformal.JackknifePlusConformalRegressor()
MINMAX = conformal.JackknifeMinmaxConformalRegressor()
CLASSIFIERS = {"simple": SIMPLE, "adaptive": ADAPTIVE}
CV_CLASSIFIERS = {"simple": CV_SIMPLE, "adaptive": CV_ADAPTIVE}

PROBS = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.3, 0.5], [0.5, 0.25, 0.25]])
LABELS = np.array([0, 2, 2, 0])
TESTS = np.array([[0.8, 0.15, 0.05], [0.4, 0.35, 0.25]])


def within_three(found: float, level: float, draws: int) -> bool:
    return abs(found - level) <= 3 * math.sqrt(level * (1 - level) / draws)


# The level


@pytest.mark.parametrize("n", [1, 9, 19, 99, 100, 1000])
@pytest.mark.parametrize("error", [0.05, 0.1, 0.3, 0.5, 0.7, 0.9])
def test_the_rank_is_exact(n, error):
    exact = (n + 1) * (1 - Fraction(str(error)))
    wanted = math.ceil(exact)
    if wanted > n:
        with pytest.warns(UserWarning, match=f"less than {n} points can show"):
            assert rank(error, n, "all") == n + 1
    else:
        assert rank(error, n, "all") == wanted


def test_the_quantile_is_a_score_and_infinite_where_none_bounds():
    scores = np.array([5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 8.0, 7.0, 6.0])
    assert score_quantile(scores, 0.1, "all") == 9.0
    # 10 * (1 - 0.7) is 3.0000000000000004 in float64.
    assert score_quantile(scores, 0.7, "all") == 3.0
    message = r"error is 0.09, less than 9 points.*Give at least 11 points, or an error of at least"
    with pytest.warns(UserWarning, match=message):
        assert score_quantile(scores, 0.09, "all") == math.inf


# Classification, split


def test_simple_scores_and_sets_by_hand():
    assert np.array_equal(SIMPLE.score_fn(PROBS, LABELS), 1 - np.array([0.7, 0.3, 0.5, 0.5]))
    # Of 4 scores .3 .5 .5 .7 the ceil(5 * .6) = 3rd is .5: labels of at least .5 are in.
    assert SIMPLE.conformal_set(PROBS, LABELS, TESTS, 0.4) == [[0], []]
    # The 4th is .7: labels of at least .3 (1 - .3 in float64, on both sides).
    assert SIMPLE.conformal_set(PROBS, LABELS, TESTS, 0.2) == [[0], [0, 1]]
    # Equal scores are in: the test point is the validation point that bounds.
    assert SIMPLE.conformal_set(PROBS, LABELS, PROBS[1:2], 0.2) == [[1, 2]]


def test_adaptive_scores_and_sets_by_hand():
    scores = ADAPTIVE.score_fn(PROBS, LABELS)
    np.testing.assert_allclose(scores, [0.7, 0.9, 0.5, 0.5], rtol=4e-16)
    # .5 .5 .7 .9: the 3rd is .7, the 4th .9.
    assert ADAPTIVE.conformal_set(PROBS, LABELS, TESTS, 0.4) == [[0], [0]]
    assert ADAPTIVE.conformal_set(PROBS, LABELS, TESTS, 0.2) == [[0], [0, 1]]
    val, test = ADAPTIVE.get_scores(PROBS, LABELS, TESTS)
    assert np.array_equal(val, scores)
    np.testing.assert_allclose(test, [[0.8, 0.95, 1.0], [0.4, 0.75, 1.0]], rtol=4e-16)


def test_classes_that_are_as_probable_have_one_score():
    scores = [ADAPTIVE.score_fn([[0.4, 0.3, 0.3]], [label])[0] for label in range(3)]
    assert scores == [0.4, 1.0, 1.0]
    probs = np.array([[0.25, 0.25, 0.25, 0.25], [0.1, 0.2, 0.2, 0.5]])
    np.testing.assert_allclose(ADAPTIVE.score_fn(probs, [3, 1]), [1.0, 0.9], rtol=4e-16)


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 1, 0)])
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_the_numbering_of_the_classes_does_not_count(kind, order):
    order = np.array(order)
    rng = np.random.default_rng(0)
    probs = rng.integers(1, 4, (30, 3)).astype(float)  # with many ties
    probs /= probs.sum(1, keepdims=True)
    labels, tests = rng.integers(0, 3, 30), probs[:12]
    place = np.argsort(order)
    one = CLASSIFIERS[kind].conformal_set(probs, labels, tests, 0.3)
    other = CLASSIFIERS[kind].conformal_set(probs[:, order], place[labels], tests[:, order], 0.3)
    assert one == [sorted(order[list(held)].tolist()) for held in other]


def draws(num: int, points: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are wrong, and labels that follow others; `num` independent worlds."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num, points, classes)) * 2
    probs = np.exp(2 * logits)
    probs /= probs.sum(-1, keepdims=True)
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(-1)
    return probs, labels


@pytest.mark.parametrize("kind", CLASSIFIERS)
@pytest.mark.parametrize("error", [0.1, 0.4])
def test_split_sets_hold_the_label_as_often_as_they_say(kind, error):
    worlds, n = 4000, 19
    classifier = CLASSIFIERS[kind]
    probs, labels = draws(worlds, n + 1, 4, seed=1)
    covered = 0
    for p, y in zip(probs, labels, strict=True):
        val, test = classifier.get_scores(p[:n], y[:n], p[n:])
        (held,) = classifier.conformal_set(p[:n], y[:n], p[n:], error)
        below = np.flatnonzero(test[0] <= score_quantile(val, error, "all")).tolist()
        extra = {int(p[n].argmax())} if kind == "adaptive" else set()
        assert held == sorted({*below, *extra})
        covered += y[n] in below
    # 20 (1 - error) is whole: the coverage of the level is exact.
    assert within_three(covered / worlds, 1 - error, worlds)


def test_an_adaptive_set_is_never_empty_and_a_simple_one_may_be():
    probs, labels = draws(1, 200, 5, seed=2)
    tests, _ = draws(1, 300, 5, seed=3)
    for error in (0.5, 0.9, 0.99):
        sets = ADAPTIVE.conformal_set(probs[0], labels[0], tests[0], error)
        assert min(map(len, sets)) >= 1
        assert all(p.argmax() in held for p, held in zip(tests[0], sets, strict=True))
    assert [] in SIMPLE.conformal_set(probs[0], labels[0], tests[0], 0.9)


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_sets_shrink_as_the_error_grows(kind):
    probs, labels = draws(1, 60, 5, seed=4)
    tests, _ = draws(1, 40, 5, seed=5)
    p, y, x = probs[0], labels[0], tests[0]
    folds = [p[i::3] for i in range(3)], [y[i::3] for i in range(3)], [x, x[::-1], x]
    errors = np.linspace(0.02, 0.98, 25)
    for found in (
        [CLASSIFIERS[kind].conformal_set(p, y, x, e) for e in errors],
        [CV_CLASSIFIERS[kind].conformal_set(*folds, e) for e in errors],
    ):
        for larger, smaller in pairwise(found):
            assert all(set(b) <= set(a) for a, b in zip(larger, smaller, strict=True))
        assert sum(map(len, found[0])) > sum(map(len, found[-1]))


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_an_error_that_is_too_small_gives_every_class_and_says_so(kind):
    with pytest.warns(UserWarning, match="the answer is all classes. Give at least 19 points"):
        sets = CLASSIFIERS[kind].conformal_set(PROBS, LABELS, TESTS, 0.05)
    assert sets == [[0, 1, 2], [0, 1, 2]]
    halves = [PROBS[:2], PROBS[2:]], [LABELS[:2], LABELS[2:]], [TESTS, TESTS]
    with pytest.warns(UserWarning, match="all classes"):
        assert CV_CLASSIFIERS[kind].conformal_set(*halves, 0.05) == sets


def test_labels_that_are_in_their_sets():
    assert SIMPLE.is_in([2, 0, 1], [[0, 2], [], [1]]).tolist() == [True, False, True]
    assert CV_SIMPLE.is_in(jnp.array([3, 1]), ([3], {2})).tolist() == [True, False]


# Classification, over folds


@pytest.mark.parametrize("kind", CV_CLASSIFIERS)
def test_cv_sets_are_the_sum_of_the_paper(kind):
    classifier = CV_CLASSIFIERS[kind]
    probs, labels = draws(3, 7, 4, seed=6)
    tests, _ = draws(3, 5, 4, seed=7)
    sizes = (7, 4, 6)
    folds = (
        [p[:m] for p, m in zip(probs, sizes, strict=True)],
        [y[:m] for y, m in zip(labels, sizes, strict=True)],
        list(tests),
    )
    val, test = classifier.get_scores(*folds)
    assert val.shape == (17,) and test.shape == (3, 5, 4)
    owner = np.repeat(np.arange(3), sizes)
    for error in (0.1, 0.3, 0.6):
        wanted = [
            [
                y
                for y in range(4)
                if sum(val[i] < test[owner[i], point, y] for i in range(17)) < (1 - error) * 18
            ]
            for point in range(5)
        ]
        assert classifier.conformal_set(*folds, error) == wanted


def test_equal_scores_are_not_below():
    probs = [PROBS[[1, 1]], PROBS[[1, 1]]]  # all scores are those of the label of the test point
    held = CV_SIMPLE.conformal_set(probs, [[1, 1], [1, 1]], [PROBS[1:2], PROBS[1:2]], 0.8)
    assert held == [[1]]


@pytest.mark.parametrize("kind", CV_CLASSIFIERS)
def test_cv_sets_of_equal_models_are_split_sets(kind):
    """With one model for all folds the sum counts what the quantile counts."""
    probs, labels = draws(1, 30, 4, seed=8)
    tests, _ = draws(1, 9, 4, seed=9)
    p, y, x = probs[0], labels[0], tests[0]
    found = CV_CLASSIFIERS[kind].conformal_set([p[:8], p[8:]], [y[:8], y[8:]], [x, x], 0.2)
    val, test = CLASSIFIERS[kind].get_scores(p, y, x)
    quantile = score_quantile(val, 0.2, "all")
    assert found == [np.flatnonzero(row <= quantile).tolist() for row in test]


# Regression, split


def test_quantile_intervals_by_hand():
    low, high, y = [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [1.5, -0.25, 0.5, 1.0]
    assert QUANTILE.score(low, high, y).tolist() == [0.5, 0.25, -0.5, 0.0]
    assert QUANTILE.quantile(low, high, y, 0.2) == 0.5
    assert QUANTILE.quantile(low, high, y, 0.4) == 0.25
    found = QUANTILE.conformal_interval(low, high, [2.0, 3.0], [[4.0], [3.5]], y, 0.2)
    assert found.tolist() == [[1.5, 4.5], [2.5, 4.0]] and found.dtype == np.float64
    # The least score narrows: an interval narrower than that holds nothing.
    found = QUANTILE.conformal_interval(low, high, [2.0, 3.0], [4.0, 3.5], y, 0.8)
    assert found.tolist() == [[2.5, 3.5], [3.5, 3.0]]
    assert not QUANTILE.is_in([2.4, 3.2], found).any()


def test_uncertainty_intervals_by_hand():
    preds, stds, y = [0.0, 1.0, 2.0, 3.0], [1.0, 0.5, 2.0, 1.0], [1.0, 2.0, 2.0, 0.0]
    assert ONE_DIM.score(preds, stds, y).tolist() == [1.0, 2.0, 0.0, 3.0]
    assert ONE_DIM.quantile(preds, stds, y, 0.2) == 3.0
    found = ONE_DIM.conformal_interval(preds, stds, [[5.0], [6.0]], [[1.0], [0.5]], y, 0.4)
    assert found.tolist() == [[3.0, 7.0], [5.0, 7.0]]
    assert ONE_DIM.is_in([[3.0], [7.5]], found).tolist() == [True, False]


def test_scores_and_quantiles_that_are_given_are_used():
    arrays = [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [1.5, -0.25, 0.5, 1.0]
    for regressor in (QUANTILE, ONE_DIM):
        scores = regressor.score(*arrays)
        wanted = regressor.quantile(*arrays, 0.2)
        assert regressor.quantile(*arrays, 0.2, scores) == wanted
        assert regressor.quantile(*arrays, 0.2, scores + 3) == wanted + 3
        low, high, y = arrays
        tests = [2.0, 3.0], [4.0, 5.0]
        assert np.array_equal(
            regressor.conformal_interval(low, high, *tests, y, 0.2, wanted),
            regressor.conformal_interval(low, high, *tests, y, 0.2),
        )
        wide = regressor.conformal_interval(low, high, *tests, y, 0.2, quantile=math.inf)
        assert np.array_equal(wide, [[-math.inf, math.inf]] * 2)
    assert QUANTILE.conformal_interval([0.0], [1.0], [2.0], [4.0], [1.0], 0.5, -0.5).tolist() == [
        [2.5, 3.5]
    ]


@pytest.mark.parametrize("regressor", [QUANTILE, ONE_DIM], ids=["quantile", "uncertainty"])
@pytest.mark.parametrize("error", [0.1, 0.45])
def test_split_intervals_hold_the_target_as_often_as_they_say(regressor, error):
    worlds, n = 4000, 19
    rng = np.random.default_rng(10)
    x = rng.normal(size=(worlds, n + 1))
    y = x**2 + np.abs(x) * rng.standard_t(3, size=x.shape)
    first, second = (x - 1, x + 1.5) if regressor is QUANTILE else (x, 0.1 + np.abs(x))
    covered = 0
    for a, b, t in zip(first, second, y, strict=True):
        ends = regressor.conformal_interval(a[:n], b[:n], a[n:], b[n:], t[:n], error)
        covered += bool(regressor.is_in(t[n:], ends)[0])
    assert within_three(covered / worlds, 1 - error, worlds)


# Regression, over folds


def least_squares(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Predictions of a ridge regression through the origin."""
    return at * (x * y).sum(-1, keepdims=True) / (1 + (x * x).sum(-1, keepdims=True))


def leave_one_out(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of all leave-one-out models of each world, at the left-out and at new points."""
    slope = ((x * y).sum(-1, keepdims=True) - x * y) / (1 + (x * x).sum(-1, keepdims=True) - x * x)
    return slope * x, slope[:, :, None] * at[:, None, :]


def test_plus_intervals_are_those_of_the_paper():
    rng = np.random.default_rng(11)
    val, y, tests = rng.normal(size=9), rng.normal(size=9), rng.normal(size=(9, 4))
    r = np.abs(y - val)
    for error in (0.1, 0.2, 0.35):
        found = JACKKNIFE.conformal_interval(val, y, tests, error)
        low, high = math.floor(10 * error + 1e-9), math.ceil(10 * (1 - error) - 1e-9)
        for point in range(4):
            assert found[point, 0] == np.sort(tests[:, point] - r)[low - 1]
            assert found[point, 1] == np.sort(tests[:, point] + r)[high - 1]
        q = np.sort(r)[high - 1]
        wide = MINMAX.conformal_interval(val, y, tests[..., None], error)
        assert np.array_equal(wide, np.stack([tests.min(0) - q, tests.max(0) + q], axis=1))
        assert (wide[:, 0] <= found[:, 0]).all() and (wide[:, 1] >= found[:, 1]).all()
        # As many folds as points.
        folds = [list(part[:, None]) for part in (val, y)]
        assert np.array_equal(CV_PLUS.conformal_interval(*folds, list(tests), error), found)


def test_a_fold_counts_as_often_as_it_has_points():
    rng = np.random.default_rng(12)
    val, y, tests = rng.normal(size=9), rng.normal(size=9), rng.normal(size=(3, 4))
    parts = slice(0, 2), slice(2, 7), slice(7, 9)
    given = [val[p] for p in parts], [y[p][:, None] for p in parts], list(tests)
    before = [[part.copy() for part in argument] for argument in given]
    found = CV_PLUS.conformal_interval(*given, 0.2)
    wanted = JACKKNIFE.conformal_interval(val, y, tests[[0, 0, 1, 1, 1, 1, 1, 2, 2]], 0.2)
    assert np.array_equal(found, wanted)
    for argument, old in zip(given, before, strict=True):  # nobody's list is written to
        assert all(np.array_equal(a, b) for a, b in zip(argument, old, strict=True))


def test_blocks_of_test_points_make_no_difference(monkeypatch):
    rng = np.random.default_rng(13)
    arrays = rng.normal(size=7), rng.normal(size=7), rng.normal(size=(7, 11))
    whole = JACKKNIFE.conformal_interval(*arrays, 0.2)
    monkeypatch.setattr("hoarfrost.conformal.regression.plus._BLOCK", 15)
    assert np.array_equal(JACKKNIFE.conformal_interval(*arrays, 0.2), whole)


@pytest.mark.parametrize("error", [0.1, 0.3])
def test_leave_one_out_intervals_hold_the_target_as_often_as_they_say(error):
    worlds, n = 2000, 19
    rng = np.random.default_rng(14)
    x = rng.normal(size=(worlds, n + 1))
    y = 2 * x + rng.standard_t(4, size=x.shape)
    val, tests = leave_one_out(x[:, :n], y[:, :n], x[:, n:])
    plus = minmax = 0
    for v, t, at, target in zip(val, y[:, :n], tests, y[:, n:], strict=True):
        plus += bool(JACKKNIFE.is_in(target, JACKKNIFE.conformal_interval(v, t, at, error))[0])
        minmax += bool(MINMAX.is_in(target, MINMAX.conformal_interval(v, t, at, error))[0])
    # A stable model: near the level, of which half is guaranteed; minmax is at least at it.
    assert within_three(plus / worlds, 1 - error, worlds)
    assert plus / worlds >= 1 - 2 * error
    slack = 3 * math.sqrt(error * (1 - error) / worlds)
    assert 1 - error - slack <= minmax / worlds and minmax > plus


def test_cv_plus_intervals_hold_the_target_as_often_as_they_say():
    worlds, n, folds, error = 2000, 19, 3, 0.2
    rng = np.random.default_rng(15)
    x = rng.normal(size=(worlds, n + 1))
    y = 2 * x + rng.standard_t(4, size=x.shape)
    parts = [np.arange(n) % folds == i for i in range(folds)]
    inside = x[:, :n], y[:, :n]
    val, tests = [], []
    for part in parts:
        rest = inside[0][:, ~part], inside[1][:, ~part]
        val.append(least_squares(*rest, inside[0][:, part]))
        tests.append(least_squares(*rest, x[:, n:]))
    covered = 0
    for world in range(worlds):
        ends = CV_PLUS.conformal_interval(
            [v[world] for v in val],
            [inside[1][world, part] for part in parts],
            [t[world] for t in tests],
            error,
        )
        covered += bool(CV_PLUS.is_in(y[world, n:], ends)[0])
    assert within_three(covered / worlds, 1 - error, worlds)


def intervals(error: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(16)
    a, y, tests = rng.normal(size=30), rng.normal(size=30), rng.normal(size=(30, 6))
    at, width = tests[0], np.ones(6)
    halves = [a[:12], a[12:]], [y[:12], y[12:]], [tests[0], tests[1]]
    return {
        "quantile": QUANTILE.conformal_interval(a - 1, a + 1, at - 1, at + 1, y, error),
        "uncertainty": ONE_DIM.conformal_interval(a, np.ones(30), at, width, y, error),
        "cv+": CV_PLUS.conformal_interval(*halves, error),
        "jackknife+": JACKKNIFE.conformal_interval(a, y, tests, error),
        "minmax": MINMAX.conformal_interval(a, y, tests, error),
    }


@pytest.mark.parametrize("name", ["quantile", "uncertainty", "cv+", "jackknife+", "minmax"])
def test_intervals_shrink_as_the_error_grows(name):
    found = [intervals(error)[name] for error in (0.04, 0.1, 0.25, 0.4, 0.49, 0.8)]
    for larger, smaller in pairwise(found):
        assert (larger[:, 0] <= smaller[:, 0]).all() and (larger[:, 1] >= smaller[:, 1]).all()
    assert (found[0][:, 0] < found[-1][:, 0]).all()
    with pytest.warns(UserWarning, match="whole line for every point.*at least 33 points"):
        assert np.array_equal(intervals(0.03)[name], [[-math.inf, math.inf]] * 6)


# A Bayesian classifier's own sets


def test_add_one_in_sets_are_those_of_the_paper():
    rng = np.random.default_rng(17)
    train, test = np.log(rng.uniform(size=(6, 9))), np.log(rng.uniform(size=(6, 4, 3)))
    ranks = np.empty((4, 3), int)
    for point, y in np.ndindex(4, 3):
        w = np.exp(test[:, point, y])
        w = w / w.sum()
        scores = np.append(w @ np.exp(train), w @ np.exp(test[:, point, y]))
        ranks[point, y] = (scores <= scores[-1]).sum()
        _, sizes = add_one_in_sets(train, test, 0.3)
        assert np.isclose(sizes[point, y], 1 / (w**2).sum(), rtol=1e-13)
    for tenths in range(1, 10):
        sets, _ = add_one_in_sets(train, test, tenths / 10)
        assert sets == [np.flatnonzero(row > tenths).tolist() for row in ranks]


def test_probabilities_below_float64_are_ranked_too():
    rng = np.random.default_rng(18)
    train, test = np.log(rng.uniform(size=(6, 9))), np.log(rng.uniform(size=(6, 4, 3)))
    sets, sizes = add_one_in_sets(train, test, 0.3)
    lower, lower_sizes = add_one_in_sets(train - 2000, test - 2000, 0.3)
    assert lower == sets
    np.testing.assert_allclose(lower_sizes, sizes, rtol=1e-11)


def test_add_one_in_sets_hold_the_label_as_often_as_they_say():
    """Two classes of unknown frequency: the posterior is a Beta, drawn exactly."""
    worlds, n, samples, error = 3000, 9, 200, 0.2
    rng = np.random.default_rng(19)
    covered = 0
    for _ in range(worlds):
        frequency = rng.beta(1, 1)
        labels = (rng.uniform(size=n + 1) < frequency).astype(int)
        draw = rng.beta(1 + labels[:n].sum(), 1 + n - labels[:n].sum(), size=samples)
        log_p = np.log(np.clip(np.stack([1 - draw, draw], axis=1), 1e-300, 1))
        sets, _ = add_one_in_sets(log_p[:, labels[:n]], log_p[:, None], error)
        covered += labels[n] in sets[0]
    assert covered / worlds >= 1 - error - 3 * math.sqrt(error * (1 - error) / worlds)


# What is given


@pytest.mark.parametrize(
    "dtype", [np.float16, ml_dtypes.bfloat16, np.float32, ">f4", ">f8", np.longdouble], ids=str
)
def test_odd_dtypes_give_what_their_numbers_give(dtype):
    """Values that every dtype holds exactly."""
    probs = np.array([[0.5, 0.25, 0.25], [0.125, 0.625, 0.25], [0.25, 0.25, 0.5]])
    y, x = np.array([0, 2, 2]), np.array([[0.75, 0.125, 0.125]])
    for classifier in CLASSIFIERS.values():
        wanted = classifier.conformal_set(probs, y, x, 0.3)
        found = classifier.conformal_set(probs.astype(dtype), y.astype(">i8"), x.astype(dtype), 0.3)
        assert found == wanted
    numbers = np.array([0.5, 1.0, 1.5, 2.5])
    wanted = ONE_DIM.conformal_interval(numbers, numbers, numbers, numbers, numbers[::-1], 0.3)
    n = numbers.astype(dtype)
    assert np.array_equal(ONE_DIM.conformal_interval(n, n, n, n, n[::-1], 0.3), wanted)


def test_nothing_warns_at_a_level_that_the_points_show():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SIMPLE.conformal_set(PROBS, LABELS, TESTS, 0.2)
        intervals(0.04)
