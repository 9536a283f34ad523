"""The simplest posterior: a point mass at the MAP."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import jax

from hoarfrost.checks import check_count, check_key
from hoarfrost.devices import ANYWHERE
from hoarfrost.predictive.weight_samples import WeightSamples, point_mass
from hoarfrost.prob_model.fit_config import FitConfig
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.loaders import as_data_loader, as_inputs_loader
from hoarfrost.prob_model.posterior.base import check_sampling_link
from hoarfrost.prob_model.posterior.map_fit import (
    Status,
    check_configs,
    on_processor,
    run_map,
)
from hoarfrost.prob_model.posterior.saved import (
    BY_MAP,
    keep_on_disk,
)
from hoarfrost.prob_model.posterior.start import start_of
from hoarfrost.prob_model.posterior.stored import StoredPosterior
from hoarfrost.prob_model.state import JointState


class MAPPosterior(StoredPosterior):
    """A point mass at the maximum a posteriori.

    Attributes
    ----------
    joint : Joint
        Prior and likelihood.
    state : StateRepository
        ``state.get().params`` is the MAP.
    storage : Storage
        How the state is written to disk, and read.
    """

    storage = BY_MAP

    def __init__(self, joint: Joint) -> None:
        super().__init__(joint)
        self._devices = ANYWHERE

    def fit(
        self,
        train_data_loader: Any,
        val_data_loader: Any = None,
        fit_config: FitConfig | None = None,
        map_fit_config: FitConfig | None = None,
    ) -> Status:
        """Train to the MAP.

        Parameters
        ----------
        train_data_loader, val_data_loader : DataLoader
            Training data, and data to validate on.
        fit_config : FitConfig, optional
            How to train; all of its fields are used.
        map_fit_config : FitConfig, optional
            Belongs to the posteriors that start from a MAP: a warning says that it has no effect
            on this one.

        Returns
        -------
        dict
            "loss" and metrics, arrays of shape ``(n_epochs,)``, and the same after "val_"; of a run
            that goes on from a checkpoint with the epochs before it. Where only a last layer was
            trained, "features" says whether the others ran once. "checkpoint" is the path of what
            was written, if it was, and "start" says what was restored.

        Notes
        -----
        An error or Ctrl-C leaves the state as it was, and what had been reached (after Ctrl-C the
        last whole epoch) in ``state.unfinished``; where there was no state, that becomes it.
        """
        check_configs(fit_config, map_fit_config)
        if map_fit_config is not None:
            warnings.warn(
                "map_fit_config has no effect on a MAP posterior, which trains by fit_config; give "
                "it as fit_config",
                UserWarning,
                stacklevel=3,
            )
        train = as_data_loader(train_data_loader, "train_data_loader")
        val = (
            None if val_data_loader is None else as_data_loader(val_data_loader, "val_data_loader")
        )
        config = FitConfig() if fit_config is None else fit_config
        with on_processor(config.processor) as devices:
            methods = tuple(self.storage.reads)
            start = start_of(self.joint, self.state, config, train, devices, methods, resumes=True)
            reached, status = run_map(self.joint, self.state, start, train, val, config, devices)
        self.state.put(reached)
        self._devices = devices
        if config.checkpointer.dump_state:
            keep_on_disk(self.state, self.joint, status["checkpoint"], self.storage)
        return status

    def sample(self, rng: jax.Array | int | None = None, inputs_loader: Any = None) -> JointState:
        """The MAP, whatever `rng` is: a point mass has one value.

        `inputs_loader` is accepted for code written for Fortuna: no draw depends on inputs.
        """
        if rng is not None:
            check_key(rng)
        if inputs_loader is not None:
            as_inputs_loader(inputs_loader)
        state = self.state.get()
        return JointState(
            params=state.params,
            mutable=state.mutable,
            calib_params=state.calib_params,
            calib_mutable=state.calib_mutable,
        )

    def weight_samples(
        self, n_samples: int, key: jax.Array, link: str | None = None
    ) -> WeightSamples:
        """The MAP as the only sample: all others would equal it, under either `link`."""
        check_sampling_link(link)
        check_key(key)
        check_count("n_samples", n_samples, 1)
        state = self.state.get()
        return replace(point_mass(state.params, state.mutable or {}), devices=self._devices)
