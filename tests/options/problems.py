"""The small models, data and posteriors that the options tables share."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from entries import kept
from flax import linen as nn
from flax import nnx

import hoarfrost
from hoarfrost import prob_model
from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.likelihood import Gaussian
from hoarfrost.network import init_linen

_RNG = np.random.default_rng(3)
X = _RNG.standard_normal((12, 2)).astype(np.float32)
X2 = X[::-1] * np.float32(1.5)
Y = (np.arange(12) % 3).astype(np.int32)
T = np.sin(2 * X[:, :1]) + np.float32(0.1) * X[:, 1:]
CLASSES, CLASSES2 = (DataLoader.from_array_data((x, Y), batch_size=6) for x in (X, X2))
NUMBERS, NUMBERS2 = (DataLoader.from_array_data((x, T), batch_size=6) for x in (X, X2))
CLASSES_AS_ROWS = DataLoader.from_array_data((X, np.eye(3, dtype=np.float32)[Y]))
INPUTS, INPUTS2 = (InputsLoader.from_array_inputs(x) for x in (X, X2))


class Net(nn.Module):
    outputs: int = 3
    hidden: int = 3
    normed: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.Dense(self.hidden, name="body")(x)
        if self.normed:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.5, name="norm")(x)
        return nn.Dense(self.outputs, name="head")(jnp.tanh(x))


class NnxNet(nnx.Module):
    """`Net` in NNX."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.body = nnx.Linear(2, 3, rngs=rngs)
        self.head = nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(jnp.tanh(self.body(x)))


def nnx_net(seed: int = 0) -> NnxNet:
    return NnxNet(nnx.Rngs(seed))


def held(module: Any) -> Any:
    """The parameters of an NNX module."""
    return nnx.to_pure_dict(nnx.state(module, nnx.Param))


class Bias(nn.Module):
    """A calibrator of one's own."""

    @nn.compact
    def __call__(self, outputs: jax.Array) -> jax.Array:
        return outputs + self.param("bias", nn.initializers.zeros, outputs.shape[-1:])


def key(seed: int = 0) -> jax.Array:
    return jax.random.PRNGKey(seed)


def twice(module: Any, inputs: Any) -> Any:
    return 2 * module(inputs)


def first_of_tanh(module: Any, inputs: Any) -> Any:
    return module(jnp.tanh(inputs))


VARIABLES, OTHER_VARIABLES = (init_linen(Net(), X, key(seed), key(seed)) for seed in (0, 1))
TWICE = {"model": Net(), "params": VARIABLES, "call": twice}
OF_HEAD = {"model": Net(), "params": VARIABLES, "trainable": ["head"]}


def head_only(path: Any, value: Any) -> str:
    return "trainable" if "head" in path else "frozen"


ADAM, SGD = optax.adam(3e-2), optax.sgd(1e-3)


def config(n_epochs: int = 2, **parts: Any) -> prob_model.FitConfig:
    return prob_model.FitConfig(
        **{
            "optimizer": prob_model.FitOptimizer(method=ADAM, n_epochs=n_epochs),
            "monitor": prob_model.FitMonitor(verbose=False),
            **parts,
        }
    )


def calib(n_epochs: int = 2, **parts: Any) -> prob_model.CalibConfig:
    return prob_model.CalibConfig(
        **{
            "optimizer": prob_model.CalibOptimizer(method=ADAM, n_epochs=n_epochs),
            "monitor": prob_model.CalibMonitor(verbose=False),
            "processor": prob_model.CalibProcessor(n_posterior_samples=2),
            **parts,
        }
    )


UNTUNED = prob_model.LaplacePosteriorApproximator(tune_prior_log_variance=False)
AT_MAP = prob_model.MAPPosteriorApproximator()


def classifier(**options: Any) -> Any:
    options = {"model": Net(), "posterior_approximator": UNTUNED, **options}
    return prob_model.ProbClassifier(**options)


def regressor(**options: Any) -> Any:
    nets = {"model": Net(1), "likelihood_log_variance_model": Net(1)}
    return prob_model.ProbRegressor(**{**nets, "posterior_approximator": UNTUNED, **options})


def quiet() -> prob_model.FitConfig:
    return prob_model.FitConfig(monitor=prob_model.FitMonitor(verbose=False))


def fitted(kind: str) -> Any:
    """A trained model whose calls leave it as it was: "regressor", "classifier" or "map".

    The first two also "... with statistics", those of batch normalisation.
    """

    def make() -> Any:
        if kind == "map":
            model = classifier(posterior_approximator=AT_MAP)
            model.train(CLASSES, fit_config=config())
            return model
        numbers, normed = kind.startswith("regressor"), kind.endswith("with statistics")
        nets = {"model": Net(1 if numbers else 3, normed=normed)}
        if numbers:
            nets["likelihood_log_variance_model"] = Net(1, normed=normed)
        model, data = (regressor(**nets), NUMBERS) if numbers else (classifier(**nets), CLASSES)
        head = prob_model.FitOptimizer(freeze_fun=head_only) if normed else None
        fit_config = quiet() if head is None else config(optimizer=head)
        model.train(data, fit_config=fit_config, map_fit_config=config())
        return model

    return kept(kind, make)


def apply(params: Any, x: Any) -> jax.Array:
    return jnp.tanh(x @ params["a"]) @ params["b"]


def apply_sine(params: Any, x: Any) -> jax.Array:
    return jnp.sin(x @ params["a"]) @ params["b"]


def tree(scale: float = 1.0, outputs: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "a": scale * rng.standard_normal((2, 3)).astype(np.float32),
        "b": scale * rng.standard_normal((3, outputs)).astype(np.float32),
    }


def laplace(outputs: int = 3, **options: Any) -> hoarfrost.Laplace:
    data, likelihood = (CLASSES, "categorical") if outputs == 3 else (NUMBERS, Gaussian(0.5))
    options = {"likelihood": likelihood, "progress": False, **options}
    return hoarfrost.fit_laplace(apply, tree(outputs=outputs), data, **options)


def shown_by(call: Callable[[], Any]) -> tuple[Any, bool]:
    """A result, and whether anything was printed on the way."""
    screen = io.StringIO()
    with contextlib.redirect_stderr(screen), contextlib.redirect_stdout(screen):
        result = call()
    return result, bool(screen.getvalue())
