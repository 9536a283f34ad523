"""What all probabilistic models share: how they are put together and trained."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import jax
from flax import linen as nn

from hoarfrost.calibration import OutputCalibrator
from hoarfrost.data import DataLoader
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.freezing import Subset, make_partition
from hoarfrost.prior import Prior
from hoarfrost.prob_model.calib_config import CalibConfig
from hoarfrost.prob_model.calibrate import calibrate, check_calibration
from hoarfrost.prob_model.fit_config import FitConfig
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.loaders import as_data_loader
from hoarfrost.prob_model.posterior.base import Posterior
from hoarfrost.prob_model.posterior.given_params import state_of_params
from hoarfrost.prob_model.posterior.map import MAPPosterior
from hoarfrost.prob_model.posterior.map_fit import check_configs
from hoarfrost.prob_model.posterior.start import first_inputs, has_source
from hoarfrost.prob_model.random import RandomNumberGenerator


class ProbModel:
    """A network, a prior and a likelihood, with a posterior over the parameters.

    Attributes
    ----------
    joint : Joint
        Prior and likelihood.
    posterior : Posterior
        Of the kind that the approximator stands for:
        ``posterior.sample()``, ``posterior.state.get().params``, ``posterior.laplace``.
    rng : RandomNumberGenerator
        Where methods that are given no `rng` draw their keys.
    """

    def __init__(
        self,
        joint: Joint,
        posterior: Posterior,
    ) -> None:
        self.joint = joint
        self.posterior: Any = posterior
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
            Targets may be pairs ``(targets, mask)``, in all of these loaders.
            Or `hoarfrost.features` of them, where `freeze_fun` leaves that layer trainable; then
            `val_data_loader` holds features, too.
        val_data_loader : DataLoader, optional
            Validates MAP training and calibration, and chooses Laplace's prior variance.
        calib_data_loader : DataLoader, optional
            What `calibrate` is then called with. Without it the model is not calibrated, whatever
            the state that it started from was; nor, with a warning, is one that was made with
            ``output_calibrator=None``.
        fit_config : FitConfig, optional
            How to fit the posterior; ``posterior.fit`` says which fields it uses.
        calib_config : CalibConfig, optional
            How to calibrate.
        map_fit_config : FitConfig, optional
            How to train to the MAP first, for a posterior that starts from it; a MAP posterior has
            no use for it and warns.

        Returns
        -------
        dict
            ``{"fit_status": ..., "calib_status": ...}``. Of MAP the fit status is
            ``{"loss": (n_epochs,), ...}``, with a sentence under "features" where there was only a
            last layer to train (`FitProcessor.cache_features`); of Laplace
            ``{"map": that, "laplace": {...}}``. The second is what `calibrate` returned, or None.
            Where the disk plays a part, "checkpoint" is the path of what was written, and "start"
            says what the fit started from.

        Raises
        ------
        InvalidArgumentError, SelectionError, ShapeError, NonFiniteError, DataError
            If an argument, the model or the data cannot be used. Arguments, the first batch of
            training data, validation data in arrays and all calibration data are checked before the
            work starts.
        CheckpointError
            If a checkpoint cannot be read or written.

        Notes
        -----
        An error or Ctrl-C leaves a model that was trained before as it was: its posterior predicts
        the same bits. What had been reached is in ``posterior.state.unfinished``, and in a model
        that had no state it is the state. After Ctrl-C in MAP training that is the last whole
        epoch. The error (also a `KeyboardInterrupt`) says so in a note.
        """
        check_configs(fit_config, map_fit_config)
        train = as_data_loader(train_data_loader, "train_data_loader")
        val = (
            None if val_data_loader is None else as_data_loader(val_data_loader, "val_data_loader")
        )
        calib = self._calibration_data(calib_data_loader, calib_config)
        if calib is not None:
            own = fit_config or FitConfig()
            config = own if map_fit_config is None or has_source(own) else map_fit_config
            self._check_calibration(train, calib, val, calib_config, config)
        before = None if self.posterior.state.is_empty else self.posterior.state.kept()
        status = self.posterior.fit(
            train_data_loader=train,
            val_data_loader=val,
            fit_config=fit_config,
            map_fit_config=map_fit_config,
        )
        calib_status = None
        if calib is not None:
            try:
                calib_status = self.calibrate(calib, val, calib_config)
            except BaseException as error:
                # The old posterior stays until the new one is whole; a first one is kept.
                fitted = self.posterior.state.get()
                if before is not None:
                    self.posterior.state.put_back(before)
                what = "the parameters that were fitted"
                self.posterior.state.keep_unfinished(fitted, what, error)
                raise
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
            "loss" and metrics, arrays of shape ``(n_epochs,)``, and the same after "val_". Where
            the disk plays a part, "checkpoint" is the path of what was written, and "start" says
            what the calibration started from.

        Raises
        ------
        CheckpointError
            If a checkpoint cannot be read or written.
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
            likelihood,
            calibrator,
            calib,
            val,
            CalibConfig() if calib_config is None else calib_config,
            self.rng.get(),
        )

    def save_state(self, checkpoint_path: str | Path, keep_top_n_checkpoints: int = 1) -> None:
        """Write the state of the posterior to disk; ``posterior.save_state`` says how."""
        self.posterior.save_state(checkpoint_path, keep_top_n_checkpoints)

    def load_state(self, checkpoint_path: str | Path) -> None:
        """Take the state of the posterior from the disk; ``posterior.load_state`` says how."""
        self.posterior.load_state(checkpoint_path)

    def load_params(self, tree: Any, mutable: Any = None) -> None:
        """Make parameters that come from anywhere the current state, for a fit or for predictions.

        A MAP model can predict with them; any model can start from them, by
        ``FitCheckpointer(start_from_current_state=True)``.

        Parameters
        ----------
        tree : tree of arrays
            Of a Linen module its variables (``{"params": ..., "batch_stats": ...}``) or its
            "params" alone; of an NNX module a State or a nested dict of its parameters and
            statistics; or either under the names of the networks, ``{"model": ...}``, as
            ``posterior.state.get().params`` has them, which a model with two networks needs.
        mutable : tree of arrays, optional
            Other collections, where `tree` does not hold them.

        Raises
        ------
        InvalidArgumentError
            If either has none of these forms, or a leaf is no array of real numbers.
        ShapeError
            If they are not those of the model. Those of a Linen module are compared with the state
            that there is, or else when training starts from them.
        NonFiniteError
            If a parameter is NaN or infinite.
        """
        current = None if self.posterior.state.is_empty else self.posterior.state.get()
        self.posterior.state.put(state_of_params(self.joint, tree, mutable, current))

    def _calibration_data(self, loader: Any, config: Any) -> DataLoader | None:
        """What `train` is to calibrate on, if it is to; else warn of what has no effect."""
        what = None
        if loader is None and config is not None:
            what = "calib_config has no effect without calib_data_loader"
        if loader is not None and self.joint.likelihood.calibrator is None:
            what = (
                "calib_data_loader has no effect on a model that was made with "
                "output_calibrator=None"
            )
        if what is not None:
            warnings.warn(f"{what}: nothing is calibrated", UserWarning, stacklevel=3)
            return None
        return None if loader is None else as_data_loader(loader, "calib_data_loader")

    def _check_calibration(
        self,
        train: DataLoader,
        calib: DataLoader,
        val: DataLoader | None,
        config: Any,
        fit_config: FitConfig,
    ) -> None:
        """Find what calibration cannot use, before anything is trained; runs no network."""
        calibrator = self._checked_calibrator(config)
        inputs = first_inputs(train)
        checkpointer = fit_config.checkpointer
        restores = checkpointer.restore_checkpoint_path is not None
        starts_anew = restores or not checkpointer.start_from_current_state
        start = (
            jax.eval_shape(lambda: vars(self.joint.init(inputs)))
            if starts_anew
            else vars(self.posterior.state.get())
        )
        params = start["params"]
        subset = Subset(
            self.joint.network, make_partition(params, None), params, start["mutable"] or {}
        )
        config = CalibConfig() if config is None else config
        draws = config.processor.n_posterior_samples
        check_calibration(
            subset,
            self.joint.likelihood,
            calibrator,
            calib,
            val,
            config,
            1 if isinstance(self.posterior, MAPPosterior) else draws,
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
