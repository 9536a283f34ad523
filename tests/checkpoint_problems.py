"""The networks, data and configurations of the tests of checkpoints."""

from __future__ import annotations

import os

import jax
import numpy as np
import optax
from flax import linen as nn

from hoarfrost.data import DataLoader
from hoarfrost.prob_model import (
    CalibCheckpointer,
    CalibConfig,
    CalibMonitor,
    CalibOptimizer,
    CalibProcessor,
    FitCheckpointer,
    FitConfig,
    FitHyperparameters,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
    ProbClassifier,
)

RNG = np.random.default_rng(11)
X = RNG.standard_normal((30, 3)).astype(np.float32)
Y = (X[:, 0] + 0.3 * RNG.standard_normal(30) > 0).astype(int)
TRAIN = DataLoader.from_array_data((X[:22], Y[:22]), batch_size=5, shuffle=True)  # 5 steps
VAL = DataLoader.from_array_data((X[22:], Y[22:]), batch_size=5)
ADAM, SGD = optax.adam(2e-2), optax.sgd(1e-3)
KEY = jax.random.PRNGKey(4)


class Net(nn.Module):
    """Everything that has a state: statistics, dropout."""

    width: int = 4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.Dense(self.width, name="body")(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.Dropout(0.2, deterministic=not train)(nn.relu(x))
        return nn.Dense(2, name="head")(x)


def right(predictions, targets):
    """A metric of training and validation."""
    return float(np.mean(np.asarray(predictions) == np.asarray(targets)))


def unsure(predictions, uncertainties, targets):
    """A metric of calibration."""
    return float(np.mean(uncertainties))


def map_model(module=None, **options):
    approximator = MAPPosteriorApproximator()
    return ProbClassifier(module or Net(), posterior_approximator=approximator, **options)


def laplace_model(module=None, **options):
    approximator = LaplacePosteriorApproximator(tune_prior_log_variance=False)
    return ProbClassifier(module or Net(), posterior_approximator=approximator, **options)


def config(
    n_epochs=2, method=ADAM, freeze_fun=None, monitor=None, steps=None, callbacks=None, **disk
):
    return FitConfig(
        optimizer=FitOptimizer(method, n_epochs, freeze_fun),
        monitor=FitMonitor(verbose=False, **(monitor or {})),
        hyperparameters=FitHyperparameters(gradient_accumulation_steps=steps),
        checkpointer=FitCheckpointer(**disk),
        callbacks=callbacks,
    )


def calib(n_epochs=2, method=ADAM, draws=3, monitor=None, **disk):
    return CalibConfig(
        optimizer=CalibOptimizer(method, n_epochs),
        monitor=CalibMonitor(verbose=False, **(monitor or {})),
        processor=CalibProcessor(n_posterior_samples=draws),
        checkpointer=CalibCheckpointer(**disk),
    )


def same_tree(first, second):
    """Whether two trees are the same to the bit, dtypes and structure too."""
    leaves, structure = jax.tree.flatten(first)
    others, other_structure = jax.tree.flatten(second)
    return structure == other_structure and all(map(same_array, leaves, others))


def same_array(first, second):
    first, second = map(plain, (first, second))
    return (first.dtype, first.shape) == (second.dtype, second.shape) and (
        first.tobytes() == second.tobytes()
    )


def plain(leaf):
    leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def recorded(status):
    """What was recorded, without what is said of checkpoints."""
    return {name: values for name, values in status.items() if name not in ("start", "checkpoint")}


def same_run(first, second, status, other):
    """Whether two models and what was recorded of them are the same to the bit."""
    states = [model.posterior.state.get() for model in (first, second)]
    parts = [(s.params, s.mutable, np.asarray(s.step), s.opt_state) for s in states]
    return same_tree(*parts) and same_tree(recorded(status), recorded(other))


def at_step(folder, step):
    """The checkpoint of a step."""
    (name,) = [name for name in os.listdir(folder) if name.endswith(f"_step_{step}")]
    return os.path.join(folder, name)
