"""A trained network, its temperature, and its head made Bayesian: three ways to probabilities."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

import hoarfrost
from hoarfrost import metric
from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.examples.classifier import quiet_calibration
from hoarfrost.examples.scoreboard import HEAD, MAP, TEMPERATURE
from hoarfrost.prior import IsotropicGaussianPrior
from hoarfrost.prob_model import (
    FitConfig,
    FitMonitor,
    FitOptimizer,
    MAPPosteriorApproximator,
    ProbClassifier,
)
from hoarfrost.types import Tree

BATCH = 50
# From inputs to the probabilities (N, C) of each method.
Predictor = Callable[[Tree], dict[str, np.ndarray]]


def print_network(name: str, network: nnx.Module) -> None:
    """Say what is trained."""
    sizes = jax.tree.map(lambda leaf: leaf.size, nnx.to_pure_dict(nnx.state(network, nnx.Param)))
    print(f"Network: {name}, {sum(jax.tree.leaves(sizes)):,} parameters")


def bayesian_head(
    network: nnx.Module,
    train: tuple[Tree, Any],
    validation: tuple[Tree, Any],
    *,
    epochs: int,
    learning_rate: float,
    seed: int,
) -> Predictor:
    """Train a network to its MAP, then its temperature, then the posterior over its last layer.

    Parameters
    ----------
    network : flax.nnx.Module
        Gives logits ``(B, C)``; its parameters and statistics become those of the MAP.
    train, validation : (inputs, targets)
        The network and its posterior see the training points alone; the temperature is fitted to
        the validation points.
    epochs : int
        Passes over the training points.
    learning_rate : float
        Of Adam, where its cosine schedule starts.
    seed : int
        Of the order of the batches and of dropout.
    """
    loader = DataLoader.from_array_data(train, batch_size=BATCH, shuffle=True, seed=seed)
    steps = epochs * -(-len(train[1]) // BATCH)
    # A weak prior, as in training without weight decay: this is where a network gets too sure.
    model = ProbClassifier(
        network,
        prior=IsotropicGaussianPrior(log_var=5.0),
        posterior_approximator=MAPPosteriorApproximator(),
        seed=seed,
    )
    status = model.train(
        loader,
        fit_config=FitConfig(
            optimizer=FitOptimizer(
                method=optax.adam(optax.cosine_decay_schedule(learning_rate, steps)),
                n_epochs=epochs,
            ),
            monitor=FitMonitor(metrics=(metric.accuracy,)),
        ),
    )
    right = status["fit_status"]["accuracy"][-1]
    _say(
        f"MAP: {epochs} epochs of Adam; in the last, {right:.1%} of the training points are right."
    )
    model.calibrate(DataLoader.from_array_data(validation), calib_config=quiet_calibration())
    model.posterior.write_to(network)
    posterior = hoarfrost.fit_laplace(network, None, loader, trainable="last_layer")
    posterior.optimize_prior_precision()
    _say(
        f"Bayesian head: the exact posterior over {posterior.num_params:,} parameters of the last "
        f"layer, by {posterior.num_data:,} training points. Its prior precision is the one with "
        f"the largest evidence, {posterior.prior_precision:.3g}: no validation point is asked."
    )
    return functools.partial(_predict, model, posterior)


def _predict(model: ProbClassifier, posterior: hoarfrost.Laplace, inputs: Tree) -> dict[str, Any]:
    state = model.posterior.state.get()
    loader = InputsLoader.from_array_inputs(inputs, batch_size=BATCH)

    def by_outputs(calib_params: Tree | None) -> np.ndarray:
        logits = model.likelihood.get_calibrated_outputs(
            state.params, loader, mutable=state.mutable, calib_params=calib_params
        )
        return np.asarray(jax.nn.softmax(logits, axis=1))

    return {
        MAP: by_outputs(None),
        TEMPERATURE: by_outputs(state.calib_params),
        HEAD: np.exp(posterior.predict(loader, link="probit", log=True)),
    }


def _say(text: str) -> None:
    print(textwrap.fill(text, 92, subsequent_indent="  "), flush=True)
