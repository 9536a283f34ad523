"""Metrics against closed forms, NumPy by hand, and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hoarfrost import metric
from hoarfrost.errors import InvalidArgumentError, ShapeError

N, C = 503, 4
RNG = np.random.default_rng(0)
PROBS = RNG.dirichlet(np.full(C, 0.4), size=N).astype(np.float32)
TARGETS = np.where(RNG.random(N) < 0.6, PROBS.argmax(1), RNG.integers(0, C, N))
PREDS = PROBS.argmax(1)
# Means over N float32 terms of order one.
TOLERANCE = N * np.finfo(np.float32).eps


def binned(n_bins):
    """(count, confidence, accuracy) of each bin, by a plain loop in float64."""
    rows = []
    confidence = PROBS.max(1)
    for low, high in zip(np.arange(n_bins) / n_bins, (np.arange(n_bins) + 1) / n_bins, strict=True):
        here = (confidence > np.float32(low)) & (confidence <= np.float32(high))
        count = here.sum()
        mean = confidence[here].mean(dtype=float) if count else np.nan
        right = (PREDS == TARGETS)[here].mean() if count else np.nan
        rows.append((count, mean, right))
    return np.array(rows).T


def test_accuracy():
    assert metric.accuracy(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2])) == 0.75
    assert metric.accuracy([0, 1, 2, 2], [0, 1, 1, 2]) == 0.75
    sklearn = pytest.importorskip("sklearn.metrics")
    np.testing.assert_allclose(
        metric.accuracy(PREDS, TARGETS), sklearn.accuracy_score(TARGETS, PREDS), rtol=TOLERANCE
    )


def test_negative_log_likelihood():
    probs = np.array([[0.5, 0.5], [0.25, 0.75]])
    expected = -(np.log(0.5) + np.log(0.75)) / 2
    np.testing.assert_allclose(metric.nll(probs, np.array([0, 1])), expected, rtol=TOLERANCE)
    sklearn = pytest.importorskip("sklearn.metrics")
    np.testing.assert_allclose(
        metric.negative_log_likelihood(PROBS, TARGETS),
        sklearn.log_loss(TARGETS, PROBS, labels=range(C)),
        rtol=TOLERANCE,
    )


def test_log_probabilities_keep_what_probabilities_lose():
    logits = np.array([[0.0, 1e4], [1e4, 0.0]])
    log_probs = jax.nn.log_softmax(logits)
    targets = np.array([0, 0])
    np.testing.assert_allclose(metric.nll(log_probs, targets, log=True), 5e3, rtol=TOLERANCE)
    assert metric.nll(jnp.exp(log_probs), targets) == np.inf
    np.testing.assert_allclose(
        metric.nll(np.log(PROBS), TARGETS, log=True), metric.nll(PROBS, TARGETS), rtol=TOLERANCE
    )


def test_brier_score():
    assert metric.brier_score(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 0])) == 1.0
    by_hand = ((PROBS.astype(float) - np.eye(C)[TARGETS]) ** 2).sum(1).mean()
    np.testing.assert_allclose(metric.brier_score(PROBS, TARGETS), by_hand, rtol=TOLERANCE)
    sklearn = pytest.importorskip("sklearn.metrics")
    pair = np.stack([1 - PROBS[:, 0], PROBS[:, 0]], axis=1)
    np.testing.assert_allclose(
        metric.brier_score(pair, (TARGETS == 0).astype(int)),
        2 * sklearn.brier_score_loss(TARGETS == 0, PROBS[:, 0]),
        rtol=TOLERANCE,
    )


@pytest.mark.parametrize("n_bins", [1, 2, 7, 15])
def test_calibration_against_a_plain_loop(n_bins):
    count, confidence, right = binned(n_bins)
    assert count.sum() == N
    diagram = metric.reliability_diagram(PREDS, PROBS, TARGETS, n_bins=n_bins)
    assert diagram.edges.shape == (n_bins + 1,)
    np.testing.assert_array_equal(diagram.counts, count)
    np.testing.assert_allclose(diagram.confidence, confidence, rtol=TOLERANCE)
    np.testing.assert_allclose(diagram.accuracy, right, rtol=TOLERANCE)
    gap = np.abs(right - confidence)
    np.testing.assert_allclose(
        metric.expected_calibration_error(PREDS, PROBS, TARGETS, n_bins=n_bins),
        np.nansum(count * gap) / N,
        rtol=TOLERANCE,
    )
    np.testing.assert_allclose(
        metric.maximum_calibration_error(PREDS, PROBS, TARGETS, n_bins=n_bins),
        np.nanmax(gap),
        rtol=TOLERANCE,
    )


def test_calibration_errors_in_closed_form():
    # Confidence 0.8, of which half is right; confidence 1, all right.
    probs = np.array([[0.8, 0.2]] * 4 + [[0.0, 1.0]] * 6)
    preds = probs.argmax(1)
    targets = np.array([0, 0, 1, 1] + [1] * 6)
    np.testing.assert_allclose(metric.ece(preds, probs, targets), 0.4 * 0.3, rtol=TOLERANCE)
    np.testing.assert_allclose(metric.mce(preds, probs, targets), 0.3, rtol=TOLERANCE)
    # Errors of opposite sign cancel when one bin holds all.
    np.testing.assert_allclose(
        metric.ece(preds, probs, targets, n_bins=1), abs(0.8 - 0.92), rtol=10 * TOLERANCE
    )


def test_edges_belong_to_the_bin_below():
    rows = [[0.6, 0.4, 0, 0, 0], [0.8, 0.2, 0, 0, 0], [1.0, 0, 0, 0, 0], [0.2] * 5]
    probs = np.array(rows)
    diagram = metric.reliability_diagram(np.zeros(4), probs, np.zeros(4), n_bins=5)
    assert diagram.counts.tolist() == [1, 0, 1, 1, 1]
    assert np.isnan(diagram.confidence[1])
    assert np.isnan(diagram.accuracy[1])


def test_root_mean_squared_error():
    preds, targets = RNG.normal(size=(2, N, 3))
    expected = np.sqrt(((preds - targets) ** 2).sum(1).mean())
    np.testing.assert_allclose(metric.rmse(preds, targets), expected, rtol=TOLERANCE)
    sklearn = pytest.importorskip("sklearn.metrics")
    np.testing.assert_allclose(
        metric.root_mean_squared_error(preds[:, 0], targets[:, 0]),
        sklearn.root_mean_squared_error(targets[:, 0], preds[:, 0]),
        rtol=TOLERANCE,
    )


def test_prediction_interval_coverage_probability():
    targets = np.array([0.0, 1.0, 2.0, 3.0])
    assert metric.picp(targets - 1, targets + np.array([1, 1, -0.5, 0]), targets) == 0.75
    assert metric.picp((targets - 1)[:, None], targets + 1, targets[:, None]) == 1.0


def test_half_precision_is_summed_in_single():
    ones = np.full((5000, 2), 0.5, np.float16)
    score = metric.brier_score(ones, np.zeros(5000, int))
    assert score.dtype == jnp.float32
    np.testing.assert_allclose(score, 0.5, rtol=TOLERANCE)


def test_metrics_work_while_tracing():
    def scores(probs, targets):
        return metric.accuracy(probs.argmax(1), targets), metric.ece(
            probs.argmax(1), probs, targets, n_bins=5
        )

    traced = jax.jit(scores)(PROBS, TARGETS)
    np.testing.assert_allclose(traced, scores(PROBS, TARGETS), rtol=TOLERANCE)


def test_known_numbers_compile_nothing():
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **_: compiled.append(name) if "backend_compile" in name else None
    )
    for n_bins in (15, 3):
        for count in (N, N - 1):
            metric.ece(PREDS[:count], PROBS[:count], TARGETS[:count], n_bins=n_bins)
            metric.mce(PREDS[:count], PROBS[:count], TARGETS[:count], n_bins=n_bins)
            metric.nll(PROBS[:count], TARGETS[:count])
            metric.rmse(PROBS[:count], PROBS[:count])
    assert not compiled


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metric.accuracy(PROBS, TARGETS), r"preds must be .* argmax\(-1\)"),
        (lambda: metric.accuracy(PREDS[1:], TARGETS), r"same length, but have \(502,\) and"),
        (lambda: metric.accuracy(PREDS[:0], TARGETS[:0]), "no data point to score"),
        (lambda: metric.nll(PROBS[:, 0], TARGETS), r"probs must have shape \(N, C\)"),
        (lambda: metric.brier_score(PROBS, TARGETS[1:]), r"\(503, 4\) and \(502,\)"),
        (lambda: metric.brier_score(PROBS, TARGETS + 1), r"classes from 0 to 3.* is 4"),
        (lambda: metric.brier_score(PROBS, TARGETS - 1.0), r"classes from 0 to 3.* is -1.0"),
        (lambda: metric.nll(PROBS, TARGETS * 0.5), "classes from 0 to 3.* is [01].5"),
        (lambda: metric.brier_score(PROBS * 9 - 2, TARGETS), r"from 0 to 1.*softmax"),
        (lambda: metric.nll(PROBS * np.nan, TARGETS), "probabilities from 0 to 1.* nan"),
        (lambda: metric.nll(PROBS, TARGETS, log=True), "log-probabilities, none above 0"),
        (lambda: metric.ece(PREDS, PROBS, TARGETS, n_bins=0), "n_bins must be a positive integer"),
        (lambda: metric.mce(PREDS, PROBS, TARGETS, n_bins=2.5), "n_bins .* it is 2.5"),
        (lambda: metric.rmse(np.ones(3), np.ones((3, 1))), r"same shape.* \(3,\) and \(3, 1\)"),
        (
            lambda: metric.picp(np.ones(3), np.ones((3, 2)), np.ones(3)),
            r"upper_bounds has \(3, 2\)",
        ),
        (lambda: metric.picp(np.ones(3), np.ones(2), np.ones(3)), r"upper_bounds has \(2,\)"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises((ShapeError, InvalidArgumentError), match=message):
        call()
