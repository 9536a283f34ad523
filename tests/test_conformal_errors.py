"""What conformal prediction is given and cannot use: a typed error that names the argument."""

from __future__ import annotations

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hoarfrost import conformal
from hoarfrost.errors import InvalidArgumentError, NonFiniteError, ShapeError

SIMPLE = conformal.SimplePredictionConformalClassifier()
CLASSIFIERS = SIMPLE, conformal.AdaptivePredictionConformalClassifier()
CV_SIMPLE = conformal.CVPlusSimplePredictionConformalClassifier()
QUANTILE = conformal.QuantileConformalRegressor()
ONE_DIM = conformal.OneDimensionalUncertaintyConformalRegressor()
CV_PLUS = conformal.CVPlusConformalRegressor()
JACKKNIFE = conformal.JackknifePlusConformalRegressor()
MINMAX = conformal.JackknifeMinmaxConformalRegressor()

PROBS = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.3, 0.5], [0.5, 0.25, 0.25]])
LABELS = np.array([0, 2, 2, 0])
TESTS = np.array([[0.8, 0.15, 0.05], [0.4, 0.35, 0.25]])
MASKED = np.ma.masked_array(PROBS, PROBS == 0.7)
N4, P4 = np.arange(4.0), np.ones(4)
NAN4 = np.array([0.0, np.nan, 0.0, 0.0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((PROBS[:, 0], LABELS, TESTS, 0.3), ShapeError, r"val_probs must have shape \(N, C\)"),
        ((PROBS, LABELS[:3], TESTS, 0.3), ShapeError, "val_targets has 3 points, but val_probs 4"),
        ((PROBS, LABELS[:, None], TESTS, 0.3), ShapeError, r"val_targets must have shape \(N,\)"),
        ((PROBS, LABELS, TESTS[:, :2], 0.3), ShapeError, "test_probs has 2 classes, but val_probs"),
        ((PROBS, LABELS, TESTS[:0], 0.3), ShapeError, "test_probs has shape .*give a point"),
        ((PROBS * 2, LABELS, TESTS, 0.3), InvalidArgumentError, "val_probs must be probabilities"),
        ((PROBS * 0.9, LABELS, TESTS, 0.3), InvalidArgumentError, "row of val_probs must add up"),
        ((PROBS, LABELS, TESTS * 0.9, 0.3), InvalidArgumentError, "row of test_probs must add up"),
        ((PROBS * NAN4[:, None], LABELS, TESTS, 0.3), InvalidArgumentError, "val_probs must be"),
        ((MASKED, LABELS, TESTS, 0.3), InvalidArgumentError, "val_probs is an array with 1 masked"),
        ((PROBS, LABELS + 1, TESTS, 0.3), InvalidArgumentError, r"val_targets\[1\] is 3"),
        ((PROBS, LABELS - 1, TESTS, 0.3), InvalidArgumentError, r"val_targets\[0\] is -1"),
        ((PROBS, LABELS + 0.5, TESTS, 0.3), InvalidArgumentError, "val_targets must be classes"),
        ((PROBS, LABELS, "abc", 0.3), InvalidArgumentError, "test_probs has dtype"),
        *(
            ((PROBS, LABELS, TESTS, wrong), InvalidArgumentError, "error is .*between 0 and 1")
            for wrong in (0, 1, -0.1, 1.5, math.nan, math.inf, True, None, "0.1", [0.1, 0.2])
        ),
    ],
)
def test_errors_of_split_classifiers(arguments, error, message):
    for classifier in CLASSIFIERS:
        with pytest.raises(error, match=message):
            classifier.conformal_set(*arguments)


FOLDS = [PROBS[:2], PROBS[2:]], [LABELS[:2], LABELS[2:]], [TESTS, TESTS]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({0: PROBS}, InvalidArgumentError, "cross_val_probs is a ndarray; give a list of arrays"),
        ({1: []}, InvalidArgumentError, "cross_val_targets is empty; give a list"),
        ({2: [TESTS]}, ShapeError, "cross_test_probs has 1 folds, but cross_val_probs 2"),
        ({2: [TESTS, TESTS[:1]]}, ShapeError, r"cross_test_probs\[1\] has 1 points, but .*\[0\] 2"),
        ({2: [TESTS, TESTS[:, :2]]}, ShapeError, r"cross_test_probs\[1\] has 2 classes"),
        ({1: [LABELS[:2], LABELS[1:]]}, ShapeError, r"cross_val_targets\[1\] has 3 points"),
        ({1: [LABELS[:2], LABELS[2:] + 1]}, InvalidArgumentError, r"cross_val_targets\[1\]\[0\]"),
        ({0: [PROBS[:2], PROBS[2:] / 2]}, InvalidArgumentError, r"row of cross_val_probs\[1\]"),
    ],
)
def test_errors_of_classifiers_over_folds(change, error, message):
    given = [change.get(i, part) for i, part in enumerate(FOLDS)]
    with pytest.raises(error, match=message):
        CV_SIMPLE.conformal_set(*given, 0.3)
    with pytest.raises(error, match=message):
        CV_SIMPLE.get_scores(*given)


