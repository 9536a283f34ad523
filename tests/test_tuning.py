"""Tuning by the evidence: derivatives, optima, certificates, every structure from any start."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize
from test_evidence import at_map, bent, exact_evidence, fit, linear, regression  # noqa: F401

from hoarfrost.errors import InvalidArgumentError, NotPositiveDefiniteError
from hoarfrost.laplace import fit_laplace
from hoarfrost.laplace.evidence import concave_search, tuning
from hoarfrost.laplace.evidence.groups import prior_groups
from hoarfrost.laplace.evidence.problem import EvidenceProblem

STRUCTURES = ["scalar", "layerwise", "weights_biases", "diagonal"]
# Kronecker factors of a layer take no prior that is another one for each parameter.
BOTH = pytest.mark.parametrize(
    ("hessian_structure", "structure"),
    [
        (hessian, structure)
        for hessian in ("full", "dual", "kron", "diag")
        for structure in STRUCTURES
        if (hessian, structure) != ("kron", "diagonal")
    ],
)


def classifier(small, subset=None, **options):
    return fit_laplace(
        small.apply,
        jax.tree.map(lambda leaf: leaf.astype(jnp.float64), small.params),
        [(small.x.astype(np.float64), small.y)],
        trainable=None if subset is None else lambda path, _: subset in path,
        progress=False,
        **options,
    )


def identity(posterior, structure):
    """``gamma_g`` and ``tau_g |theta_g|^2`` of each group, from public members alone."""
    groups = prior_groups(structure, posterior.linearised.trainable)
    tree = posterior.prior_precision
    leaves = posterior.linearised.trainable
    if isinstance(tree, float):
        tree = jax.tree.map(lambda _: tree, leaves)
    spread = jax.tree.map(lambda tau, leaf: np.broadcast_to(tau, leaf.shape), tree, leaves)
    tau = np.concatenate([np.ravel(x) for x in jax.tree.leaves(spread)])
    explained = groups.total(1 - tau * posterior.variance())
    return explained, groups.total(tau * posterior.mean**2)


def problem_of(posterior, structure, noise=False):
    return EvidenceProblem(
        posterior.curvature,
        prior_groups(structure, posterior.linearised.trainable),
        np.ones(posterior.num_params),
        (-20.0, 20.0),
        posterior.deviation,
        posterior.log_likelihood,
        posterior.residuals,
        posterior.evidence.noise_precision,
        noise,
        False,
        None,
    )


@BOTH
@pytest.mark.parametrize("subset", ["last", "first", None])
def test_derivatives_equal_finite_differences(small, x64, subset, hessian_structure, structure):
    posterior = classifier(small, subset, hessian_structure=hessian_structure)
    problem = problem_of(posterior, structure)
    size = problem.groups.size
    x = np.random.default_rng(1).uniform(-2, 2, size)
    gradient = problem(x).gradient
    assert problem(x).evidence == pytest.approx(
        posterior.log_marginal_likelihood(problem.groups.value(np.exp(x))), rel=1e-13
    )
    for index in range(min(size, 4)):
        step = 1e-5 * np.eye(size)[index]
        difference = (problem(x + step).evidence - problem(x - step).evidence) / 2e-5
        np.testing.assert_allclose(gradient[index], difference, rtol=1e-6, atol=1e-7)


@BOTH
@pytest.mark.parametrize("subset", ["last", None])
def test_mackays_identity_holds_for_every_group(small, x64, subset, hessian_structure, structure):
    posterior = classifier(small, subset, hessian_structure=hessian_structure)
    before = posterior.log_marginal_likelihood()
    value = posterior.optimize_prior_precision(structure)
    explained, penalty = identity(posterior, structure)
    np.testing.assert_allclose(explained, penalty, rtol=1e-6)
    told = posterior.tuning
    assert told.converged and not told.at_bound and told.residual <= 5e-7
    assert told.gradient_norm <= 5e-7 * explained.max()
    np.testing.assert_allclose(told.gradient_norm, np.abs(explained - penalty).max() / 2, atol=1e-9)
    assert told.structure == structure
    assert told.iterations == told.evaluations - 1
    # What is returned, what is set, and what the evidence is computed from, are one.
    assert jax.tree.all(
        jax.tree.map(np.array_equal, value, posterior.prior_precision)
    ) and jax.tree.all(jax.tree.map(np.array_equal, value, told.prior_precision))
    evidence = posterior.log_marginal_likelihood()
    assert told.evidence == pytest.approx(evidence, rel=1e-12)
    assert evidence > before
    fresh = classifier(small, subset, hessian_structure=hessian_structure, prior_precision=value)
    np.testing.assert_allclose(posterior.variance(), fresh.variance(), rtol=1e-10)
    np.testing.assert_allclose(fresh.log_marginal_likelihood(), evidence, rtol=1e-12)


def test_a_search_that_a_structure_cannot_take_is_an_error_before_it(small, x64):
    posterior = classifier(small, hessian_structure="kron")
    before = posterior.log_marginal_likelihood()
    with pytest.raises(InvalidArgumentError, match="structure='scalar', 'layerwise'"):
        posterior.optimize_prior_precision("diagonal")
    assert posterior.tuning is None and posterior.log_marginal_likelihood() == before


def test_values_have_the_form_of_their_structure(small, x64):
    posterior = classifier(small)
    assert isinstance(posterior.optimize_prior_precision(), float)
    by_layer = posterior.optimize_prior_precision("layerwise")
    assert by_layer["first"]["w"] == by_layer["first"]["b"] != by_layer["last"]["w"]
    assert by_layer["last"]["w"] == by_layer["last"]["b"]
    by_kind = posterior.optimize_prior_precision("weights_biases")
    assert by_kind["first"]["w"] == by_kind["last"]["w"] != by_kind["first"]["b"]
    assert by_kind["first"]["b"] == by_kind["last"]["b"]
    one_each = posterior.optimize_prior_precision("diagonal")
    assert jax.tree.map(np.shape, one_each) == jax.tree.map(np.shape, small.params)
    # Finer structures contain the coarser ones.
    evidences = {}
    for structure in STRUCTURES:
        posterior.optimize_prior_precision(structure)
        evidences[structure] = posterior.tuning.evidence
    assert evidences["scalar"] <= evidences["layerwise"] <= evidences["diagonal"]
    assert evidences["scalar"] <= evidences["weights_biases"] <= evidences["diagonal"]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_starts_from_a_millionth_to_a_million_agree(digits, x64, structure):
    base = fit_laplace(
        digits.model,
        digits.variables,
        [(digits.x, digits.y)],
        trainable=lambda path, _: "head" in path,
        progress=False,
    )
    found, evidences = [], []
    for start in 10.0 ** np.arange(-6, 7):
        posterior = base.with_prior_precision(start)
        assert posterior.tuning is None
        value = posterior.optimize_prior_precision(structure)
        assert posterior.tuning.converged
        # The first of these needs a trace alone: two Cholesky factorisations each, less one.
        assert posterior.tuning.evaluations <= (6 if structure == "scalar" else 30)
        # Units that are never active: the evidence says nothing, and any precision will do.
        explained, _ = identity(posterior, structure)
        flat = np.ravel(ravel_pytree(value)[0])
        told = explained > 1e-9 if structure == "diagonal" else slice(None)
        assert np.all(explained[told] > 1e-4)
        found.append(flat[told])
        evidences.append(posterior.tuning.evidence)
    np.testing.assert_allclose(found, np.broadcast_to(found[6], np.shape(found)), rtol=2e-6)
    np.testing.assert_allclose(evidences, evidences[6], rtol=1e-10)
    assert base.prior_precision == 1.0 and base.tuning is None


@pytest.mark.parametrize("noise_std", [1.0, (1.0, 1.0)])
def test_both_optima_of_linear_regression(regression, noise_std):  # noqa: F811
    """At the exact optimum's own MAP the exact evidence and Laplace's have the same maximum."""
    count = np.size(noise_std)

    def loss(z):
        return -exact_evidence(regression, np.exp(z[0]), np.exp(z[1:]))

    best = minimize(loss, np.zeros(1 + count), tol=1e-12).x
    tau, std = np.exp(best[0]), np.exp(best[1:])
    posterior = fit(regression, at_map(regression, tau, std), noise_std)
    got_tau, got_std = posterior.optimize_hyperparameters()
    np.testing.assert_allclose(got_tau, tau, rtol=1e-4)
    np.testing.assert_allclose(got_std, std if count > 1 else std[0], rtol=1e-4)
    assert posterior.noise_std == got_std == posterior.tuning.noise_std
    assert isinstance(got_std, tuple) == isinstance(noise_std, tuple)
    np.testing.assert_allclose(posterior.tuning.evidence, -loss(best), rtol=1e-9)
    np.testing.assert_allclose(
        posterior.log_marginal_likelihood(), posterior.tuning.evidence, rtol=1e-12
    )
    # The prior alone, at that noise.
    prior_only = fit(regression, at_map(regression, tau, std), got_std, prior_precision=100.0)
    np.testing.assert_allclose(prior_only.optimize_prior_precision(), tau, rtol=1e-4)
    assert prior_only.tuning.noise_std is None and prior_only.noise_std == got_std


@pytest.mark.parametrize("noise_std", [0.8, (0.4, 0.8)])
@pytest.mark.parametrize("model", [linear, bent])
@BOTH
def test_noise_and_prior_are_stationary_together(
    regression,  # noqa: F811
    model,
    hessian_structure,
    noise_std,
    structure,
):
    posterior = fit(
        regression,
        at_map(regression, 1.0, 0.5),
        noise_std,
        model,
        hessian_structure=hessian_structure,
    )
    start = posterior.log_marginal_likelihood()
    value, std = posterior.optimize_hyperparameters(structure)
    assert posterior.tuning.converged
    best = posterior.log_marginal_likelihood()
    assert best > start
    explained, penalty = identity(posterior, structure)
    np.testing.assert_allclose(explained, penalty, rtol=1e-6)
    # One noise for all: N C = sum RSS / sigma^2 + gamma, with gamma the sum of the groups'.
    for factor in (0.99, 1.01):
        scaled = tuple(factor * s for s in std) if isinstance(std, tuple) else factor * std
        assert posterior.log_marginal_likelihood(value, scaled) < best
    apart = model is linear and hessian_structure in ("full", "kron") and structure != "diagonal"
    if isinstance(noise_std, tuple) and apart:
        for factors in ((0.99, 1.0), (1.01, 1.0), (1.0, 0.99), (1.0, 1.01)):
            assert posterior.log_marginal_likelihood(value, np.multiply(std, factors)) < best
    elif isinstance(noise_std, tuple):
        np.testing.assert_allclose(std[1] / std[0], 2.0, rtol=1e-12)


def test_noise_does_not_depend_on_where_it_started(regression):  # noqa: F811
    params = at_map(regression, 1.0, 0.5)
    for options in ({"model": bent}, {}, {"hessian_structure": "diag"}):
        found = []
        for std, tau in ((0.5, 1.0), (1e-3, 1e-4), (1e3, 1e4), (1e-2, 1e3)):
            posterior = fit(regression, params, std, prior_precision=tau, **options)
            found.append(posterior.optimize_hyperparameters())
            assert posterior.tuning.converged
        np.testing.assert_allclose(found, np.broadcast_to(found[0], (4, 2)), rtol=1e-5)


def test_parameters_at_zero_send_the_precision_to_the_bound(small, x64):
    params = {**small.params, "last": jax.tree.map(jnp.zeros_like, small.params["last"])}
    posterior = fit_laplace(
        small.apply,
        params,
        small.loader,
        trainable=lambda path, _: "last" in path,
        progress=False,
    )
    assert posterior.optimize_prior_precision() == pytest.approx(1e8)
    assert posterior.tuning.at_bound and posterior.tuning.num_at_bound == 1
    assert posterior.tuning.converged and posterior.tuning.gradient_norm == 0
    # One bias at zero: that one alone goes there.
    bias = small.params["last"]["b"].at[2].set(0.0)
    params = {**small.params, "last": {**small.params["last"], "b": bias}}
    posterior = fit_laplace(small.apply, params, small.loader, progress=False)
    value = posterior.optimize_prior_precision("diagonal")
    np.testing.assert_allclose(value["last"]["b"][2], 1e8)
    assert posterior.tuning.num_at_bound == 1 and posterior.tuning.converged


@BOTH
def test_the_residual_bounds_the_error_and_half_of_it_halves_the_error(
    small, x64, hessian_structure, structure
):
    """What the search rests on: a certificate, and a step that contracts from anywhere."""
    posterior = classifier(small, hessian_structure=hessian_structure)
    problem = problem_of(posterior, structure)
    best = concave_search.search_many(problem, problem(np.zeros(problem.groups.size)), -20.0, 20.0)
    assert best.converged
    generator = np.random.default_rng(2)
    for spread in (0.1, 3.0, 10.0):
        x = best.point.x + generator.uniform(-spread, spread, problem.groups.size)
        residual = problem(x).residual
        error = np.abs(x - best.point.x).max()
        assert error <= np.abs(residual).max() * (1 + 1e-6) + 1e-6
        assert np.abs(x + residual / 2 - best.point.x).max() <= error / 2 + 1e-6


def test_one_factor_on_the_prior_that_there_is(small, x64):
    """A prior of another size for each parameter keeps its proportions."""
    given = jax.tree.map(
        lambda leaf: np.exp(np.sin(np.arange(leaf.size))).reshape(leaf.shape), small.params
    )
    for start in (1e-3, 1.0, 1e3):
        prior = jax.tree.map(lambda t, start=start: start * t, given)
        posterior = classifier(small, prior_precision=prior)
        value = posterior.optimize_prior_scale()
        factors = ravel_pytree(value)[0] / ravel_pytree(given)[0]
        np.testing.assert_allclose(factors, factors[0], rtol=1e-12)
        explained = posterior.num_params - posterior.prior.vector @ posterior.variance()
        penalty = posterior.prior.vector @ posterior.mean**2
        np.testing.assert_allclose(explained, penalty, rtol=1e-6)
        assert posterior.tuning.structure == "scale" and posterior.tuning.evaluations <= 6
    posterior.optimize_prior_scale(2.0, 3.0)
    assert posterior.tuning.at_bound
    doubled = ravel_pytree(posterior.prior_precision)[0] / ravel_pytree(value)[0]
    np.testing.assert_allclose(doubled, 2.0)
    with pytest.raises(InvalidArgumentError, match=r"bounds are low=3\.0 and high=2\.0"):
        posterior.optimize_prior_scale(3.0, 2.0)


def test_precisions_too_small_to_factor_are_left_alone(small, x64, monkeypatch):
    """Where rounding forbids a precision the search stays above it and says that it had to."""
    posterior = classifier(small, prior_precision=10.0)
    curvature, least = posterior.curvature, 30.0
    factor = type(curvature).factor

    def fussy(self, prior_precision, **options):
        if prior_precision.min() < least:
            raise NotPositiveDefiniteError("too small", 0, least)
        return factor(self, prior_precision, **options)

    free = posterior.with_prior_precision(1.0)
    assert free.optimize_prior_precision() < least
    monkeypatch.setattr(type(curvature), "factor", fussy)
    assert posterior.optimize_prior_precision() == pytest.approx(least)
    assert posterior.tuning.at_bound and posterior.tuning.converged
    posterior.optimize_prior_precision("layerwise")
    assert posterior.tuning.at_bound


def test_only_one_factor_is_held_at_a_time(small, x64, monkeypatch):
    posterior = classifier(small, "last", prior_precision=1e-3)
    alive, most = [], []
    factor = type(posterior.curvature).factor

    def counted(self, prior_precision, **options):
        import gc
        import weakref

        gc.collect()
        most.append(sum(ref() is not None for ref in alive))
        made = factor(self, prior_precision, **options)
        alive.append(weakref.ref(made))
        return made

    monkeypatch.setattr(type(posterior.curvature), "factor", counted)
    for structure in ("scalar", "weights_biases"):
        posterior.optimize_prior_precision(structure)
    assert len(most) > 4 and max(most) == 0


def test_a_search_that_is_broken_off_leaves_the_posterior_as_it_was(small, x64, monkeypatch):
    posterior = classifier(small)
    evidence, variance = posterior.log_marginal_likelihood(), posterior.variance()
    calls = []
    factor = type(posterior.curvature).factor

    def interrupted(self, prior_precision, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return factor(self, prior_precision, **options)

    with monkeypatch.context() as patched:
        patched.setattr(type(posterior.curvature), "factor", interrupted)
        with pytest.raises(KeyboardInterrupt):
            posterior.optimize_prior_precision("layerwise")
    assert posterior.prior_precision == 1.0 and posterior.tuning is None
    assert posterior.log_marginal_likelihood() == evidence
    np.testing.assert_array_equal(posterior.variance(), variance)


def test_predictions_follow_the_tuned_prior(small):
    posterior = fit_laplace(small.apply, small.params, small.loader, progress=False)
    before = posterior.predict(small.x)
    posterior.variance()
    value = posterior.optimize_prior_precision()
    fresh = fit_laplace(
        small.apply, small.params, small.loader, prior_precision=value, progress=False
    )
    np.testing.assert_allclose(posterior.predict(small.x), fresh.predict(small.x), atol=1e-6)
    np.testing.assert_allclose(posterior.variance(), fresh.variance(), rtol=1e-9)
    assert np.abs(posterior.predict(small.x) - before).max() > 1e-4


def test_a_search_that_does_not_end_says_so(small, x64, monkeypatch):
    monkeypatch.setattr(concave_search, "MAX_EVALUATIONS", 2)
    posterior = classifier(small, prior_precision=1e-6)
    with pytest.warns(UserWarning, match="stopped after 2 evaluations with a residual"):
        posterior.optimize_prior_precision()
    assert not posterior.tuning.converged


def test_what_cannot_be_tuned_is_refused(small, regression):  # noqa: F811
    posterior = fit_laplace(small.apply, small.params, small.loader, progress=False)
    with pytest.raises(InvalidArgumentError, match="structure is 'per-row'; give one of 'scalar'"):
        posterior.optimize_prior_precision("per-row")
    with pytest.raises(InvalidArgumentError, match="likelihood 'categorical' has no noise to tune"):
        posterior.optimize_hyperparameters()
    forgotten = fit_laplace(
        small.apply,
        small.params,
        small.loader,
        trainable=lambda path, value: "last" in path,
        keep_curvature=False,
        progress=False,
    )
    with pytest.raises(InvalidArgumentError, match="cannot be changed: the curvature was not kept"):
        forgotten.optimize_prior_precision()
    assert np.isfinite(forgotten.log_marginal_likelihood())


def test_bounds_are_those_that_are_documented():
    assert (tuning.SMALLEST, tuning.LARGEST) == (1e-8, 1e8)
