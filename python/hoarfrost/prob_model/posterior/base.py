"""What every posterior of the front can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import jax

from hoarfrost.checks import is_choice
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.predictive.weight_samples import WeightSamples
from hoarfrost.prob_model.fit_config import FitConfig
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.posterior.map_fit import Status
from hoarfrost.prob_model.posterior.saved import Storage
from hoarfrost.prob_model.state import JointState, StateRepository


class Posterior(Protocol):
    """An approximation of the posterior over the parameters of a model."""

    state: StateRepository
    storage: Storage
    joint: Joint

    def fit(
        self,
        train_data_loader: Any,
        val_data_loader: Any = None,
        fit_config: FitConfig | None = None,
        map_fit_config: FitConfig | None = None,
    ) -> Status:
        """Fit, keep the state, and return what was recorded."""

    def save_state(self, checkpoint_path: str | Path, keep_top_n_checkpoints: int = 1) -> None:
        """Write the state into a folder, as a checkpoint of its own."""

    def load_state(self, checkpoint_path: str | Path) -> None:
        """Make the state of a checkpoint the current one."""

    def sample(self, rng: jax.Array | int | None = None, inputs_loader: Any = None) -> JointState:
        """One draw of all parameters."""

    def weight_samples(
        self, n_samples: int, key: jax.Array, link: str | None = None
    ) -> WeightSamples:
        """Draws for a predictive distribution, and how outputs follow from them."""


def check_sampling_link(link: Any) -> None:
    """Raise `InvalidArgumentError` unless `link` is None or one that draws samples."""
    if link is not None and not is_choice(link, ("mc", "nn")):
        raise InvalidArgumentError(
            f"link is {link!r}; give 'mc' (samples of the linearised network) or 'nn' (samples "
            "through the network itself) here"
        )
