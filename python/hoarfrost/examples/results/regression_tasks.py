"""Five predictive distributions of a number from one trained network."""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import hoarfrost
from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.examples.classifier import map_config, quiet_calibration
from hoarfrost.examples.results.classifiers import (
    DIAGONAL,
    EVIDENCE,
    MAP,
    TEMPERATURE,
    TEMPERED,
    VALIDATION,
    Points,
    tempered_on,
)
from hoarfrost.examples.results.scores import COVERAGE, Row, Scores, number_scores
from hoarfrost.likelihood import Gaussian
from hoarfrost.prob_model import MAPPosteriorApproximator, ProbRegressor

TEST = "test"
_BATCH = 50
_EPOCHS, _QUICK_EPOCHS = 300, 20
# Epochs without a better validation loss after which training stops.
_PATIENCE = 20
_PRECISIONS = np.logspace(-4, 4, 33)
_ERROR = 1 - COVERAGE


class MeanNet(nn.Module):  # type: ignore[misc]
    """One hidden layer of 50 tanh units."""

    @nn.compact  # type: ignore
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Means, shape ``(B, 1)``."""
        mean: jax.Array = nn.Dense(1, name="head")(nn.tanh(nn.Dense(50, name="hidden")(inputs)))
        return mean


class ConstantNoise(nn.Module):  # type: ignore[misc]
    """The same noise for all inputs, learnt with the rest."""

    @nn.compact  # type: ignore
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Logarithm of the noise variance, shape ``(B, 1)``."""
        log_variance = self.param("log_variance", nn.initializers.zeros, (1,))
        return jnp.broadcast_to(log_variance[None, :], (inputs.shape[0], 1))


def diabetes(seed: int, quick: bool) -> Scores:
    """scikit-learn's diabetes data: 442 patients, ten measurements.

    Parameters
    ----------
    seed : int
        Of the split and the network.
    quick : bool
        Fewer epochs.
    """
    from sklearn.datasets import load_diabetes

    inputs, targets = load_diabetes(return_X_y=True)
    return _scored(inputs, targets, (264, 88), seed, quick)


def friedman(seed: int, quick: bool) -> Scores:
    """Friedman's first problem, ten inputs of which five matter, with a noise of 1.

    Parameters
    ----------
    seed : int
        Of the data, the split and the network.
    quick : bool
        Fewer epochs.
    """
    from sklearn.datasets import make_friedman1

    inputs, targets = make_friedman1(n_samples=1300, noise=1.0, random_state=seed)
    return _scored(inputs, targets, (200, 100), seed, quick)


def _scored(
    inputs: np.ndarray, targets: np.ndarray, sizes: tuple[int, int], seed: int, quick: bool
) -> Scores:
    train, validation, test = _split(inputs, targets, sizes, np.random.default_rng(seed))
    train_loader = DataLoader.from_array_data(train, batch_size=_BATCH, shuffle=True, seed=seed)
    validation_loader = DataLoader.from_array_data(validation)
    model = ProbRegressor(
        MeanNet(),
        ConstantNoise(),
        posterior_approximator=MAPPosteriorApproximator(),
        seed=seed,
    )
    model.train(
        train_loader,
        val_data_loader=validation_loader,
        fit_config=map_config(_QUICK_EPOCHS if quick else _EPOCHS, _PATIENCE),
    )
    model.calibrate(validation_loader, calib_config=quiet_calibration())
    mean_params = model.posterior.state.get().params["model"]
    noise_std = _noise_std(model)
    diagonal, evidence = (
        _laplace(mean_params, train_loader, structure, noise_std) for structure in ("diag", "full")
    )
    by_validation = _tuned_on(validation, evidence, mean_params, train_loader)
    diagonal.optimize_hyperparameters()
    evidence.optimize_hyperparameters()
    found = {
        MAP: _map_scores(model, None, test),
        TEMPERATURE: _map_scores(model, model.posterior.state.get().calib_params, test),
        DIAGONAL: _laplace_scores(diagonal, test),
        EVIDENCE: _laplace_scores(evidence, test),
        VALIDATION: _laplace_scores(by_validation, test),
        TEMPERED: _laplace_scores(tempered_on(validation_loader, by_validation), test),
    }
    return {
        Row(name, TEST): {method: scores[name] for method, scores in found.items()}
        for name in found[MAP]
    }


def _laplace(
    params: object,
    loader: DataLoader,
    structure: str,
    noise_std: float,
    prior_precision: float = 1.0,
) -> hoarfrost.Laplace:
    return hoarfrost.fit_laplace(
        MeanNet(),
        params,
        loader,
        likelihood=Gaussian(noise_std),
        hessian_structure=structure,  # type: ignore[arg-type]
        prior_precision=prior_precision,
        progress=False,
    )


def _tuned_on(
    validation: Points, start: hoarfrost.Laplace, params: object, loader: DataLoader
) -> hoarfrost.Laplace:
    """The full posterior with the prior and noise that predict the validation points best.

    Noise variance and prior variance times `s` together multiply every predictive variance by `s`,
    so that the best `s` for a given ratio of the two is a mean of squares.
    """
    assert isinstance(start.noise_std, float)
    best = (math.inf, 1.0, 1.0)
    for precision in _PRECISIONS:
        found = start.with_prior_precision(float(precision)).predict_regression(validation.inputs)
        scale = float(np.mean((validation.targets - found.mean) ** 2 / found.variance))
        nll = 0.5 * float(np.mean(np.log(scale * found.variance)))
        best = min(best, (nll, float(precision), scale))
    _, precision, scale = best
    noise_std = start.noise_std * math.sqrt(scale)
    return _laplace(params, loader, "full", noise_std, precision / scale)


def _noise_std(model: ProbRegressor) -> float:
    noise = model.posterior.state.get().params["lik_log_var"]["params"]["log_variance"]
    return math.exp(0.5 * float(noise[0]))


def _map_scores(model: ProbRegressor, calib_params: object, test: Points) -> dict[str, float]:
    params, likelihood = model.posterior.state.get().params, model.likelihood
    loader = InputsLoader.from_array_inputs(test.inputs, batch_size=_BATCH)
    levels = (_ERROR / 2, 1 - _ERROR / 2)
    lower, upper = likelihood.quantile(levels, params, loader, calib_params=calib_params)
    data = DataLoader.from_array_data(test, batch_size=_BATCH)
    log_density = likelihood.log_prob(params, data, calib_params=calib_params)
    mean = np.asarray(likelihood.mean(params, loader))
    interval = np.asarray(lower), np.asarray(upper)
    return number_scores(np.asarray(log_density), mean, interval, test.targets)


def _laplace_scores(posterior: hoarfrost.Laplace, test: Points) -> dict[str, float]:
    found = posterior.predict_regression(test.inputs)
    interval = found.credible_interval(_ERROR)
    log_density = posterior.log_prob(DataLoader.from_array_data(test, batch_size=_BATCH))
    return number_scores(log_density, found.mean, interval, test.targets)


def _split(
    inputs: np.ndarray,
    targets: np.ndarray,
    sizes: tuple[int, int],
    generator: np.random.Generator,
) -> Iterator[Points]:
    """Three parts, standardised by the training part."""
    order = generator.permutation(len(inputs))
    parts = np.split(order, np.cumsum(sizes))
    scaled = []
    for values in (inputs, targets[:, None]):
        of_train = values[parts[0]]
        scaled.append(((values - of_train.mean(0)) / of_train.std(0)).astype(np.float32))
    return (Points(*(values[part] for values in scaled)) for part in parts)
