"""Small batches whose gradients are gathered, against the large batch that they make up."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from hoarfrost.data import DataLoader
from hoarfrost.errors import InvalidArgumentError, NonFiniteError
from hoarfrost.freezing import Subset, make_partition
from hoarfrost.likelihood import Categorical
from hoarfrost.network import FunctionNetwork, as_network, init_linen
from hoarfrost.prior import IsotropicGaussianPrior
from hoarfrost.prob_model import (
    FitConfig,
    FitHyperparameters,
    FitMonitor,
    FitOptimizer,
    MAPPosteriorApproximator,
    ProbClassifier,
)
from hoarfrost.training import fit_map
from hoarfrost.training.accumulation import Turn, gather, nothing_gathered

RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 3)).astype(np.float32)
Y = RNG.integers(0, 2, 23)
KEY = jax.random.PRNGKey(7)
PARAMS = {
    "a": jnp.asarray(RNG.normal(size=(3, 4)), jnp.float32),
    "b": jnp.asarray(RNG.normal(size=(4, 2)), jnp.float32),
}
OPTIMISERS = {
    "sgd": optax.sgd(1e-2),
    "momentum": optax.sgd(1e-2, momentum=0.9),
    # Its eps is large, so that the rounding of a tiny gradient does not decide its sign.
    "adam": optax.adam(1e-2, eps=1e-3),
    "decayed": optax.adamw(optax.cosine_decay_schedule(1e-2, 8), eps=1e-3),
    "by loss": optax.chain(optax.sgd(1e-2), optax.contrib.reduce_on_plateau(0.5, patience=1)),
}


def forward(params, inputs):
    return jnp.tanh(inputs @ params["a"]) @ params["b"]


NETWORK = FunctionNetwork(forward)


def fit(batch_size, every=None, *, network=NETWORK, params=PARAMS, mutable=None, **options):
    count = options.pop("points", len(X))
    loader = DataLoader.from_array_data(
        (X[:count].astype(options.pop("dtype", np.float32)), Y[:count]),
        batch_size=batch_size,
        shuffle=options.pop("shuffle", False),
        seed=3,
    )
    defaults = {
        "prior": IsotropicGaussianPrior(),
        "likelihood": Categorical(),
        "train_loader": loader,
        "optimizer": OPTIMISERS["sgd"],
        "n_epochs": 3,
        "key": KEY,
        "verbose": False,
    }
    subset = Subset(
        network, make_partition(params, options.pop("selector", None)), params, mutable or {}
    )
    return fit_map(subset, gradient_accumulation_steps=every, **(defaults | options))


def assert_close(found, wanted, eps=2.0**-23, steps=64):
    """To `steps` roundings: some updates, each of sums of some dozens of terms."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=steps * eps, atol=steps * eps
        ),
        found,
        wanted,
    )


# Of 23 points: batches of 4 end with one of 3, batches of 3 with one of 2, of 5 with one of 3.
SPLITS = {
    "whole updates, smaller last batch": (4, 2),
    "a rest of one batch": (3, 3),
    "a rest that holds a smaller batch": (5, 3),
    "one update an epoch": (4, 6),
    "more steps than batches": (5, 100),
    "batches of one": (1, 4),
}


@pytest.mark.parametrize("clip", [None, 0.5], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("optimizer", OPTIMISERS)
@pytest.mark.parametrize("split", SPLITS)
def test_small_batches_train_as_the_large_one_does(split, optimizer, clip):
    size, every = SPLITS[split]
    options = {"optimizer": OPTIMISERS[optimizer], "max_grad_norm": clip}
    small = fit(size, every, **options)
    large = fit(min(size * every, len(X)), **options)
    assert_close(small.params, large.params)
    np.testing.assert_allclose(small.status["loss"], large.status["loss"], rtol=1e-5)
    # The optimiser's state is its own, whatever the batches were.
    assert jax.tree.structure(small.opt_state) == jax.tree.structure(large.opt_state)
    for ours, theirs in zip(
        jax.tree.leaves(small.opt_state), jax.tree.leaves(large.opt_state), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_the_mean_over_batches_would_be_another_update():
    """What the weights are for: batches of 20 and 3 points, averaged as equals."""

    def gradient(rows):
        def loss(params):
            log_probs = jax.nn.log_softmax(forward(params, X[rows]))
            chosen = log_probs[jnp.arange(len(Y[rows])), Y[rows]]
            return -len(X) * chosen.mean() - IsotropicGaussianPrior().log_joint_prob(params)

        return jax.grad(loss)(PARAMS)

    parts = [gradient(slice(0, 20)), gradient(slice(20, 23))]

    def after(weights):
        mean = jax.tree.map(lambda a, b: weights[0] * a + weights[1] * b, *parts)
        return jax.tree.map(lambda p, g: p - 1e-2 * g, PARAMS, mean)

    found = fit(20, 2, n_epochs=1).params
    assert_close(found, after((20 / 23, 3 / 23)))
    assert np.abs(found["b"] - after((0.5, 0.5))["b"]).max() > 1e-2


def test_in_float64_to_its_rounding(x64):
    params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), PARAMS)
    options = {"params": params, "dtype": np.float64, "optimizer": OPTIMISERS["adam"]}
    assert_close(fit(4, 3, **options).params, fit(12, **options).params, eps=2.0**-52, steps=4096)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=["bfloat16", "float16"])
