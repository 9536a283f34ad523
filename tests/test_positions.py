"""Outputs with positions: tokens ``(B, T, C)`` and pixels ``(B, H, W, C)``, each a data point."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from token_problems import (
    AT_ONCE,
    COUNTED,
    EPS32,
    HEAD_OR_ALL,
    LABELS,
    PARAMS,
    TARGETS,
    C,
    D,
    N,
    T,
    X,
    assert_near,
    fit,
    head_only,
    in_small_pieces,
    rows,
    token_net,
)

import hoarfrost
from hoarfrost.data import DataLoader
from hoarfrost.errors import (
    DataError,
    InvalidArgumentError,
    NonFiniteError,
    ShapeError,
)
from hoarfrost.likelihood import Gaussian


@pytest.mark.parametrize("structure", ["full", "diag"])
@pytest.mark.parametrize("likelihood", TARGETS)
@HEAD_OR_ALL
def test_positions_are_points_of_their_own(likelihood, structure, trainable):
    options = {"hessian_structure": structure, "trainable": trainable}
    y = TARGETS[likelihood]
    tokens = fit(X, y, likelihood, **options)
    points = fit(rows(X), rows(y), likelihood, batch_size=4 * T, **options)
    assert tokens.num_data == points.num_data == N * T
    assert (tokens.linearised.head is None) == (trainable is None)
    assert_near(tokens.precision(), points.precision())
    assert_near(tokens.log_marginal_likelihood(), points.log_marginal_likelihood())
    for tau in (0.3, 4.0):
        assert_near(tokens.log_marginal_likelihood(tau), points.log_marginal_likelihood(tau))
    assert_near(
        tokens.functional_covariance(X), points.functional_covariance(rows(X)).reshape(N, T, C, C)
    )
    assert_near(tokens.functional_variance(X), points.functional_variance(rows(X)).reshape(N, T, C))
    joint = points.functional_covariance(rows(X[:3]), joint=True)
    assert_near(tokens.functional_covariance(X[:3], joint=True), joint.reshape(3, T, C, 3, T, C))


@pytest.mark.parametrize("likelihood", TARGETS)
def test_predictions_have_the_shape_of_the_outputs(likelihood):
    y = TARGETS[likelihood]
    tokens, points = fit(X, y, likelihood), fit(rows(X), rows(y), likelihood)
    links = {
        "categorical": ["probit", "mc", "bridge", "nn"],
        "bernoulli": ["probit", "mc", "nn"],
        "poisson": [None, "nn"],
        "gaussian": [None, "nn"],
    }
    for link in links[likelihood]:
        got, expected = (
            posterior.predict(inputs, link)
            for posterior, inputs in ((tokens, X), (points, rows(X)))
        )
        for mine, theirs in zip(
            *((x if isinstance(x, tuple) else (x,)) for x in (got, expected)), strict=True
        ):
            assert mine.shape == (N, T, C)
            # A draw's rounding: the precision's rounding times its condition.
            np.testing.assert_allclose(mine, theirs.reshape(N, T, C), rtol=1e-3, atol=1e-4)
        densities = tokens.log_prob([(X, y)], link or "nn")
        assert densities.shape == (N, T)
        expected = points.log_prob([(rows(X), rows(y))], link or "nn")
        np.testing.assert_allclose(densities, expected.reshape(N, T), rtol=1e-3, atol=1e-3)


def test_numbers_have_variances_and_quantiles_at_every_position():
    y = TARGETS["gaussian"]
    tokens = fit(X, y, Gaussian((0.5, 1.0, 2.0)))
    points = fit(rows(X), rows(y), Gaussian((0.5, 1.0, 2.0)))
    found, expected = tokens.predict_regression(X), points.predict_regression(rows(X))
    for name in ("mean", "epistemic_variance", "noise_variance", "std"):
        assert_near(getattr(found, name), getattr(expected, name).reshape(N, T, C))
    assert_near(found.quantile(0.1), expected.quantile(0.1).reshape(N, T, C))
    assert_near(found.quantile([0.1, 0.7]), expected.quantile([0.1, 0.7]).reshape(2, N, T, C))
    for got, end in zip(found.credible_interval(), expected.credible_interval(), strict=True):
        assert_near(got, end.reshape(N, T, C))


def test_a_single_logit_gives_no_and_yes_at_every_position():
    params = {"w": PARAMS["body"][:, :1]}
    posterior = hoarfrost.fit_laplace(
        lambda p, x: x @ p["w"],
        params,
        [(X, LABELS % 2)],
        likelihood="bernoulli",
        progress=False,
    )
    proba = posterior.predict_proba(X)
    assert proba.shape == (N, T, 2)
    np.testing.assert_allclose(proba.sum(axis=-1), 1, rtol=4 * EPS32)
    np.testing.assert_array_equal(proba[..., 1:], posterior.predict(X))


@pytest.mark.parametrize("tune", ["optimize_prior_precision", "optimize_hyperparameters"])
def test_tuning_is_that_of_the_points(tune):
    y = TARGETS["gaussian"]
    tokens, points = fit(X, y, Gaussian(1.0)), fit(rows(X), rows(y), Gaussian(1.0))
    np.testing.assert_allclose(
        np.ravel(getattr(tokens, tune)()), np.ravel(getattr(points, tune)()), rtol=1e-4
    )
    assert tokens.tuning is not None


def test_tuning_on_held_out_data_is_that_of_the_points():
    generator = np.random.default_rng(2)
    # Classes of a network that is less sure than this one, which a finite variance makes up for.
    logits = np.asarray(token_net(PARAMS, X[::-1])) / 2 + generator.gumbel(size=(N, T, C))
    held = np.where(COUNTED, logits.argmax(axis=-1), -100)
    tokens = fit(X, LABELS, ignored_label=-100)
    points = fit(rows(X), rows(LABELS))
    own = tokens.optimize_on([(X[::-1], held)])
    kept = COUNTED.reshape(-1)
    alone = points.optimize_on([(rows(X[::-1])[kept], held.reshape(-1)[kept])])
    np.testing.assert_allclose(own, alone, rtol=1e-4)


def test_no_more_than_a_piece_of_positions_is_in_memory(monkeypatch):
    in_small_pieces(monkeypatch)
    monkeypatch.setattr("hoarfrost.predictive.evaluate._POINTS_AT_ONCE", AT_ONCE)
    seen = []

    def watched(params, x):
        seen.append(x.shape[0])
        return token_net(params, x)

    loader = DataLoader.from_array_data((X, LABELS))
    posterior = hoarfrost.fit_laplace(watched, PARAMS, loader, trainable=head_only, progress=False)
    run = posterior.linearised.fitting_pass()
    assert run.max_points == 2
    result = run(X[:2], 2)
    assert result.outputs.shape == (AT_ONCE, C) and result.block.shape == (AT_ONCE, 7)
    for link in ("probit", "mc", "nn"):
        assert posterior.predict(X, link).shape == (N, T, C)
    whole = fit(X, LABELS)
    monkeypatch.undo()
    assert_near(whole.precision(), fit(X, LABELS).precision())
    # Jacobian rows, too.
    monkeypatch.setattr("hoarfrost.curvature.jacobian.CHUNK_BYTES", 2 * T * C * 45 * 4)
    general = fit(X, LABELS, trainable=None)
    assert general.linearised.fitting_pass().max_points == 2
    monkeypatch.undo()
    assert_near(general.precision(), fit(X, LABELS, trainable=None).precision())


def test_one_program_a_shape():
    traced, counts = [], []

    def watched(params, x):
        traced.append(x.shape)
        return token_net(params, x)

    for labels in (LABELS, (LABELS, COUNTED), (LABELS, ~COUNTED)):
        loader = DataLoader.from_array_data((X, labels), batch_size=3)
        posterior = hoarfrost.fit_laplace(
            watched, PARAMS, loader, trainable=head_only, progress=False
        )
        posterior.predict(X)
        posterior.functional_covariance(X)
        counts.append(len(traced))
    assert counts[0] == counts[-1] > 0


def test_the_plan_counts_positions():
    plan = hoarfrost.plan(token_net, PARAMS, X, trainable=head_only)
    flat = hoarfrost.plan(token_net, PARAMS, rows(X), trainable=head_only)
    assert plan.head == "softmax" and plan.num_params == 21
    assert plan.passes == flat.passes
    # A head over many words: its outputs are most of what its passes take.
    words = jnp.zeros((6, 5000))
    params = {"body": PARAMS["body"], "head": {"w": words, "b": words[0]}}
    many, few = (
        hoarfrost.plan(token_net, params, x, trainable=head_only).passes for x in (X, X[:1])
    )
    outputs = (N - 1) * T * 5000 * 4
    for name in ("fitting", "predicting"):
        assert 20 * outputs < getattr(many, name) - getattr(few, name) < 30 * outputs


@pytest.mark.parametrize(
    ("targets", "options", "error", "message"),
    [
        (LABELS[:, 0], {}, ShapeError, r"shape \(7,\).*positions \(5,\).*\(7, 5\)"),
        (LABELS[:, :4], {}, ShapeError, r"shape \(7, 4\).*\(7, 5\)"),
        (LABELS[..., None], {}, ShapeError, r"targets have shape \(7, 5, 1\): each"),
        (LABELS, {"likelihood": "gaussian"}, ShapeError, r"targets have shape \(7, 5\): each"),
        (TARGETS["gaussian"][..., :2], {"likelihood": "gaussian"}, ShapeError, r"\(7, 5, 2\)"),
        (np.where(COUNTED, LABELS, 3), {}, InvalidArgumentError, r"label 3.*0\.\.2"),
        (np.where(COUNTED, LABELS, -100), {}, InvalidArgumentError, "label -100"),
        (
            np.where(np.arange(N * T).reshape(N, T, 1) == 8, np.nan, TARGETS["gaussian"]),
            {"likelihood": "gaussian"},
            NonFiniteError,
            r"nan at index \(1, 3, 0\)",
        ),
        ((LABELS, COUNTED[:, 0]), {}, ShapeError, r"mask of batch 0 has shape \(7,\).*\(7, 5\)"),
        ((LABELS, COUNTED.astype(int)), {}, DataError, "dtype int64.*boolean"),
        ((LABELS, ~COUNTED & COUNTED), {}, DataError, "no target of data_loader counts"),
        (np.full_like(LABELS, -1), {"ignored_label": -1}, DataError, "no target"),
        (LABELS, {"ignored_label": "pad"}, InvalidArgumentError, "ignored_label is 'pad'"),
        (LABELS, {"ignored_label": 0.5}, InvalidArgumentError, "ignored_label is 0.5"),
        (LABELS, {"ignored_label": 10**400}, InvalidArgumentError, "ignored_label is"),
        (LABELS, {"ignored_label": True}, InvalidArgumentError, "ignored_label is True"),
        (
            TARGETS["gaussian"],
            {"ignored_label": 1, "likelihood": "gaussian"},
            InvalidArgumentError,
            r"no labels; give them as pairs \(targets, mask\)",
        ),
        (
            np.where(np.arange(C) == 1, -100, TARGETS["bernoulli"]),
            {"ignored_label": -100, "likelihood": "bernoulli"},
            InvalidArgumentError,
            "-100 beside others",
        ),
    ],
)
def test_what_does_not_fit_is_said(targets, options, error, message):
    with pytest.raises(error, match=message):
        fit(X, targets, batch_size=None, **options)


def test_later_batches_are_checked():
    batches = [(X[:4], LABELS[:4]), (X[4:], LABELS[4:, :3])]
    with pytest.raises(ShapeError, match="batch 1 have shape"):
        hoarfrost.fit_laplace(token_net, PARAMS, batches, trainable=head_only, progress=False)
    batches = [(X[:4], (LABELS[:4], COUNTED[:4])), (X[4:], LABELS[4:])]
    with pytest.raises(DataError, match=r"batch 1 .* without a mask"):
        hoarfrost.fit_laplace(token_net, PARAMS, batches, trainable=head_only, progress=False)


def test_questions_that_do_not_fit_are_said():
    posterior = fit(X, LABELS)
    with pytest.raises(ShapeError, match=r"outputs have shape \(35, 3\)"):
        posterior.predict(rows(X))
    with pytest.raises(ShapeError, match=r"outputs have shape \(7, 5, 1, 3\)"):
        posterior.predict(X[:, :, None])
    with pytest.raises(DataError, match="no target counts"):
        posterior.log_prob([(X, (LABELS, ~COUNTED & COUNTED))])
    with pytest.raises(DataError, match="no target counts"):
        posterior.log_prob([(X, (LABELS, ~COUNTED & COUNTED))], "nn")
    flat = fit(rows(X), LABELS.reshape(-1))
    for link in ("probit", "nn"):
        with pytest.raises(ShapeError, match=r"outputs have shape"):
            flat.predict(X, link)


@pytest.mark.parametrize("form", ["probit", "covariance", "samples"])
@HEAD_OR_ALL
def test_what_is_served_has_positions(form, trainable):
    posterior = fit(X, LABELS, trainable=trainable)
    arrays, served = posterior.to_jax(form, inputs=X, n_samples=50)
    assert served.largest_difference < 1e-4
    longer = np.concatenate([X, X[:, ::-1]], axis=1)
    got = jax.jit(served)(arrays, posterior.merge(), longer)
    if form == "probit":
        np.testing.assert_allclose(got, posterior.predict(longer), rtol=1e-4, atol=1e-5)
    elif form == "covariance":
        expected = posterior.functional_covariance(longer)
        np.testing.assert_allclose(got[1], expected, rtol=1e-3, atol=1e-4 * expected.max())
        assert got[0].shape == (N, 2 * T, C)
    else:
        points = fit(rows(X), LABELS.reshape(-1), trainable=trainable)
        arrays, served = points.to_jax(form, n_samples=50)
        expected = served(arrays, points.merge(), rows(longer)).reshape(N, 2 * T, C)
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


@HEAD_OR_ALL
def test_one_exported_program_for_any_number_of_examples(trainable):
    export = pytest.importorskip("jax.export")
    posterior = fit(X, LABELS, trainable=trainable)
    (batch,) = export.symbolic_shape("b")
    for form in ("probit", "samples", "covariance"):
        arrays, served = posterior.to_jax(form, n_samples=5)
        spec = jax.ShapeDtypeStruct((batch, T, D), jnp.float32)
        program = export.export(jax.jit(served))(arrays, posterior.merge(), spec)
        for count in (1, 4):
            got = jax.tree.leaves(program.call(arrays, posterior.merge(), X[:count]))
            expected = jax.tree.leaves(served(arrays, posterior.merge(), X[:count]))
            for ours, theirs in zip(got, expected, strict=True):
                assert ours.shape[:2] == (count, T)
                np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
