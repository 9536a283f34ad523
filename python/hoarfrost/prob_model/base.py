"""What all probabilistic models share: how they are put together and trained."""

from __future__ import annotations

from typing import Any

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.prior import GaussianPrior
from hoarfrost.prob_model.approximator import (
    LaplacePosteriorApproximator,
    PosteriorApproximator,
    check_approximator,
)
from hoarfrost.prob_model.fit_config import FitConfig
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.laplace_posterior import LaplacePosterior
from hoarfrost.prob_model.posterior import MAPPosterior
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

    def __init__(self, joint: Joint, posterior_approximator: PosteriorApproximator) -> None:
        self.joint = joint
        self.posterior = _make_posterior(joint, posterior_approximator)
        self.rng: RandomNumberGenerator = joint.random

    @property
    def prior(self) -> GaussianPrior:
        """The prior over all parameters."""
        return self.joint.prior

    @property
    def likelihood(self) -> Any:
        """The likelihood of the targets at given parameters."""
        return self.joint.likelihood

    def train(
        self,
        train_data_loader: Any,
        val_data_loader: Any = None,
        calib_data_loader: None = None,
        fit_config: FitConfig | None = None,
        calib_config: None = None,
        *,
        map_fit_config: FitConfig | None = None,
    ) -> dict[str, Any]:
        """Fit the posterior.

        Parameters
        ----------
        train_data_loader : DataLoader
            Training data; any iterable of (inputs, targets) that can be gone over again will do.
        val_data_loader : DataLoader, optional
            Validates MAP training, and chooses Laplace's prior variance.
        calib_data_loader, calib_config : None
            Output calibration is not available in this version; anything but None is an error.
        fit_config : FitConfig, optional
            How to fit the posterior; ``posterior.fit`` says which fields it uses.
        map_fit_config : FitConfig, optional
            How to train to the MAP first, for a posterior that starts from it.

        Returns
        -------
        dict
            ``{"fit_status": ..., "calib_status": None}``. Of MAP the fit status is
            ``{"loss": (n_epochs,), ...}``, of Laplace ``{"map": that, "laplace": {...}}``.

        Raises
        ------
        InvalidArgumentError, SelectionError, ShapeError, NonFiniteError, DataError
            If an argument, the model or the data cannot be used; arguments and the first batch
            are checked before the work starts.
        """
        for name, value in (
            ("calib_data_loader", calib_data_loader),
            ("calib_config", calib_config),
        ):
            if value is not None:
                raise InvalidArgumentError(
                    f"{name} was given, but output calibration is not available in this version; "
                    "leave it out"
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
        return {"fit_status": status, "calib_status": None}


def _make_posterior(joint: Joint, approximator: PosteriorApproximator) -> Any:
    check_approximator(approximator)
    if isinstance(approximator, LaplacePosteriorApproximator):
        return LaplacePosterior(joint, approximator)
    return MAPPosterior(joint)
