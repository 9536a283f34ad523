"""A prior of a user's own, and what the two Gaussian ones draw."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from hoarfrost.data import DataLoader
from hoarfrost.errors import InvalidArgumentError, NonFiniteError, ShapeError
from hoarfrost.prior import DiagonalGaussianPrior, IsotropicGaussianPrior
from hoarfrost.prob_model import (
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
    ProbClassifier,
    ProbRegressor,
)
from hoarfrost.prob_model.prior import Prior

RNG = np.random.default_rng(0)
X = np.float32(RNG.normal(size=(24, 3)))
LABELS = RNG.integers(0, 2, 24)
DATA = DataLoader.from_array_data((X, LABELS), batch_size=24)
CONFIG = FitConfig(
    optimizer=FitOptimizer(method=optax.sgd(0.1), n_epochs=3), monitor=FitMonitor(verbose=False)
)


class DoubleExponential(Prior):
    """Many small weights, a few large ones."""

    def __init__(self, scale):
        self.scale = scale

    def log_joint_prob(self, params):
        leaves = jax.tree.leaves(params)
        total = sum(jnp.sum(jnp.abs(leaf)) for leaf in leaves)
        count = sum(leaf.size for leaf in leaves)
        return -total / self.scale - count * np.log(2 * self.scale)

    def sample(self, params_like, rng=None):
        key = jax.random.PRNGKey(0) if rng is None else rng
        return jax.tree.map(lambda x: self.scale * jax.random.laplace(key, x.shape), params_like)


class OwnGaussian(Prior):
    def log_joint_prob(self, params):
        return IsotropicGaussianPrior(0.5).log_joint_prob(params)

    def sample(self, params_like, rng=None):
        return IsotropicGaussianPrior(0.5).sample(params_like, rng)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(2)(x)


def trained(prior, config=CONFIG):
    model = ProbClassifier(Net(), prior=prior, posterior_approximator=MAPPosteriorApproximator())
    status = model.train(DATA, fit_config=config)
    return model, status["fit_status"]["loss"]


def test_map_under_a_gaussian_of_ones_own_is_map_under_ours():
    own, own_loss = trained(OwnGaussian())
    ours, our_loss = trained(IsotropicGaussianPrior(0.5))
    eps = np.finfo(np.float32).eps
    np.testing.assert_allclose(own_loss, our_loss, rtol=8 * eps)
    for one, other in zip(
        jax.tree.leaves(own.posterior.state.get().params),
        jax.tree.leaves(ours.posterior.state.get().params),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=20 * eps, atol=20 * eps)


def test_the_loss_holds_the_priors_own_density():
    model, losses = trained(DoubleExponential(0.7))
    start = model.joint.init((3,)).params
    logits = X @ start["model"]["params"]["Dense_0"]["kernel"]
    log_prob = jax.nn.log_softmax(logits)[np.arange(24), LABELS].sum()
    weights = np.abs(start["model"]["params"]["Dense_0"]["kernel"]).sum()
    expected = -log_prob + weights / 0.7 + 8 * np.log(2 * 0.7)
    np.testing.assert_allclose(losses[0], expected, rtol=50 * np.finfo(np.float32).eps)


def test_numbers_that_change_are_never_stale_and_equal_ones_compile_nothing_again():
    prior = DoubleExponential(0.7)
    first = trained(prior)[1]
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **_: compiled.append(name) if "backend_compile" in name else None
    )
    np.testing.assert_array_equal(trained(DoubleExponential(0.7))[1], first)
    assert not compiled
    prior.scale = 1.4
    assert np.abs(trained(prior)[1] - first).min() > 0.1
    for scale in (np.float32(0.7), np.array([0.7] * 2)):
        with_array = DoubleExponential(scale)
        assert hash(jax.tree.structure(with_array)) == hash(jax.tree.structure(with_array))
        assert jax.tree.structure(with_array) == jax.tree.structure(DoubleExponential(scale + 0))
        assert jax.tree.structure(with_array) != jax.tree.structure(DoubleExponential(scale + 1))


@pytest.mark.parametrize("approximator", [None, LaplacePosteriorApproximator()])
def test_laplace_refuses_it_with_the_reason(approximator):
    reason = "prior is a DoubleExponential, but a Laplace posterior adds the prior's precision"
    with pytest.raises(InvalidArgumentError, match=reason):
        ProbClassifier(Net(), prior=DoubleExponential(1.0), posterior_approximator=approximator)
    with pytest.raises(InvalidArgumentError, match=reason):
        ProbRegressor(
            Net(), Net(), prior=DoubleExponential(1.0), posterior_approximator=approximator
        )


def test_densities_that_are_no_number():
    class Vector(OwnGaussian):
        def log_joint_prob(self, params):
            return jnp.zeros(2)

    class Nowhere(OwnGaussian):
        def log_joint_prob(self, params):
            return jnp.log(-1.0)

    with pytest.raises(ShapeError, match=r"Vector.log_joint_prob gives shape \(2,\)"):
        trained(Vector())
    with pytest.raises(NonFiniteError):
        trained(Nowhere())
    with pytest.raises(InvalidArgumentError, match="prior is 3; give IsotropicGaussianPrior"):
        trained(3)
    with pytest.raises(InvalidArgumentError, match="prior is <class"):
        trained(OwnGaussian)


BOTH = [IsotropicGaussianPrior(0.3), DiagonalGaussianPrior(np.full(3, 0.3))]


@pytest.mark.parametrize("prior", BOTH, ids=["isotropic", "diagonal"])
@pytest.mark.parametrize("like", [jnp.arange(3), np.arange(3, dtype=np.uint8), jnp.zeros(3)])
def test_draws_for_whole_numbers_are_floats(prior, like):
    drawn = prior.sample({"a": like})["a"]
    assert drawn.dtype == jnp.float32 and drawn.shape == (3,)
    np.testing.assert_array_equal(drawn, prior.sample({"a": jnp.zeros(3)})["a"])
    draws = np.stack([prior.sample({"a": like}, seed)["a"] for seed in range(400)])
    # Six standard errors of a covariance of 400 draws.
    slack = 6 * np.exp(0.3) * np.sqrt(2 / 400)
    np.testing.assert_allclose(np.cov(draws.T), np.exp(0.3) * np.eye(3), atol=slack)


@pytest.mark.parametrize("prior", BOTH, ids=["isotropic", "diagonal"])
def test_seeds_and_keys_of_draws(prior):
    like = {"a": jnp.zeros(3)}
    by_key = prior.sample(like, jax.random.PRNGKey(7))["a"]
    np.testing.assert_array_equal(prior.sample(like, 7)["a"], by_key)
    np.testing.assert_array_equal(prior.sample(like, np.array(7))["a"], by_key)
    for bad in (-1, 2**200, 1.5, "0", np.zeros(3, np.uint32), np.zeros((2, 2), np.uint32), True):
        with pytest.raises(InvalidArgumentError, match=r"rng is [\s\S]*; give a key"):
            prior.sample(like, bad)


@pytest.mark.parametrize("make", [IsotropicGaussianPrior, lambda v: DiagonalGaussianPrior([v] * 3)])
@pytest.mark.parametrize(("dtype", "log_var"), [(np.float16, 40.0), (np.float32, 300.0)])
def test_draws_too_large_for_the_dtype(make, dtype, log_var):
    with pytest.raises(NonFiniteError, match="too large for the parameters' dtype"):
        make(log_var).sample({"a": jnp.zeros(3, dtype)})
    assert np.isfinite(make(2.0).sample({"a": jnp.zeros(3, dtype)})["a"]).all()


@pytest.mark.parametrize("prior", BOTH, ids=["isotropic", "diagonal"])
@pytest.mark.parametrize(
    "tree", [{"a": "b"}, {"a": None}, {}, {"a": np.ones(3) + 0j}, {"a": True}, {"a": object()}]
)
def test_trees_that_hold_no_parameters(prior, tree):
    for call in (prior.sample, prior.log_joint_prob):
        with pytest.raises(InvalidArgumentError, match=r"params(_like)?(\['a'\])? is"):
            call(tree)
    assert np.isfinite(IsotropicGaussianPrior().log_joint_prob({"a": 1.5}))
    assert IsotropicGaussianPrior().sample({"a": 1.5})["a"].shape == ()


@pytest.mark.parametrize(
    "bad",
    [True, "1.0", None, np.nan, np.inf, 10**400, 1j, [[1.0], [1.0, 2.0]], np.array("1"), 701, {}],
)
def test_log_variances_and_means_that_are_no_numbers(bad):
    with pytest.raises(InvalidArgumentError, match="log_var is"):
        IsotropicGaussianPrior(bad)
    with pytest.raises(InvalidArgumentError, match="log_var has shape"):
        DiagonalGaussianPrior(bad if bad is None or isinstance(bad, list) else [bad, bad])
    if bad != 701 and not isinstance(bad, list):
        with pytest.raises(InvalidArgumentError, match="mean is"):
            IsotropicGaussianPrior(mean=bad)


@pytest.mark.parametrize(
    "one", [np.float32(0.5), np.array(0.5), jnp.asarray(0.5), np.array(0.5, ">f8")]
)
def test_numbers_of_any_library(one):
    like = {"a": jnp.ones(3)}
    expected = IsotropicGaussianPrior(0.5, mean=0.5).log_joint_prob(like)
    assert IsotropicGaussianPrior(one, mean=one).log_joint_prob(like) == expected


@pytest.mark.parametrize("batched", [False, True])
def test_initial_parameters_for_a_tree_of_inputs(batched):
    class Two(nn.Module):
        @nn.compact
        def __call__(self, inputs, train=False):
            return nn.Dense(2)(jnp.concatenate([inputs["a"], inputs["b"]], axis=1))

    inputs = {"a": np.ones((6, 3), np.float32), "b": np.ones((6, 2), np.float32)}
    loader = DataLoader.from_array_data((inputs, np.arange(6) % 2), batch_size=6)
    model = ProbClassifier(Two(), posterior_approximator=MAPPosteriorApproximator())
    state = model.joint.init(inputs if batched else loader.input_shape, 3)
    assert state.params["model"]["params"]["Dense_0"]["kernel"].shape == (5, 2)
    other = model.joint.init({"a": (3,), "b": [2]}, 3)
    for one, two in zip(jax.tree.leaves(state.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("bad", [None, "3", 3, (-1,), (3.0,), (True,), {}, {"a": 3}, {"a": (0.5,)}])
def test_input_shapes_that_are_none(bad):
    model = ProbClassifier(Net(), posterior_approximator=MAPPosteriorApproximator())
    with pytest.raises(InvalidArgumentError, match="input_shape"):
        model.joint.init(bad)
    with pytest.raises(InvalidArgumentError, match="rng is"):
        model.joint.init((3,), "0")
