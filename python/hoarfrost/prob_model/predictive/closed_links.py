"""A classifier's predictive by a link in closed form, calibrated where the model is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from hoarfrost.calibration import ClassificationTemperatureScaler
from hoarfrost.data.checked import CheckedBatch, data_batches, input_batches
from hoarfrost.data.positions import in_positions
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.laplace import Laplace
from hoarfrost.laplace.linearised import LinearisedNetwork
from hoarfrost.predictive.evaluate import over_outputs
from hoarfrost.predictive.link import Draws, choose_link
from hoarfrost.prob_model.likelihood import ClassificationLikelihood
from hoarfrost.prob_model.likelihood.calibrated import KEY
from hoarfrost.prob_model.loaders import as_inputs_loader
from hoarfrost.prob_model.posterior.base import Posterior
from hoarfrost.prob_model.posterior.laplace import LaplacePosterior


def closed_log_probs(
    posterior: Posterior, likelihood: ClassificationLikelihood, inputs_loader: Any, link: Any
) -> np.ndarray:
    """Log-probabilities of all classes, shape ``(N, C)``.

    A temperature divides logits, and the covariance of logits by its square.

    Raises
    ------
    InvalidArgumentError
        If the posterior is a point mass, or the model is calibrated by something else than a
        temperature.
    """
    loader = as_inputs_loader(inputs_loader)
    laplace, temperature = _known(posterior, likelihood, link)
    batches = input_batches(loader, argument="inputs_loader")
    linearised, batches = laplace.linearised.at(batches)
    found = _log_probs(laplace, linearised, temperature, batches, link)
    return in_positions(found, linearised.positions)


def closed_log_prob(
    posterior: Any, likelihood: ClassificationLikelihood, data_loader: Any, link: Any
) -> np.ndarray:
    """Log-probability of each target, shape ``(N,)``; raises like `closed_log_probs`."""
    # Targets are kept as their inputs go by: a second pass may be in another order.
    targets: list[np.ndarray] = []
    masked = False
    laplace, temperature = _known(posterior, likelihood, link)
    linearised, batches = laplace.linearised.at(data_batches(data_loader, masks=True))

    def kept() -> Iterator[CheckedBatch]:
        nonlocal masked
        for batch in map(linearised.checked, batches):
            masked = batch.mask is not None
            targets.append(batch.targets if batch.mask is None else batch.targets[batch.mask])
            yield batch

    log_p = _log_probs(laplace, linearised, temperature, kept(), link)
    labels = np.concatenate(targets).astype(np.int64)
    chosen: np.ndarray = np.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
    return chosen if masked else in_positions(chosen, linearised.positions)


def _known(
    posterior: Posterior, likelihood: ClassificationLikelihood, link: Any
) -> tuple[Laplace, float]:
    """The fitted posterior and the temperature of its calibration, if there are both."""
    if not isinstance(posterior, LaplacePosterior):
        raise InvalidArgumentError(
            f"link is {link!r}, which needs the covariance of a Laplace posterior; leave it out "
            "for every other posterior"
        )
    laplace, temperature = posterior.laplace, 1.0
    calib_params = posterior.state.get().calib_params
    if calib_params is not None:
        module = None if likelihood.calibrator is None else likelihood.calibrator.module
        if not isinstance(module, ClassificationTemperatureScaler):
            raise InvalidArgumentError(
                f"link is {link!r}, which is known for calibration by a temperature alone, and the "
                f"model has a {type(module).__name__}; give 'mc' or 'nn'"
            )
        temperature = math.exp(float(np.asarray(calib_params[KEY]["params"]["log_temp"])[0]))
    return laplace, temperature


def _log_probs(
    laplace: Laplace,
    linearised: LinearisedNetwork,
    temperature: float,
    batches: Iterator[CheckedBatch],
    link: Any,
) -> np.ndarray:
    """Log-probabilities of all classes, a row for each point that counts."""
    chosen = choose_link("probabilities", linearised.likelihood, link)
    pieces = linearised.gaussian_outputs(laplace.factor, batches, chosen.needs)
    divided = (outputs.divided(temperature) for outputs in pieces)
    return over_outputs(chosen, "probabilities", linearised.likelihood, divided, Draws(0, 1))
