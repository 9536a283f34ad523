"""More parameters than outputs of all points: the same posterior as "full", in the data's space."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hoarfrost
from hoarfrost.errors import (
    InvalidArgumentError,
    MemoryLimitError,
    NonFiniteError,
    PriorTooSmallError,
)
from hoarfrost.laplace.plan import make_plan
from hoarfrost.laplace.structure.dual import DualCurvature

RNG = np.random.default_rng(3)
D, H, C, N = 6, 40, 3, 11
X = RNG.normal(size=(N, D)).astype(np.float32)
NEW = RNG.normal(size=(7, D)).astype(np.float32)
PARAMS = {
    "body": {"w": RNG.normal(size=(D, H)).astype(np.float32), "b": np.zeros(H, np.float32)},
    "head": {"w": RNG.normal(size=(H, C)).astype(np.float32) / 6, "b": np.zeros(C, np.float32)},
}
TARGETS = {
    "categorical": RNG.integers(0, C, N),
    "bernoulli": RNG.integers(0, 2, (N, C)),
    "poisson": RNG.poisson(2.0, (N, C)),
    "gaussian": RNG.normal(size=(N, C)).astype(np.float32),
}
BY_LEAF = {"body": {"w": 2.0, "b": 0.5}, "head": {"w": 1.5, "b": 0.1}}
HEADS = {"head": lambda path, value: "head" in path, "every": None}


def network(params, x):
    hidden = jnp.tanh(x @ params["body"]["w"] + params["body"]["b"])
    return hidden @ params["head"]["w"] + params["head"]["b"]


def fitted(likelihood="categorical", structure="dual", part="every", points=N, **options):
    data = [(X[i : i + 4][: points - i], TARGETS[likelihood][i:points][:4]) for i in (0, 4, 8)]
    data = [(x, y) for x, y in data if len(x)]
    options.setdefault("trainable", HEADS[part])
    options.setdefault("progress", False)
    return hoarfrost.fit_laplace(
        network, PARAMS, data, likelihood=likelihood, hessian_structure=structure, **options
    )


def near(got, expected, tolerance=1e-8):
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    size = np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * size)


def assert_same(dual, full):
    """Every number that a user sees, to 1e-8 of its size."""
    near(dual.variance(), full.variance())
    near(dual.covariance(), full.covariance())
    near(dual.precision(), full.precision())
    near(dual.log_marginal_likelihood(), full.log_marginal_likelihood())
    near(dual.functional_covariance(NEW), full.functional_covariance(NEW))
    near(dual.functional_variance(NEW), full.functional_variance(NEW))
    near(dual.functional_covariance(NEW, joint=True), full.functional_covariance(NEW, joint=True))


@pytest.mark.parametrize("likelihood", TARGETS)
@pytest.mark.parametrize("part", HEADS)
def test_every_number_is_that_of_full(likelihood, part):
    prior, params = (
        tree if part == "every" else {"head": tree["head"]} for tree in (BY_LEAF, PARAMS)
    )
    by_parameter = jax.tree.map(lambda x: 0.5 + np.arange(x.size).reshape(x.shape) % 7, params)
    for given in (0.7, prior, by_parameter):
        options = {"part": part, "prior_precision": given}
        dual, full = (fitted(likelihood, name, **options) for name in ("dual", "full"))
        assert dual.num_params > len(X) * C or part == "head"
        assert_same(dual, full)
        assert_same(dual.with_prior_precision(1.3), full.with_prior_precision(1.3))
        assert_same(dual.with_temperature(0.4), full.with_temperature(0.4))


@pytest.mark.parametrize("structure", ["scalar", "layerwise", "weights_biases", "diagonal"])
def test_tuning_ends_where_that_of_full_does(structure):
    found = []
    for name in ("dual", "full"):
        posterior = fitted(structure=name)
        posterior.optimize_prior_precision(structure)
        assert posterior.tuning.converged
        found.append(posterior)
    dual, full = found
    near(dual.tuning.evidence, full.tuning.evidence)
    for one, other in zip(
        *(jax.tree.leaves(posterior.prior_precision) for posterior in found), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4)


def test_noise_is_tuned_as_in_full():
    found = []
    for name in ("dual", "full"):
        posterior = fitted("gaussian", name)
        posterior.optimize_hyperparameters("layerwise")
        found.append((posterior.noise_std, posterior.tuning.evidence))
    near(found[0], found[1], 1e-6)


def test_what_was_asked_before_does_not_change_the_bits():
    fresh, used = fitted(prior_precision=BY_LEAF), fitted(prior_precision=BY_LEAF)
    other = fitted()
    other.optimize_prior_precision("layerwise")
    again = other.with_prior_precision(BY_LEAF)
    used.log_marginal_likelihood(3.0)
    used.functional_covariance(NEW)
    for posterior in (used, again):
        np.testing.assert_array_equal(posterior.variance(), fresh.variance())
        for one, same in zip(
            jax.tree.leaves(posterior.sample(1, 3)),
            jax.tree.leaves(fresh.sample(1, 3)),
            strict=True,
        ):
            np.testing.assert_array_equal(one, same)


@pytest.mark.parametrize("part", HEADS)
def test_draws_have_the_covariance(part):
    count = 20_000
    posterior = fitted(part=part, points=5)
    draws = np.concatenate(
        [np.asarray(x).reshape(count, -1) for x in jax.tree.leaves(posterior.sample(2, count))], 1
    ).astype(np.float64)
    # The outputs of the linearised network: all that the data are about.
    root = np.linalg.cholesky(posterior.precision())
    white = (draws - posterior.mean) @ root
    few = white[:, :: max(1, white.shape[1] // 60)]
    bound = 5.5 * np.sqrt(2 / count)
    np.testing.assert_allclose(np.cov(few.T), np.eye(few.shape[1]), rtol=0, atol=bound)
    np.testing.assert_allclose(white.mean(0), 0, atol=5.5 / np.sqrt(count))


@pytest.mark.parametrize("part", HEADS)
def test_what_is_served_is_what_is_predicted(part):
    posterior = fitted(part=part)
    arrays, serve = posterior.to_jax(inputs=NEW)
    near(serve(arrays, posterior.merge(), NEW), posterior.predict(NEW), 1e-5)
    assert serve.largest_difference < 1e-5
    arrays, serve = posterior.to_jax("covariance")
    covariance = serve(arrays, posterior.merge(), NEW)[1]
    near(covariance, posterior.functional_covariance(NEW), 1e-4)
    size = posterior.num_params
    assert serve.nbytes <= 4 * size * (posterior.factor.posterior.num_rows + 1)


def test_a_file_holds_the_rows_once(tmp_path):
    posterior = fitted(keep_curvature=True)
    posterior.save(tmp_path / "posterior")
    again = hoarfrost.load_laplace(tmp_path / "posterior", model=network)
    np.testing.assert_array_equal(again.variance(), posterior.variance())
    np.testing.assert_array_equal(again.predict(NEW), posterior.predict(NEW))
    size = posterior.num_params * posterior.factor.posterior.num_rows * 8
    assert size < (tmp_path / "posterior").stat().st_size < 1.6 * size
    # The curvature is there again, whether or not it was asked to be written.
    near(again.optimize_prior_precision(), posterior.optimize_prior_precision())
    again.update([(X, TARGETS["categorical"])], progress=False)
    posterior.update([(X, TARGETS["categorical"])], progress=False)
    assert again.log_marginal_likelihood() == posterior.log_marginal_likelihood()


def test_rows_are_shared_by_curvature_factor_and_copies():
    posterior = fitted()
    curvature, factor = posterior.curvature.core, posterior.factor.posterior
    rows = 8 * posterior.num_params * factor.num_rows
    assert rows <= curvature.nbytes and factor.curvature().num_rows == factor.num_rows
    other = posterior.with_prior_precision(2.0)
    posterior.update([(X[:2], TARGETS["categorical"][:2])], progress=False)
    assert other.factor.posterior.num_rows == factor.num_rows
    assert posterior.factor.posterior.num_rows == factor.num_rows + 2 * (C - 1)


def test_a_curvature_that_was_not_kept_costs_nothing():
    posterior = fitted(keep_curvature=False)
    assert posterior.curvature is None
    near(
        posterior.with_prior_precision(4.0).variance(),
        fitted(prior_precision=4.0).variance(),
        1e-12,
    )
    posterior.optimize_prior_precision("layerwise")


def test_a_posterior_is_the_prior_of_the_next():
    first = fitted("gaussian", points=4)
    second = hoarfrost.fit_laplace(
        network,
        PARAMS,
        [(X[4:], TARGETS["gaussian"][4:])],
        likelihood="gaussian",
        hessian_structure="auto",
        prior=first,
        progress=False,
    )
    assert second.hessian_structure == "dual"
    near(second.covariance(), fitted("gaussian").covariance())


def test_many_parameters_and_few_points():
    size, count = 300_000, 5
    w = RNG.normal(size=(10, size // 10)).astype(np.float32)
    x = RNG.normal(size=(count, 10)).astype(np.float32)

    def wide(params, inputs):
        return jnp.sum(jnp.tanh(inputs @ params["w"]), axis=1, keepdims=True) / 100

    posterior = hoarfrost.fit_laplace(
        wide,
        {"w": w},
        [(x, np.ones((count, 1), np.float32))],
        likelihood="gaussian",
        hessian_structure="dual",
        progress=False,
    )
    assert posterior.num_params == size
    rows = jax.jacobian(lambda p: wide(p, x)[:, 0])({"w": w})["w"]
    rows = np.asarray(rows).reshape(count, -1).astype(np.float64)
    gram = rows @ rows.T
    inverse = np.linalg.inv(np.eye(count) + gram)
    near(posterior.functional_covariance(x, joint=True).reshape(count, -1), gram @ inverse, 1e-6)
    variance = 1 - np.einsum("mp,mn,np->p", rows, inverse, rows)
    near(posterior.variance(), variance, 1e-6)
    log_det = np.linalg.slogdet(np.eye(count) + gram)[1]
    prior = -0.5 * float((w.astype(np.float64) ** 2).sum())
    near(posterior.log_marginal_likelihood(), posterior.log_likelihood + prior - log_det / 2, 1e-7)
    posterior.optimize_prior_precision()
    assert posterior.tuning.converged
    draws = posterior.sample(0, 2)["w"]
    assert draws.shape == (2, *w.shape) and bool(jnp.isfinite(draws).all())
    with pytest.raises(MemoryLimitError, match="use variance"):
        posterior.covariance()


def test_the_plan_says_what_the_rows_take():
    plan = make_plan(1_000_000, num_rows=100, memory_budget=2 * 10**9)
    assert list(plan.costs) == ["full", "dual", "diag"]
    needed = plan.bytes_needed("dual", True)
    assert 8e8 < needed < 9e8 and needed == plan.bytes_needed("dual", False)
    assert plan.choose("auto", "auto") == ("dual", True)
    assert make_plan(1_000_000, num_rows=1000, memory_budget=2 * 10**9).choose("auto", "auto") == (
        "diag",
        True,
    )
    with pytest.raises(MemoryLimitError, match=r"'dual' over P = 1,000,000 .* fit: .*diag"):
        make_plan(1_000_000, num_rows=1000, memory_budget=2 * 10**9).choose("dual", "auto")
    # Of a stream nobody knows how many points come.
    unknown = make_plan(1_000_000, memory_budget=2 * 10**9)
    assert list(unknown.costs) == ["full", "diag"] and unknown.choose("dual", "auto")[0] == "dual"
    # Kronecker factors are taken by who asks for them.
    many = make_plan(32_000, "softmax", 16, 2000, num_rows=160_000, memory_budget=10**9)
    assert list(many.costs) == ["full", "dual", "kron", "diag"] and many.fits("kron", True)
    assert many.choose("auto", "auto") == ("diag", True)


def test_a_stream_of_unknown_length_is_taken():
    class Stream:
        def __iter__(self):
            return iter([(X, TARGETS["categorical"])])

    posterior = hoarfrost.fit_laplace(
        network, PARAMS, Stream(), hessian_structure="dual", progress=False
    )
    near(posterior.variance(), fitted().variance(), 1e-12)


def test_auto_takes_it_where_full_does_not_fit():
    plan = make_plan(fitted().num_params, num_rows=N * C, memory_budget=10**9)
    budget = int(1.2 * plan.bytes_needed("dual", True))
    with pytest.warns(UserWarning, match="'auto' uses 'dual'"):
        posterior = fitted(structure="auto", memory_budget=budget)
    assert posterior.hessian_structure == "dual"


def test_a_prior_that_rounding_swallows_is_an_error():
    with pytest.raises(PriorTooSmallError) as caught:
        fitted(prior_precision=1e-16)
    least = caught.value.least_prior_precision
    assert fitted(prior_precision=least).num_params == fitted().num_params
    posterior = fitted()
    with pytest.raises(PriorTooSmallError):
        posterior.with_prior_precision(1e-16)


def test_what_cannot_be_used_is_refused():
    with pytest.raises(InvalidArgumentError, match="'full', 'dual', 'kron', 'diag' or"):
        fitted(structure="primal")
    curvature = DualCurvature(None, None, hoarfrost._core.RowCurvature(3), np.arange(3))
    with pytest.raises(NonFiniteError):
        curvature.add(np.zeros((1, 1)), np.full((1, 1, 3), np.nan))
    with pytest.raises(hoarfrost.errors.ShapeError):
        curvature.factor(np.ones(3))
    with pytest.raises(InvalidArgumentError):
        curvature.factor(np.zeros(3))
