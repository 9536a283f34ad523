"""What all probabilistic models share: how they are put together and trained."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

from flax import linen as nn

from hoarfrost.calibration import OutputCalibrator
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.prior import Prior
from hoarfrost.prob_model.calib_config import CalibConfig
from hoarfrost.prob_model.calibrate import calibrate
from hoarfrost.prob_model.fit_config import FitConfig
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.loaders import as_data_loader
from hoarfrost.prob_model.posterior.registry import make_posterior
from hoarfrost.prob_model.random import RandomNumberGenerator


class ProbModel:
    """A network, a prior and a likelihood, with a posterior over the parameters.

    Attributes
    ----------
    joint : Joint
        Prior and likelihood.
    posterior : LaplacePosterior or MAPPosterior
        ``posterior.sample()``, ``posterior.state.get().params``, ``posterior.laplace``.
    rng : RandomNumberGenerator
        Where methods that are given no `rng` draw their keys.
    """

    def __init__(
        self,
        joint: Joint,
        posterior_approximator: Any,
    ) -> None:
        self.joint = joint
        self.posterior: Any = make_posterior(joint, posterior_approximator)
        self.rng: RandomNumberGenerator = joint.random

    @property
    def prior(self) -> Prior:
        """The prior over all parameters."""
        return self.joint.prior

    @property
    def output_calibrator(self) -> nn.Module | None:
        """What `calibrate` fits; None where the model was made without one."""
        calibrator = self.joint.likelihood.calibrator
        return None if calibrator is None else calibrator.module

    @property
    def likelihood(self) -> Any:
        """The likelihood of the targets at given parameters."""
        return self.joint.likelihood

    def train(
        self,
        train_data_loader: Any,
        val_data_loader: Any = None,
        calib_data_loader: Any = None,
        fit_config: FitConfig | None = None,
        calib_config: CalibConfig | None = None,
        *,
        map_fit_config: FitConfig | None = None,
    ) -> dict[str, Any]:
        """Fit the posterior, and then calibrate its outputs where there are data for it.

        Parameters
        ----------
        train_data_loader : DataLoader
            Training data; any iterable of (inputs, targets) that can be gone over again will do.
        val_data_loader : DataLoader, optional
            Validates MAP training and calibration, and chooses Laplace's prior variance.
        calib_data_loader : DataLoader, optional
            What `calibrate` is then called with. Without it the model is not calibrated, whatever
            the state that it started from was.
        fit_config : FitConfig, optional
            How to fit the posterior; ``posterior.fit`` says which fields it uses.
        calib_config : CalibConfig, optional
            How to calibrate.
        map_fit_config : FitConfig, optional
            How to train to the MAP first, for a posterior that starts from it.

        Returns
        -------
        dict
            ``{"fit_status": ..., "calib_status": ...}``. Of MAP the fit status is
            ``{"loss": (n_epochs,), ...}``, of Laplace ``{"map": that, "laplace": {...}}``. The
            second is what `calibrate` returned, or None.

        Raises
        ------
        InvalidArgumentError, SelectionError, ShapeError, NonFiniteError, DataError
            If an argument, the model or the data cannot be used; arguments and the first batch
            are checked before the work starts.
        """
        if calib_data_loader is not None:
            self._checked_calibrator(calib_config)
            calib_data_loader = as_data_loader(calib_data_loader, "calib_data_loader")
        elif calib_config is not None:
            warnings.warn(
                "calib_config has no effect without calib_data_loader: nothing is calibrated",
                UserWarning,
                stacklevel=2,
            )
        for name, config in (("fit_config", fit_config), ("map_fit_config", map_fit_config)):
            if config is not None and not isinstance(config, FitConfig):
                raise InvalidArgumentError(
                    f"{name} is a {type(config).__name__}; give a hoarfrost.prob_model.FitConfig"
                )
        status = self.posterior.fit(
            train_data_loader=train_data_loader,
            val_data_loader=val_data_loader,
            fit_config=fit_config,
            map_fit_config=map_fit_config,
        )
        # A calibration belongs to the predictive distribution that it was fitted to.
        state = self.posterior.state
        state.put(dataclasses.replace(state.get(), calib_params=None, calib_mutable=None))
        calib_status = None
        if calib_data_loader is not None:
            calib_status = self.calibrate(calib_data_loader, val_data_loader, calib_config)
        return {"fit_status": status, "calib_status": calib_status}

    def calibrate(
        self,
        calib_data_loader: Any,
        val_data_loader: Any = None,
        calib_config: CalibConfig | None = None,
    ) -> dict[str, Any]:
        """Fit the output calibrator to the predictive of the fitted posterior.

        The calibrator starts anew at every call. The mean negative log-probability of the targets
        is minimised, under the mixture of weight samples that are drawn once (their number is
        ``calib_config.processor.n_posterior_samples``). Every predictive uses the result, which
        is ``posterior.state.get().calib_params``.

        Parameters
        ----------
        calib_data_loader : DataLoader
            Data that training did not see.
        val_data_loader : DataLoader, optional
            Validates the calibration, for example for early stopping.
        calib_config : CalibConfig, optional
            How to calibrate.

        Returns
        -------
        dict
            "loss" and metrics, arrays of shape ``(n_epochs,)``, and the same after "val_".

        Raises
        ------
        NotFittedError
            If the model is not trained.
        InvalidArgumentError
            If an argument cannot be used, or the model was made with ``output_calibrator=None``.
        """
        calibrator = self._checked_calibrator(calib_config)
        self.posterior.state.get()
        calib = as_data_loader(calib_data_loader, "calib_data_loader")
        val = (
            None if val_data_loader is None else as_data_loader(val_data_loader, "val_data_loader")
        )
        likelihood = self.joint.likelihood
        return calibrate(
            self.posterior,
            likelihood.network,
            likelihood.output,
            calibrator,
            likelihood.calibration_statistics,
            calib,
            val,
            CalibConfig() if calib_config is None else calib_config,
            self.rng.get(),
        )

    def _checked_calibrator(self, config: Any) -> OutputCalibrator:
        """What is fitted to calibration data, which were given together with `config`."""
        calibrator: OutputCalibrator | None = self.joint.likelihood.calibrator
        if calibrator is None:
            raise InvalidArgumentError(
                "calib_data_loader was given, but the model was made with output_calibrator=None; "
                "give the model an output_calibrator, or leave the data out"
            )
        if config is not None and not isinstance(config, CalibConfig):
            raise InvalidArgumentError(
                f"calib_config is a {type(config).__name__}; give a "
                "hoarfrost.prob_model.CalibConfig"
            )
        return calibrator