def test_gradients_of_16_bits_add_up_in_32(dtype):
    rows = [jnp.asarray(row, dtype) for row in RNG.normal(loc=1.0, size=(200, 5))]
    gathered = nothing_gathered(rows[0])
    for index, row in enumerate(rows):
        turn = Turn(np.float32(index), np.float32(1), np.bool_(False))
        gathered = gather(gathered, jnp.float32(0), row, turn)
    _, mean = gathered.like(jnp.float32(0), rows[0])
    assert mean.dtype == dtype
    wanted = np.mean([np.asarray(row, np.float64) for row in rows], axis=0)
    # One rounding, at the end.
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(mean, np.float64), wanted, rtol=0.51 * eps)


def test_a_network_of_16_bits_trains_as_with_the_large_batch():
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    small, large = (
        fit(size, every, params=params, n_epochs=1, dtype=jnp.bfloat16)
        for size, every in ((1, 23), (23, None))
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(small.params)} == {jnp.dtype(jnp.bfloat16)}
    assert_close(small.params, large.params, eps=2.0**-8, steps=2)


def test_shuffled_epochs_are_those_of_the_large_batches():
    assert_close(fit(4, 2, shuffle=True).params, fit(8, shuffle=True).params)


def test_a_subset_gathers_its_own_gradient_alone():
    chosen = {"selector": lambda path, value: path == ("b",)}
    small, large = fit(4, 2, **chosen), fit(8, **chosen)
    np.testing.assert_array_equal(small.params["a"], PARAMS["a"])
    assert_close(small.params, large.params)


def test_nothing_is_promoted_in_silence(strict):
    result = fit(5, 3, max_grad_norm=1.0)
    assert np.isfinite(result.status["loss"]).all()


def test_one_program_for_each_shape():
    traces = []

    def counted(params, inputs):
        traces.append(inputs.shape)
        return forward(params, inputs)

    network = FunctionNetwork(counted)
    fit(5, 3, network=network)
    first = list(traces)
    # The shape of the first batch's outputs, and the step: the last batch is padded.
    assert first == [(5, 3), (5, 3)]
    fit(5, 4, network=network, params=jax.tree.map(lambda leaf: leaf + 1, PARAMS))
    assert traces == first


def test_one_step_is_no_accumulation():
    jax.tree.map(np.testing.assert_array_equal, fit(5, 1).params, fit(5).params)


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(4, name="l1")(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5, name="norm")(x)
        return nn.Dense(2, name="l2")(nn.Dropout(0.2, deterministic=not train)(x))


def test_statistics_and_dropout_are_those_of_the_small_batches():
    network, params, mutable = as_network(Normed(), init_linen(Normed(), X, KEY, KEY))
    still = optax.sgd(0.0)
    options = {"network": network, "params": params, "mutable": mutable, "optimizer": still}
    gathered, each = fit(8, 3, **options), fit(8, **options)
    jax.tree.map(np.testing.assert_array_equal, gathered.mutable, each.mutable)
    np.testing.assert_array_equal(gathered.status["loss"], each.status["loss"])
    assert gathered.step == each.step == 9
    moving = options | {"optimizer": OPTIMISERS["adam"], "n_epochs": 30}
    loss = fit(8, 3, **moving).status["loss"]
    assert loss[-1] < loss[0]


def test_a_line_search_is_refused():
    with pytest.raises(InvalidArgumentError, match="set gradient_accumulation_steps to None"):
        fit(4, 2, optimizer=optax.lbfgs(memory_size=2))
    # One batch an update is none of its business.
    fit(4, 1, n_epochs=1, optimizer=optax.lbfgs(memory_size=2))


def test_a_loss_that_is_not_finite_keeps_the_parameters_of_the_last_update():
    class Spoils:
        def __init__(self):
            self.seen = []

        def training_epoch_start(self, state):
            return state

        def training_step_end(self, state):
            self.seen.append(state.params)
            # In the middle of the second update.
            huge = jax.tree.map(lambda leaf: jnp.full_like(leaf, 3e38), state.params)
            return state.replace(params=huge) if len(self.seen) == 3 else state

        def training_epoch_end(self, state):
            return state

    spoils = Spoils()
    result = fit(4, 2, callbacks=[spoils])
    assert isinstance(result.failure, NonFiniteError) and "step 4" in str(result.failure)
    first, second, third, *_ = spoils.seen
    jax.tree.map(np.testing.assert_array_equal, first, PARAMS)
    assert np.any(second["b"] != first["b"])
    jax.tree.map(np.testing.assert_array_equal, third, second)


def test_a_broken_batch_is_named_before_its_update():
    loader = DataLoader.from_iterable([(X[:4], Y[:4]), (X[4:8] * np.nan, Y[4:8])])
    with pytest.raises(NonFiniteError, match="batch 1 of train_data_loader"):
        fit(4, 2, train_loader=loader)


def test_a_probabilistic_model_takes_the_same_step():
    def trained(size, every):
        model = ProbClassifier(nn.Dense(2), posterior_approximator=MAPPosteriorApproximator())
        model.train(
            DataLoader.from_array_data((X, Y), batch_size=size),
            fit_config=FitConfig(
                optimizer=FitOptimizer(method=OPTIMISERS["adam"], n_epochs=3),
                monitor=FitMonitor(verbose=False),
                hyperparameters=FitHyperparameters(
                    max_grad_norm=1.0, gradient_accumulation_steps=every
                ),
            ),
        )
        return model.posterior.state.get().params

    assert_close(trained(4, 3), trained(12, None))
