"""Small models with every method behind Fortuna's interface."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from hoarfrost import prob_model
from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.prob_model import FitCheckpointer, FitConfig, FitMonitor, FitOptimizer

RNG = np.random.default_rng(3)
X = RNG.standard_normal((24, 2)).astype(np.float32)
Y = (X[:, 0] + 0.3 * RNG.standard_normal(24) > 0).astype(np.int32)
T = np.sin(2 * X[:, :1]) + np.float32(0.1) * X[:, 1:]
CLASSES, CLASSES_VAL = (DataLoader.from_array_data((x, Y), batch_size=8) for x in (X, X[::-1]))
NUMBERS, NUMBERS_VAL = (DataLoader.from_array_data((x, T), batch_size=8) for x in (X, X[::-1]))
INPUTS = InputsLoader.from_array_inputs(X)
ADAM = optax.adam(1e-2)

APPROXIMATORS: dict[str, Any] = {
    "swag": prob_model.SWAGPosteriorApproximator(rank=2),
    "advi": prob_model.ADVIPosteriorApproximator(),
    "deep_ensemble": prob_model.DeepEnsemblePosteriorApproximator(ensemble_size=2),
    "sghmc": prob_model.SGHMCPosteriorApproximator(
        n_samples=3, n_thinning=1, burnin_length=0, step_schedule=1e-3
    ),
    "cyclical_sgld": prob_model.CyclicalSGLDPosteriorApproximator(
        n_samples=3, cycle_length=3, init_step_size=1e-4
    ),
    "sngp": prob_model.SNGPPosteriorApproximator(output_dim=2, gp_hidden_features=16),
}
NAMES = list(APPROXIMATORS)


class Net(nn.Module):
    """With dropout and BatchNorm."""

    outputs: int = 2
    rate: float = 0.1

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = nn.Dense(4, name="body")(x)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = nn.Dropout(self.rate, deterministic=not train)(jnp.tanh(x))
        return nn.Dense(self.outputs, name="head")(x)


def head_only(path: Any, value: Any) -> str:
    return "trainable" if "head" in path or ("kernel" in path and "gp" in path) else "frozen"


def config(
    n_epochs: int = 3, freeze: bool = False, metrics: Any = None, **disk: Any
) -> prob_model.FitConfig:
    return FitConfig(
        FitOptimizer(method=ADAM, n_epochs=n_epochs, freeze_fun=head_only if freeze else None),
        FitCheckpointer(**disk),
        monitor=FitMonitor(verbose=False, metrics=metrics),
    )


def classifier(name: str, **options: Any) -> prob_model.ProbClassifier:
    return prob_model.ProbClassifier(
        options.pop("model", Net()), posterior_approximator=APPROXIMATORS[name], **options
    )


def regressor(name: str) -> prob_model.ProbRegressor:
    approximator = APPROXIMATORS[name]
    if name == "sngp":
        approximator = prob_model.SNGPPosteriorApproximator(output_dim=1, gp_hidden_features=16)
    return prob_model.ProbRegressor(Net(1), Net(1), posterior_approximator=approximator)


def starts(name: str, n_epochs: int = 2) -> dict[str, Any]:
    """What a method needs to start."""
    return {"map_fit_config": config(n_epochs)} if name == "swag" else {}
