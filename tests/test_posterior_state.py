"""Where training starts, and what the state of a posterior holds afterwards."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from hoarfrost.data import DataLoader
from hoarfrost.errors import InvalidArgumentError, NotFittedError
from hoarfrost.prior import DiagonalGaussianPrior, IsotropicGaussianPrior
from hoarfrost.prob_model import (
    FitCheckpointer,
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
    PosteriorState,
    ProbClassifier,
    ProbRegressor,
)
from hoarfrost.prob_model.posterior.laplace import LaplaceState

RNG = np.random.default_rng(2)
X = RNG.standard_normal((20, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
CLASSES = DataLoader.from_array_data((X, Y), batch_size=8)
NUMBERS = DataLoader.from_array_data((X, X[:, :1]), batch_size=8)
ADAM = optax.adam(1e-3)
STILL = optax.sgd(0.0)
CURRENT = FitCheckpointer(start_from_current_state=True)


class Net(nn.Module):
    outputs: int

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dropout(0.1, deterministic=not train)(nn.tanh(nn.Dense(4)(x)))
        return nn.Dense(self.outputs)(x)


def config(method=ADAM, n_epochs=2, **parts):
    return FitConfig(FitOptimizer(method, n_epochs), monitor=FitMonitor(verbose=False), **parts)


class Generator:
    """Fortuna's generator of keys."""

    def __init__(self, seed):
        self.key = jax.random.PRNGKey(seed)

    def get(self):
        self.key = jax.random.split(self.key)[0]
        return self.key


def init_of_fortuna(rng, modules):
    """One call of Fortuna's joint.init: a key for the networks, then one for the calibrator."""
    _, *keys = jax.random.split(rng.get(), 1 + 2 * len(modules))
    rngs = [dict(zip(("params", "dropout"), keys[:2], strict=True))]
    if len(modules) == 2:
        # Its second network gets one key for both streams.
        rngs.append({"params": keys[2], "dropout": keys[2]})
    variables = [m.init(r, jnp.zeros((1, 3))) for m, r in zip(modules, rngs, strict=True)]
    rng.get()
    return variables


def start_of_fortuna(seed, modules, laplace):
    """Where its training starts, by its order of calls."""
    rng = Generator(seed)
    init_of_fortuna(rng, modules)  # the check of the outputs' dimension
    if laplace:
        rng.get()  # handed to the preliminary MAP, which leaves it unused
    return init_of_fortuna(rng, modules)


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("laplace", [False, True], ids=["map", "laplace"])
@pytest.mark.parametrize("regression", [False, True], ids=["classifier", "regressor"])
@pytest.mark.parametrize("calibrated", [False, True])
def test_the_same_seed_starts_from_fortunas_parameters(seed, laplace, regression, calibrated):
    approximator = LaplacePosteriorApproximator(False) if laplace else MAPPosteriorApproximator()
    options = {"posterior_approximator": approximator, "seed": seed}
    if not calibrated:
        options["output_calibrator"] = None
    modules = [Net(1), Net(1)] if regression else [Net(2)]
    model = (ProbRegressor if regression else ProbClassifier)(*modules, **options)
    expected = start_of_fortuna(seed, modules, laplace)
    names = ("model", "lik_log_var")[: len(modules)]
    # A training that makes no step ends where it starts.
    settings = {"map_fit_config" if laplace else "fit_config": config(STILL, 1)}
    quiet = FitConfig(monitor=FitMonitor(verbose=False))
    model.train(NUMBERS if regression else CLASSES, **{"fit_config": quiet, **settings})
    for params in (model.joint.init((3,)).params, model.posterior.state.get().params):
        for name, variables in zip(names, expected, strict=True):
            pairs = zip(
                *map(jax.tree.leaves, (params[name]["params"], variables["params"])), strict=True
            )
            for one, other in pairs:
                np.testing.assert_array_equal(one, other)


def fitted(laplace, **options):
    approximator = LaplacePosteriorApproximator(False) if laplace else MAPPosteriorApproximator()
    model = ProbClassifier(Net(2), posterior_approximator=approximator, **options)
    settings = {"map_fit_config" if laplace else "fit_config": config()}
    quiet = FitConfig(monitor=FitMonitor(verbose=False))
    model.train(CLASSES, **{"fit_config": quiet, **settings})
    return model