def test_one_fold_is_none():
    with pytest.raises(InvalidArgumentError, match="cross_val_probs has one fold"):
        CV_SIMPLE.conformal_set([PROBS], [LABELS], [TESTS], 0.3)
    with pytest.raises(InvalidArgumentError, match="cross_val_outputs has one fold"):
        CV_PLUS.conformal_interval([N4], [N4], [N4], 0.3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ONE_DIM.score(N4, P4 * 0, N4), InvalidArgumentError, "val_uncertainties must be"),
        (lambda: ONE_DIM.score(N4, P4[:3], N4), ShapeError, "val_uncertainties has 3 points"),
        (lambda: ONE_DIM.score(NAN4, P4, N4), NonFiniteError, r"val_preds\[1\] is nan"),
        (lambda: ONE_DIM.score(N4, P4, N4 + np.inf), NonFiniteError, "val_targets"),
        (lambda: ONE_DIM.score(np.eye(4), P4, N4), ShapeError, r"val_preds must have shape \(N,\)"),
        (lambda: ONE_DIM.score(N4, 1.0, N4), ShapeError, "val_uncertainties must have shape"),
        (lambda: ONE_DIM.score(1e308 * P4, P4, -1e308 * P4), NonFiniteError, "beyond float64"),
        (lambda: ONE_DIM.quantile(N4, P4, N4, 0.3, -P4), InvalidArgumentError, "scores must be at"),
        (lambda: ONE_DIM.quantile(N4, P4, N4, 0.3, [1.0]), ShapeError, "scores has 1 points"),
        (lambda: ONE_DIM.quantile(N4, P4, N4, 1.0), InvalidArgumentError, "error is 1.0"),
        (
            lambda: ONE_DIM.conformal_interval(N4, P4, N4, -P4, N4, 0.3),
            InvalidArgumentError,
            r"test_uncertainties must be above 0, but test_uncertainties\[0\] is -1.0",
        ),
        (
            lambda: ONE_DIM.conformal_interval(N4, P4, N4, P4, N4, 0.3, quantile=-1.0),
            InvalidArgumentError,
            "quantile is -1.0",
        ),
        (
            lambda: QUANTILE.conformal_interval(N4, N4, N4, N4, N4, 0.3, quantile=math.nan),
            InvalidArgumentError,
            "quantile is nan",
        ),
        (
            lambda: QUANTILE.conformal_interval(N4, N4, N4, N4, N4, 2, quantile=1.0),
            InvalidArgumentError,
            "error is 2",
        ),
        (
            lambda: QUANTILE.conformal_interval(N4, N4, N4, N4[:2], N4, 0.3),
            ShapeError,
            "test_upper_bounds has 2 points, but test_lower_bounds 4",
        ),
        (lambda: QUANTILE.score(N4, N4, N4[:1]), ShapeError, "val_targets has 1 points"),
        (
            lambda: JACKKNIFE.conformal_interval(N4, N4, np.ones((3, 2)), 0.3),
            ShapeError,
            r"loo_test_outputs must have shape \(4, N\)",
        ),
        (
            lambda: MINMAX.conformal_interval(N4, N4, N4, 0.3),
            ShapeError,
            "loo_test_outputs must have shape",
        ),
        (
            lambda: CV_PLUS.conformal_interval([N4, N4], [N4, N4[:2]], [N4, N4], 0.3),
            ShapeError,
            r"cross_val_targets\[1\] has 2 points, but cross_val_outputs\[1\] 4",
        ),
        (
            lambda: CV_PLUS.conformal_interval([N4, N4], [N4, N4], [N4, N4[:2]], 0.3),
            ShapeError,
            r"cross_test_outputs\[1\] has 2 points",
        ),
        (lambda: CV_PLUS.is_in(N4, N4), ShapeError, r"conformal_intervals must have shape"),
        (lambda: CV_PLUS.is_in(N4, np.ones((3, 2))), ShapeError, "conformal_intervals has 3"),
        (lambda: CV_PLUS.is_in(NAN4, np.ones((4, 2))), NonFiniteError, r"values\[1\] is nan"),
        (
            lambda: CV_PLUS.is_in(N4, np.full((4, 2), np.nan)),
            NonFiniteError,
            "conformal_intervals",
        ),
        (lambda: SIMPLE.is_in([0, 1], [[0]]), ShapeError, "conformal_sets has 1 points"),
        (lambda: SIMPLE.is_in([0.5], [[0]]), InvalidArgumentError, "values must be classes"),
        (lambda: SIMPLE.is_in([[0]], [[0]]), ShapeError, "values must have shape"),
        (lambda: SIMPLE.is_in([0], "a"), InvalidArgumentError, "conformal_sets is 'a'"),
        (lambda: SIMPLE.is_in([0], ["a"]), InvalidArgumentError, r"conformal_sets\[0\] is 'a'"),
        (lambda: SIMPLE.is_in([0], [[0.5]]), InvalidArgumentError, r"conformal_sets\[0\] is"),
    ],
)
def test_errors_of_the_others(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", conformal.__all__)
def test_a_traced_argument_is_named(name):
    one = getattr(conformal, name)()
    values = jnp.ones((2, 1))

    def traced(x):
        if "CVPlus" in name:
            part = one.conformal_set if "Classifier" in name else one.conformal_interval
            return part([x, x], [x, x], [x, x], 0.3)
        if "Classifier" in name:
            return one.conformal_set(x, x, x, 0.3)
        if "Jackknife" in name:
            return one.conformal_interval(x, x, x, 0.3)
        return one.conformal_interval(x, x, x, x, x, 0.3)

    with pytest.raises(InvalidArgumentError, match=re.escape("outside of jax.jit")):
        jax.jit(traced)(values)
