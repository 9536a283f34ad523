"""Metrics of hostile numbers: right, or a typed error that names the argument and the value."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hoarfrost import metric
from hoarfrost.data import TargetsLoader
from hoarfrost.errors import HoarfrostError, InvalidArgumentError, NonFiniteError, ShapeError

PROBS = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
LABELS = np.array([0, 2, 2])
GUESSES = PROBS.argmax(1)
EPS32 = np.finfo(np.float32).eps


def masked(values):
    return np.ma.array(values, mask=[True] + [False] * (len(values) - 1))


@pytest.mark.parametrize("make", [np.asarray, list, lambda v: np.asarray(v).astype(">f8")])
def test_errors_of_large_numbers_are_those_of_float64(make):
    assert metric.rmse(make([1e9]), make([1e9 + 1])) == 1
    assert metric.rmse(make([1e9, 0.0]), make([1e9 + 1, 1.0])) == 1
    far = np.array([1e15, 3.0])
    assert metric.rmse(make(far), make(far + 0.5)) == 0.5


@pytest.mark.parametrize("largest", [2**31, 2**32, 2**53 + 1, 2**63 - 1])
def test_classes_are_compared_as_they_are(largest):
    assert metric.accuracy(np.array([largest]), np.array([0])) == 0
    assert metric.accuracy(np.array([largest]), np.array([largest - 1])) == 0
    assert metric.accuracy(np.array([largest]), np.array([largest], np.uint64)) == 1
    if largest < 2**53:
        assert metric.accuracy(np.array([float(largest)]), np.array([largest])) == 1
    else:
        assert metric.accuracy(np.array([float(2**53)]), np.array([largest])) == 0


@pytest.mark.parametrize("dtype", [">i4", ">i8", ">f4", ">f8", "<u2", "i1", "f2"])
def test_any_byte_order_and_width_gives_the_same(dtype):
    labels = LABELS.astype(dtype)
    probs = PROBS.astype(">f8" if dtype.startswith(">") else "f8")
    assert metric.accuracy(GUESSES.astype(dtype), labels) == metric.accuracy(GUESSES, LABELS)
    assert metric.nll(probs, labels) == metric.nll(PROBS, LABELS)
    assert metric.brier_score(probs, labels) == metric.brier_score(PROBS, LABELS)
    assert metric.ece(GUESSES, probs, labels) == metric.ece(GUESSES, PROBS, LABELS)
    assert metric.rmse(labels, labels + 1) == 1
    assert metric.picp(labels, labels, labels) == 1


def test_yes_and_no_are_classes():
    yes = np.array([True, False, True])
    assert metric.accuracy(yes, np.array([1, 0, 0])) == metric.accuracy(yes, [1.0, 0.0, 0.0])
    pair = PROBS[:, :2] / PROBS[:, :2].sum(1, keepdims=True)
    assert metric.nll(pair, yes) == metric.nll(pair, yes.astype(int))


def test_sums_of_many_points_keep_their_digits():
    rows = np.full((300_000, 2), 0.5, np.float32)
    rows[:, 0], rows[:, 1] = 0.1, 0.9
    labels = np.zeros(len(rows), int)
    expected = -np.log(np.float64(np.float32(0.1)))
    np.testing.assert_allclose(metric.nll(rows, labels), expected, rtol=EPS32)


BAD_LABELS = {
    "complex": np.array([0j, 1j, 2]),
    "nan": np.array([0, np.nan, 1]),
    "infinite": np.array([0, np.inf, 1]),
    "masked": masked([0, 1, 2]),
    "object": np.array([0, None, 1], object),
    "strings": np.array(["a", "b", "c"]),
    "dates": np.array(["2020-01-01"] * 3, "M8[D]"),
    "fractions": np.array([0, 0.5, 1]),
    "ragged": [[0], [1, 2], [0]],
    "matrix": np.zeros((3, 1), int),
    "scalar": 1,
    "none": None,
    "empty": np.zeros(0, int),
    "short": np.array([0, 1]),
}


@pytest.mark.parametrize("kind", BAD_LABELS)
@pytest.mark.parametrize(
    "score",
    [
        lambda bad: metric.accuracy(bad, LABELS),
        lambda bad: metric.accuracy(LABELS, bad),
        lambda bad: metric.nll(PROBS, bad),
        lambda bad: metric.brier_score(PROBS, bad),
        lambda bad: metric.ece(GUESSES, PROBS, bad),
        lambda bad: metric.mce(bad, PROBS, LABELS),
        lambda bad: metric.reliability_diagram(bad, PROBS, LABELS),
    ],
)
def test_labels_that_are_none(kind, score):
    with pytest.raises(HoarfrostError, match=r"preds|targets"):
        score(BAD_LABELS[kind])


BAD_PROBS = {
    "complex": PROBS + 0j,
    "nan": np.where(PROBS == 0.8, np.nan, PROBS),
    "infinite": np.where(PROBS == 0.8, np.inf, PROBS),
    "masked": np.ma.array(PROBS, mask=PROBS == 0.8),
    "object": PROBS.astype(object),
    "strings": PROBS.astype(str),
    "negative": PROBS + np.array([[0.2, 0.0, -0.2], [0, 0, 0], [0, 0, 0]]),
    "not one": PROBS * [[1], [0.9], [1]],
    "more than one": PROBS * [[1], [1.1], [1]],
    "logits": np.log(PROBS),
    "empty": PROBS[:0],
    "three axes": PROBS[None],
    "short": PROBS[:2],
}


@pytest.mark.parametrize("kind", BAD_PROBS)
@pytest.mark.parametrize(
    "score",
    [
        lambda bad: metric.nll(bad, LABELS),
        lambda bad: metric.brier_score(bad, LABELS),
        lambda bad: metric.ece(GUESSES, bad, LABELS),
        lambda bad: metric.mce(GUESSES, bad, LABELS),
        lambda bad: metric.reliability_diagram(GUESSES, bad, LABELS),
    ],
)
def test_probabilities_that_are_none(kind, score):
    with pytest.raises((InvalidArgumentError, ShapeError), match=r"probs|arrays have shape"):
        score(BAD_PROBS[kind])


def test_rows_of_log_probabilities_add_up_to_one_too():
    with pytest.raises(InvalidArgumentError, match=r"exp of row 1 adds up to 0\.5"):
        metric.nll(np.log([[0.5, 0.5], [0.25, 0.25]]), [0, 1], log=True)


def test_what_rounding_took_below_zero_is_zero():
    probs = np.array([[1 + 1e-7, -1e-7]], np.float32)
    assert metric.nll(probs, [1]) == np.inf
    with pytest.raises(InvalidArgumentError, match="log must be True or False"):
        metric.nll(probs, [1], log="no")


@pytest.mark.parametrize(
    "bad",
    [
        np.array([0j, 1, 2]),
        np.array([0, np.nan, 1]),
        masked([0.0, 1.0, 2.0]),
        np.array([0, None, 1], object),
        np.array(["0", "1", "2"]),
        np.array([2**53 + 1, 0, 0]),
        np.zeros((3, 1)),
        np.zeros((1, 3)),
        np.zeros(0),
    ],
)
def test_numbers_that_are_none(bad):
    good = np.zeros(3)
    for score in (
        lambda: metric.rmse(bad, good),
        lambda: metric.rmse(good, bad),
        lambda: metric.picp(bad, good, good) if bad.shape != (3, 1) else metric.rmse(bad, good),
        lambda: metric.picp(good, good, bad) if bad.shape != (3, 1) else metric.rmse(bad, good),
    ):
        with pytest.raises((InvalidArgumentError, NonFiniteError, ShapeError)):
            score()


def test_intervals_may_be_open_and_errors_must_fit():
    ends = np.full(3, np.inf)
    assert metric.picp(-ends, np.array([0.0, 1, 2]), np.array([0.0, 2, 2])) == np.float32(2 / 3)
    with pytest.raises(NonFiniteError, match=r"targets\[0\] is inf"):
        metric.picp(-ends, ends, ends)
    with pytest.raises(NonFiniteError, match="too large for float32; give predictions"):
        metric.rmse([1e60], [0.0])
    with pytest.raises(NonFiniteError, match="too large for float64"):
        metric.rmse([1e200], [0.0])


def test_scores_inside_a_program():
    def scores(probs, labels):
        guesses = probs.argmax(1)
        return (
            metric.accuracy(guesses, labels),
            metric.accuracy(guesses, LABELS),
            metric.nll(probs, labels),
            metric.brier_score(probs, LABELS),
            metric.brier_score(probs[:, 0], labels == 0),
            metric.ece(guesses, probs, labels),
            metric.mce(guesses, probs, labels, n_bins=3),
            metric.rmse(probs, probs**2),
            metric.picp(probs[:, 0], probs[:, 1], probs[:, 2]),
        )

    probs = PROBS.astype(np.float32)
    inside = jax.jit(scores)(probs, LABELS)
    np.testing.assert_allclose(inside, scores(probs, LABELS), rtol=20 * EPS32)
    gradient = jax.grad(lambda p: metric.nll(p, LABELS))(jnp.asarray(probs))
    expected = np.where(np.eye(3)[LABELS] > 0, -1 / (3 * probs), 0)
    np.testing.assert_allclose(gradient, expected, rtol=20 * EPS32)
    with pytest.raises(InvalidArgumentError, match="preds holds 4294967296, which is no int32"):
        jax.jit(lambda labels: metric.accuracy(np.full(3, 2**32), labels))(LABELS)
    with pytest.raises(InvalidArgumentError, match="preds has dtype complex64"):
        jax.jit(lambda p: metric.rmse(p, p))(jnp.ones(3, complex))
    with pytest.raises(InvalidArgumentError, match="plot is True inside of a compiled program"):
        jax.jit(lambda p: metric.ece(GUESSES, p, LABELS, plot=True))(probs)


def test_brier_score_of_a_yes_and_of_a_loader():
    yes = PROBS[:, 0]
    labels = np.array([1, 0, 1])
    expected = np.mean((yes - labels) ** 2)
    np.testing.assert_allclose(metric.brier_score(yes, labels), expected, rtol=EPS32)
    np.testing.assert_allclose(metric.brier_score(list(yes), labels), expected, rtol=EPS32)
    loader = TargetsLoader.from_array_targets(LABELS, batch_size=2)
    assert metric.brier_score(PROBS, loader) == metric.brier_score(PROBS, LABELS)
    with pytest.raises(InvalidArgumentError, match="classes from 0 to 1"):
        metric.brier_score(yes, [0, 1, 2])
    with pytest.raises(InvalidArgumentError, match="probabilities from 0 to 1"):
        metric.brier_score([0.5, 0.5, 1.5], labels)


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")
def test_the_picture_of_a_calibration_error(tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    _, axis = pyplot.subplots()
    path = tmp_path / "calibration.png"
    options = {"ax": axis, "title": "digits", "labels": ["MAP"], "fname": path, "dpi": 40}
    for score in (metric.ece, metric.mce):
        assert score(GUESSES, PROBS, LABELS, True, options) == score(GUESSES, PROBS, LABELS)
    assert path.stat().st_size > 1000
    diagram = metric.reliability_diagram(GUESSES, PROBS, LABELS)
    there = ~np.isnan(np.asarray(diagram.confidence))
    drawn = axis.lines[1].get_xydata()
    np.testing.assert_allclose(drawn[:, 0], diagram.confidence[there], rtol=EPS32)
    gap = (diagram.confidence - diagram.accuracy)[there]
    np.testing.assert_allclose(drawn[:, 1], gap, atol=4 * EPS32)
    assert axis.get_title() == "digits"
    pyplot.close("all")
    metric.ece(GUESSES, PROBS, LABELS, plot=True, plot_options={"fname": path})
    assert not pyplot.get_fignums()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plot_options": {"title": "a"}}, "plot_options is .*, but plot is False"),
        ({"plot": "yes"}, "plot must be True or False"),
        ({"plot": True, "plot_options": "title"}, "plot_options is 'title'; give a dict"),
        ({"plot": True, "plot_options": {"titel": "a"}}, "plot_options holds 'titel'"),
        ({"n_bins": 10**12}, "n_bins is 1000000000000; give at most"),
        ({"n_bins": True}, "n_bins must be a positive integer"),
        ({"n_bins": "15"}, "n_bins must be a positive integer"),
    ],
)
def test_bad_options(options, message):
    for score in (metric.ece, metric.mce):
        with pytest.raises(InvalidArgumentError, match=message):
            score(GUESSES, PROBS, LABELS, **options)