def test_the_state_of_a_map_holds_its_steps_and_its_optimiser():
    state = fitted(laplace=False).posterior.state.get()
    assert int(state.step) == 6
    adam = state.opt_state[0]
    assert int(adam.count) == 6
    assert jax.tree.structure(adam.mu) == jax.tree.structure(state.params)
    assert all(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(adam.nu))


def test_the_optimiser_s_state_is_that_of_the_trainable_parameters():
    model = fitted(laplace=False)
    freeze = lambda path, value: "trainable" if "Dense_1" in path else "frozen"  # noqa: E731
    settings = FitConfig(FitOptimizer(ADAM, 1, freeze), CURRENT, FitMonitor(verbose=False))
    model.train(CLASSES, fit_config=settings)
    state = model.posterior.state.get()
    assert sum(leaf.size for leaf in jax.tree.leaves(state.opt_state[0].mu)) == 4 * 2 + 2
    # The count of a run that starts from a state starts anew.
    assert int(state.step) == 3


def test_the_state_of_laplace_holds_its_posterior():
    model = fitted(laplace=True)
    state = model.posterior.state.get()
    assert isinstance(state, LaplaceState) and isinstance(state, PosteriorState)
    assert int(state.step) == 6
    assert state.opt_state is None
    assert state.laplace is model.posterior.laplace
    assert state.prior_log_var == 0.0


def test_the_prior_of_the_state_is_that_of_its_posterior():
    model = fitted(laplace=True, prior=IsotropicGaussianPrior(-1.5))
    state = model.posterior.state.get()
    assert state.prior_log_var == pytest.approx(-1.5, abs=1e-12)
    model.posterior.prior_log_variance_tuning(mode="marginal_lik")
    state = model.posterior.state.get()
    assert state.prior_log_var == -math.log(model.posterior.laplace.prior_precision) != -1.5


def test_a_prior_with_many_variances_is_a_tree_in_the_state():
    model = ProbClassifier(Net(2))
    count = sum(leaf.size for leaf in jax.tree.leaves(model.joint.init((3,)).params))
    log_var = np.linspace(-1, 1, count).astype(np.float32)
    state = fitted(laplace=True, prior=DiagonalGaussianPrior(log_var)).posterior.state.get()
    found = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.prior_log_var)])
    np.testing.assert_allclose(np.sort(found), log_var, rtol=0, atol=4e-7)


@pytest.mark.parametrize("laplace", [False, True])
def test_replace_makes_a_changed_copy(laplace):
    model = fitted(laplace)
    state = model.posterior.state.get()
    marked = state.replace(step=0)
    assert marked.step == 0 and int(state.step) == 6
    assert type(marked) is type(state) and marked.params is state.params
    assert model.posterior.sample(1).replace(params=None).params is None
    with pytest.raises(TypeError):
        state.replace(nonsense=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.step = 1
    other = state.replace(params=jax.tree.map(lambda leaf: 2 * leaf, state.params))
    # A posterior stays with the parameters that it was fitted at.
    assert type(other) is PosteriorState
    model.posterior.state.put(other)
    if laplace:
        with pytest.raises(NotFittedError):
            model.posterior.sample()
    else:
        assert model.posterior.sample().params is other.params


@pytest.mark.parametrize("laplace", [False, True])
def test_an_inputs_loader_for_a_draw_is_accepted_and_checked(laplace):
    posterior = fitted(laplace).posterior
    one = posterior.sample(3, inputs_loader=CLASSES.to_inputs_loader())
    pairs = zip(*map(jax.tree.leaves, (one.params, posterior.sample(3).params)), strict=True)
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)
    for wrong in (CLASSES, X, 3):
        with pytest.raises(InvalidArgumentError, match="inputs_loader is a"):
            posterior.sample(3, inputs_loader=wrong)


def test_parameters_are_plain_dicts():
    params = fitted(laplace=False).posterior.state.get().params
    assert type(params) is type(params["model"]) is type(params["model"]["params"]) is dict
