"""MAP training against a loop written out by hand, and everything that must not happen in it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.flatten_util import ravel_pytree

from hoarfrost.data import DataLoader
from hoarfrost.errors import DataError, InvalidArgumentError, NonFiniteError, ShapeError
from hoarfrost.freezing import Subset, make_partition
from hoarfrost.likelihood import Categorical, Gaussian
from hoarfrost.network import FunctionNetwork, as_network, init_linen
from hoarfrost.prior import DiagonalGaussianPrior, IsotropicGaussianPrior
from hoarfrost.training import EarlyStopping, fit_map
from hoarfrost.training.step import init_optimizer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 3)).astype(np.float32)
Y = RNG.integers(0, 2, 12)
KEY = jax.random.PRNGKey(7)
PRIOR = IsotropicGaussianPrior()
# Optimisers are compared by identity: each is made once, so that its steps compile once.
ADAM, SGD = optax.adam(1e-2), optax.sgd(1e-2)
STILL, UNIT, WILD = optax.sgd(0.0), optax.sgd(1.0), optax.sgd(1e30)


def linear(params, inputs):
    return inputs @ params["kernel"] + params["bias"]


LINEAR = FunctionNetwork(linear)


def start():
    return {"kernel": jnp.asarray(RNG.normal(size=(3, 2)), jnp.float32), "bias": jnp.zeros(2)}


PARAMS = start()


def loader(batch_size=None, x=X, y=Y):
    return DataLoader.from_array_data((x, y), batch_size=batch_size)


def fit(network=LINEAR, params=PARAMS, mutable=None, *, selector=None, data=None, **options):
    defaults = {
        "prior": PRIOR,
        "likelihood": Categorical(),
        "train_loader": loader() if data is None else data,
        "optimizer": SGD,
        "n_epochs": 1,
        "key": KEY,
        "verbose": False,
    }
    subset = Subset(network, make_partition(params, selector), params, mutable or {})
    return fit_map(subset, **(defaults | options))


def negative_log_joint(params, x, y, n_data=12):
    log_prob = jax.nn.log_softmax(linear(params, x))[jnp.arange(len(y)), y]
    return -n_data / len(y) * jnp.sum(log_prob) - PRIOR.log_joint_prob(params)


def by_hand(optimizer, batch_size, n_epochs):
    params, losses = PARAMS, []
    state = optimizer.init(params)
    for _ in range(n_epochs):
        epoch = []
        for i in range(0, 12, batch_size):
            x, y = X[i : i + batch_size], Y[i : i + batch_size]
            loss, gradient = jax.value_and_grad(negative_log_joint)(params, x, y)
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            epoch.append((float(loss), len(y)))
        losses.append(sum(v * n for v, n in epoch) / 12)
    return params, losses


def norm(tree):
    return np.linalg.norm(ravel_pytree(tree)[0])


def assert_trees_close(a, b, rtol=1e-5):
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=rtol, atol=1e-7), a, b)


def test_steps_and_losses_equal_a_loop_by_hand_with_a_padded_last_batch():
    result = fit(data=loader(5), optimizer=ADAM, n_epochs=3)
    params, losses = by_hand(ADAM, 5, 3)
    assert_trees_close(result.params, params)
    np.testing.assert_allclose(result.status["loss"], losses, rtol=1e-6)
    assert result.status["loss"].shape == (3,)


def test_no_dtype_and_no_rank_is_promoted_in_silence(strict):
    network = FunctionNetwork(lambda p, x: x @ p["kernel"] + p["bias"][None])
    # Not Adam: optax itself promotes its step count.
    result = fit(network, data=loader(5), val_loader=loader(5), max_grad_norm=1.0)
    assert result.status.keys() == {"loss", "val_loss"}


def test_float64_stays_float64(x64):
    params = jax.tree.map(lambda p: jnp.asarray(np.asarray(p), jnp.float64), PARAMS)
    result = fit(params=params, data=loader(x=X.astype(np.float64)), optimizer=ADAM)
    assert {leaf.dtype for leaf in jax.tree.leaves(result.params)} == {np.dtype("float64")}
    np.testing.assert_allclose(
        result.status["loss"], [negative_log_joint(params, X.astype(np.float64), Y)], rtol=1e-6
    )


def test_nothing_is_retraced_between_epochs_and_runs():
    traces = []

    def counted(params, inputs):
        traces.append(inputs.shape)
        return linear(params, inputs)

    network = FunctionNetwork(counted)
    options = {"data": loader(5), "optimizer": ADAM, "val_loader": loader(7)}
    fit(network, n_epochs=3, **options)
    first = list(traces)
    # One step and one validation program, beside the shape of either's first batch.
    assert sorted(first) == [(5, 3), (5, 3), (7, 3), (7, 3)]
    fit(network, jax.tree.map(lambda x: x + 1, PARAMS), n_epochs=2, **options)
    fit(network, n_epochs=1, prior=IsotropicGaussianPrior(1.0), **options)
    assert traces == first


def test_the_callers_arrays_are_not_consumed():
    params = start()
    before = jax.tree.map(np.array, params)
    fit(params=params, n_epochs=2, optimizer=ADAM)
    jax.tree.map(np.testing.assert_array_equal, params, before)


def test_frozen_leaves_stay_and_have_no_optimiser_state():
    partition = make_partition(PARAMS, lambda path, v: path == ("bias",))
    result = fit(selector=lambda path, v: path == ("bias",), optimizer=ADAM)
    np.testing.assert_array_equal(result.params["kernel"], PARAMS["kernel"])
    assert np.all(result.params["bias"] != PARAMS["bias"])
    moments = jax.tree.leaves(init_optimizer(ADAM, partition.split(PARAMS)[0]))
    assert sorted(m.size for m in moments) == [1, 2, 2]
    # The prior covers the frozen parameters too.
    expected = negative_log_joint(PARAMS, X, Y)
    np.testing.assert_allclose(result.status["loss"], [expected], rtol=1e-6)


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(4, name="l1")(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5, name="norm")(x)
        return nn.Dense(2, name="l2")(x)


def test_batch_statistics_are_those_of_the_real_points_only():
    network, params, mutable = as_network(Normed(), init_linen(Normed(), X, KEY, KEY))
    result = fit(network, params, mutable, data=loader(8), optimizer=STILL)
    layer = params["params"]["l1"]
    hidden = X @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    mean = np.zeros(4)
    for rows in (hidden[:8], hidden[8:]):
        mean = 0.5 * mean + 0.5 * rows.mean(0)
    got = result.mutable["batch_stats"]["norm"]["mean"]
    np.testing.assert_allclose(got, mean, rtol=1e-5, atol=1e-6)


def test_statistics_of_a_frozen_layer_do_not_drift():
    network, params, mutable = as_network(Normed(), init_linen(Normed(), X, KEY, KEY))
    head = fit(network, params, mutable, selector=lambda path, v: "l2" in path, n_epochs=2)
    jax.tree.map(np.testing.assert_array_equal, head.mutable, mutable)
    norm = fit(network, params, mutable, selector=lambda path, v: path[-1] == "scale")
    assert np.any(norm.mutable["batch_stats"]["norm"]["mean"] != 0)


def test_statistics_without_parameters_belong_to_the_module_around_them():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.BatchNorm(True, use_scale=False, use_bias=False, name="n")(x)
            return nn.Dense(2, name="d")(x)

    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Block(name="b")(Block(name="a")(x))

    network, params, mutable = as_network(Outer(), init_linen(Outer(), X, KEY, KEY))
    partition = make_partition(params, lambda path, v: "b" in path)
    # Leaves in order: a/n/mean, a/n/var, b/n/mean, b/n/var.
    assert network.moving(partition.by_path, mutable) == (False, False, True, True)


class Dropped(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dropout(0.5, deterministic=not train)(nn.Dense(2)(x))


def test_dropout_is_a_function_of_the_key():
    network, params, _ = as_network(Dropped(), init_linen(Dropped(), X, KEY, KEY))
    losses = [
        fit(network, params, key=jax.random.PRNGKey(seed), n_epochs=2).status["loss"]
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(losses[0], losses[1])
    assert np.all(losses[0] != losses[2])
    assert losses[0][0] != losses[0][1]


def test_max_grad_norm_limits_the_step():
    result = fit(max_grad_norm=0.5, optimizer=UNIT)
    step = norm(jax.tree.map(jnp.subtract, result.params, PARAMS))
    np.testing.assert_allclose(step, 0.5, rtol=1e-5)


def test_gradient_accumulation_averages_batches():
    # Mean of the gradients of 4 batches of 3 = the gradient of all 12 points.
    many = fit(data=loader(3), gradient_accumulation_steps=4)
    assert_trees_close(many.params, fit().params)


def test_an_optimiser_with_a_line_search():
    before = negative_log_joint(PARAMS, X, Y)
    result = fit(optimizer=optax.lbfgs(memory_size=2), n_epochs=10)
    after = negative_log_joint(result.params, X, Y)
    gradient = jax.grad(negative_log_joint)(result.params, X, Y)
    assert after < before
    assert norm(gradient) < 1e-2


def labels(outputs):
    return jnp.argmax(outputs, axis=1)


def accuracy(predictions, targets):
    assert isinstance(predictions, np.ndarray)
    assert predictions.shape == targets.shape == (12,)
    return np.mean(predictions == targets)


def test_validation_loss_and_metrics():
    result = fit(
        data=loader(5),
        val_loader=loader(5),
        predict=labels,
        metrics=(accuracy,),
        n_epochs=4,
        eval_every_n_epochs=2,
    )
    shapes = {name: values.shape for name, values in result.status.items()}
    assert shapes == {"loss": (4,), "accuracy": (4,), "val_loss": (2,), "val_accuracy": (2,)}
    expected = negative_log_joint(result.params, X, Y)
    np.testing.assert_allclose(result.status["val_loss"][-1], expected, rtol=1e-5)
    hits = np.mean(np.asarray(labels(linear(result.params, X))) == Y)
    np.testing.assert_allclose(result.status["val_accuracy"][-1], hits)


def test_training_metrics_can_be_left_out():
    result = fit(predict=labels, metrics=(accuracy,), training_metrics=False)
    assert result.status.keys() == {"loss"}


def test_early_stopping_gives_back_the_best_state():
    # Validation labels are the wrong way round: training makes their loss worse at every step.
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    options = {"val_loader": loader(y=1 - Y), "optimizer": SGD, "params": zeros}
    one = fit(n_epochs=1, **options)
    rule = EarlyStopping(patience=2, monitor="val_loss")
    many = fit(n_epochs=30, early_stopping=rule, **options)
    assert many.status["loss"].shape == (3,)
    assert np.argmin(many.status["val_loss"]) == 0
    assert_trees_close(many.params, one.params, rtol=0)


def test_min_delta_decides_what_an_improvement_is():
    rule = EarlyStopping(patience=1, monitor="loss", min_delta=1e3)
    assert fit(n_epochs=9, early_stopping=rule).status["loss"].shape == (2,)


class Recorder:
    def __init__(self):
        self.seen, self.states = [], []

    def training_epoch_start(self, state):
        self.seen.append("start")
        return state.replace(params=jax.tree.map(jnp.zeros_like, state.params))

    def training_step_end(self, state):
        self.seen.append(f"step {int(state.step)}")
        self.states.append(state)
        return state

    def training_epoch_end(self, state):
        self.seen.append("end")
        return state


def test_callbacks_see_and_change_the_state():
    recorder = Recorder()
    result = fit(data=loader(6), callbacks=(recorder,))
    assert recorder.seen == ["start", "step 1", "step 2", "end"]
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    np.testing.assert_allclose(
        result.status["loss"],
        [
            (
                negative_log_joint(zeros, X[:6], Y[:6])
                + negative_log_joint(recorder.states[0].params, X[6:], Y[6:])
            )
            / 2
        ],
        rtol=1e-6,
    )


def test_a_callback_that_returns_nothing():
    recorder = Recorder()
    recorder.training_step_end = lambda state: None
    with pytest.raises(InvalidArgumentError, match="training_step_end returned NoneType"):
        fit(callbacks=(recorder,))


def test_progress_reads_as_documented_and_quiet_is_quiet(capfd):
    result = fit(n_epochs=2, verbose=True)
    shown = capfd.readouterr().err
    assert f"Epoch: 2 | loss: {result.status['loss'][1]:.5f}: 100%|" in shown
    fit(n_epochs=2)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_loss_that_is_not_finite_loses_nothing():
    result = fit(data=loader(6), optimizer=WILD, n_epochs=5)
    assert result.failure is not None
    assert "epoch 1 (step " in str(result.failure)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.params))


def test_all_dtypes_and_layouts_of_data():
    strided = np.zeros((12, 6), np.float64)[:, ::2]
    strided[:] = X
    expected = fit(n_epochs=2).status["loss"]
    for x in (strided, np.asfortranarray(X), jnp.asarray(X)):
        np.testing.assert_allclose(fit(data=loader(x=x), n_epochs=2).status["loss"], expected)
    frozen = X.copy()
    frozen.flags.writeable = False
    np.testing.assert_allclose(fit(data=loader(x=frozen), n_epochs=2).status["loss"], expected)
    for dtype in (np.float16, jnp.bfloat16):
        got = fit(data=loader(x=X.astype(dtype)), n_epochs=2).status["loss"]
        np.testing.assert_allclose(got, expected, rtol=0.02)


def test_the_prior_of_each_parameter_enters():
    prior = DiagonalGaussianPrior(np.linspace(-1, 1, 8))
    result = fit(prior=prior)
    data_term = negative_log_joint(PARAMS, X, Y) + PRIOR.log_joint_prob(PARAMS)
    expected = data_term - prior.log_joint_prob(PARAMS)
    np.testing.assert_allclose(result.status["loss"], [expected], rtol=1e-6)


def spoiled(row, value, dtype=np.float32):
    x = X.astype(dtype)
    x[row, 1] = value
    return x


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_inputs_that_are_not_finite_name_their_batch(dtype):
    with pytest.raises(NonFiniteError, match=r"inputs of batch 0 of train_data_loader hold nan"):
        fit(data=loader(5, spoiled(2, np.nan, dtype)))
    with pytest.raises(NonFiniteError, match=r"batch 2 of train_.*hold inf at index \(1, 1\)"):
        fit(data=loader(5, spoiled(11, np.inf, dtype)))
    with pytest.raises(NonFiniteError, match=r"batch 0 of val_data_loader"):
        fit(val_loader=loader(5, spoiled(0, np.nan, dtype)))


def test_large_but_finite_inputs_are_finite():
    assert fit(data=loader(x=np.full_like(X, 3e38)), optimizer=STILL) is not None


def test_labels_that_do_not_fit_name_their_batch():
    y = Y.copy()
    y[7] = 2
    with pytest.raises(
        InvalidArgumentError, match=r"targets of batch 1 hold the label 2; .*0\.\.1"
    ):
        fit(data=loader(5, y=y))


def test_parameters_that_are_not_finite():
    params = start() | {"bias": jnp.array([0.0, jnp.nan])}
    with pytest.raises(NonFiniteError, match="the parameter bias holds a NaN"):
        fit(params=params)


def test_outputs_that_do_not_fit_the_likelihood():
    with pytest.raises(ShapeError, match=r"outputs have shape \(12, 2\).*noise_std|noise_std"):
        fit(likelihood=Gaussian([1.0, 1.0, 1.0]))
    with pytest.raises(ShapeError, match=r"outputs have shape \(1, 2\) for a batch of 12 points"):
        fit(FunctionNetwork(lambda p, x: linear(p, x)[:1]))


def test_an_empty_loader():
    with pytest.raises(DataError, match="empty"):
        fit(data=DataLoader.from_iterable([]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_epochs": 0}, "n_epochs is 0; give a positive integer"),
        ({"optimizer": 3}, "the optimizer is 3; give an optax optimiser"),
        ({"max_grad_norm": -1.0}, "max_grad_norm is -1.0"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps is 0"),
        ({"eval_every_n_epochs": 0}, "eval_every_n_epochs is 0"),
        ({"metrics": (3,)}, "metrics hold 3"),
        ({"metrics": (labels, labels)}, "two values called 'labels'"),
        ({"early_stopping": EarlyStopping(2)}, "early_stopping_monitor is 'val_loss'.* loss "),
        ({"early_stopping": EarlyStopping(2, "loss", -1.0)}, "early_stopping_min_delta is -1.0"),
        ({"prior": 1.0}, "prior is 1.0"),
    ],
)
def test_options_that_cannot_be_used(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        fit(**options)
