"""The Laplace posterior behind Fortuna's interface."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

import jax

from hoarfrost.checks import check_count, check_key, check_switch, seed_from_key
from hoarfrost.data import DataLoader
from hoarfrost.devices import Devices, choose_devices
from hoarfrost.errors import InvalidArgumentError, NotFittedError
from hoarfrost.freezing import Partition, Subset
from hoarfrost.laplace import Laplace, fit_network
from hoarfrost.memory import memory_errors
from hoarfrost.predictive.weight_samples import WeightSamples
from hoarfrost.prior import IsotropicGaussianPrior, gaussian_prior
from hoarfrost.prob_model.fit_config import FitConfig
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.loaders import as_data_loader, as_inputs_loader
from hoarfrost.prob_model.posterior.base import check_sampling_link
from hoarfrost.prob_model.posterior.laplace.laplace_approximator import LaplacePosteriorApproximator
from hoarfrost.prob_model.posterior.laplace.laplace_state import LaplaceState
from hoarfrost.prob_model.posterior.laplace.prior_tuning import (
    LOG_VARIANCE_BOUNDS,
    ReferencePrior,
    check_tuning,
    tune_by_evidence,
    tune_on_validation_data,
)
from hoarfrost.prob_model.posterior.laplace.saved import BY_LAPLACE
from hoarfrost.prob_model.posterior.map_fit import Status, check_configs, on_processor
from hoarfrost.prob_model.posterior.preliminary import folder_of, preliminary_fit, put_fitted
from hoarfrost.prob_model.posterior.stored import StoredPosterior
from hoarfrost.prob_model.posterior.used_fields import check_start, check_used
from hoarfrost.prob_model.state import JointState, PosteriorState
from hoarfrost.training.layer_alone import check_validation
from hoarfrost.types import Tree

_METHOD = "the Laplace approximation"


class LaplacePosterior(StoredPosterior):
    """A Gaussian posterior over the trainable parameters, the others fixed at the MAP.

    Attributes
    ----------
    joint : Joint
        Prior and likelihood.
    state : StateRepository
        ``state.get().params`` is the full tree, at every leaf what MAP training left. After a fit
        the state is a `LaplaceState`, which holds the posterior too: to put it back later is to
        have that posterior again.
    storage : Storage
        How the state is written to disk, and read.
    """

    storage = BY_LAPLACE

    def __init__(self, joint: Joint, approximator: LaplacePosteriorApproximator) -> None:
        self._prior = gaussian_prior(joint.prior, "a Laplace posterior")
        super().__init__(joint)
        self.approximator = approximator

    @property
    def laplace(self) -> Laplace:
        """The fitted `hoarfrost.Laplace` over the trainable parameters.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        return self._fitted().laplace

    def _fitted(self) -> LaplaceState:
        state = None if self.state.is_empty else self.state.get()
        if not isinstance(state, LaplaceState):
            start = "map_fit_config=FitConfig()"
            if state is not None:
                start = (
                    "fit_config=FitConfig(checkpointer=FitCheckpointer("
                    "start_from_current_state=True))"
                )
            raise NotFittedError(
                "the Laplace posterior is not fitted yet; call "
                f"train(train_data_loader=..., {start}) first"
            )
        return state

    def fit(
        self,
        train_data_loader: Any,
        val_data_loader: Any = None,
        fit_config: FitConfig | None = None,
        map_fit_config: FitConfig | None = None,
    ) -> Status:
        """Train to the MAP, then take the curvature of the trainable parameters there.

        Parameters
        ----------
        train_data_loader : DataLoader
            Training data, for both steps.
        val_data_loader : DataLoader, optional
            Validates MAP training, and then chooses the prior variance where the approximator
            tunes it; without one the evidence of the training data chooses it.
        fit_config : FitConfig, optional
            Of this one `optimizer.freeze_fun` says which parameters the posterior is over,
            `checkpointer` where to start from and what to write to disk,
            `monitor.verbose` whether there is a progress bar, and `processor` where the work is
            done. Laplace has no epochs and no optimiser: `optimizer.n_epochs` and
            `optimizer.method` are not used, and the status says so. Any other field that is set
            is not used either, and a warning says so.
        map_fit_config : FitConfig, optional
            How to train to the MAP; needed unless `fit_config.checkpointer` says where to start
            from, which wins, with a warning.

        Returns
        -------
        dict
            "map", what MAP training recorded (missing where there was none), and "laplace".
            "checkpoint" is the path of what was written, if it was, and "start" says what the fit
            started from, if that was a checkpoint or something else that was given lost.

        Notes
        -----
        An error or Ctrl-C leaves the state, and so the posterior, as it was, and what had been
        reached (after Ctrl-C in MAP training its last whole epoch) in ``state.unfinished``; where
        there was no state, that becomes it. An old posterior is held until the new one is there.
        """
        check_configs(fit_config, map_fit_config)
        config = FitConfig() if fit_config is None else fit_config
        check_start(config, map_fit_config, _METHOD)
        check_used(config, map_fit_config, _METHOD)
        folder_of(config)
        train = as_data_loader(train_data_loader, "train_data_loader")
        val = (
            None if val_data_loader is None else as_data_loader(val_data_loader, "val_data_loader")
        )
        # What cannot be used is found before anything is trained.
        choose_devices(config.processor.devices)

        def check(subset: Subset) -> bool:
            if val is not None and self.approximator.tune_prior_log_variance:
                likelihood = self.joint.likelihood
                check_validation(subset, likelihood.output, val, likelihood.ignored_label)
            return True

        status: Status = {}
        first = preliminary_fit(
            self.joint,
            self.state,
            self.storage,
            train,
            val,
            config,
            map_fit_config,
            status,
            check=check,
        )
        try:
            self._make_room()
            with on_processor(config.processor) as devices:
                laplace, tuning = self._fit_laplace(
                    first.at, first.partition, train, val, bool(config.monitor.verbose), devices
                )
            status["laplace"] = _describe(laplace, tuning)
        except BaseException as error:
            if first.trained:
                self.state.keep_unfinished(first.at, "the parameters of the MAP", error)
            raise
        fitted = LaplaceState(**vars(first.at), partition=first.partition, laplace=laplace)
        put_fitted(self.joint, self.state, self.storage, fitted, config, status)
        return status

    def _make_room(self) -> None:
        """Let an old posterior give its factor up, which it makes again if it is asked."""
        state = None if self.state.is_empty else self.state.get()
        if isinstance(state, LaplaceState):
            store = state.laplace.store
            if store.curvature is not None and store.held is not None:
                store.release()

    def prior_log_variance_tuning(
        self,
        val_data_loader: Any = None,
        n_posterior_samples: int = 10,
        mode: Literal["cv", "marginal_lik"] = "cv",
        min_prior_log_var: float = -3.0,
        max_prior_log_var: float = 3.0,
        grid_size: int = 20,
        distribute: bool = False,
        *,
        link: str | None = None,
    ) -> dict[str, Any]:
        """Choose the prior variance of the fitted posterior again; the MAP stays as it is.

        An output calibration goes: it belonged to the old predictive distribution.

        Parameters
        ----------
        val_data_loader : DataLoader, optional
            Data whose mean predictive log-probability is maximised; needed by "cv".
        n_posterior_samples : int
            Samples of a link that draws any ("mc", "nn"); the closed forms draw none.
        mode : {"cv", "marginal_lik"}
            On validation data, or by the evidence of the training data.
        min_prior_log_var, max_prior_log_var : float
            Logarithms of the prior variance between which it is chosen, any number in between;
            of a prior with a variance for each parameter, what is added to all logarithms.
        grid_size : int
            Of "cv": how many values are tried first, bounds included, at least 2; a golden section
            about the best one follows. The evidence has one maximum and needs no grid.
        distribute : bool
            Accepted for code written for Fortuna: the devices of the fit do the work either way.
        link : str, optional
            Of "cv": as in `hoarfrost.Laplace.log_prob`; by default the posterior's own.

        Returns
        -------
        dict
            What the status says under "laplace": the new prior and how it came out.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InvalidArgumentError
            If arguments do not fit together, or the curvature was not kept.
        """
        check_switch("distribute", distribute)
        bounds = check_tuning(mode, val_data_loader, min_prior_log_var, max_prior_log_var)
        grid_size = check_count("grid_size", grid_size, 2)
        check_count("n_posterior_samples", n_posterior_samples, 1)
        state = self._fitted()
        reference = self._reference(state.partition, state.params)
        laplace, tuning = self._tune_again(
            mode,
            val_data_loader,
            state.laplace,
            reference,
            bounds,
            link,
            n_posterior_samples,
            grid_size,
        )
        # A calibration belongs to the predictive distribution that it was fitted to.
        self.state.put(state.replace(laplace=laplace, calib_params=None, calib_mutable=None))
        return _describe(laplace, tuning)

    def _tune_again(
        self,
        mode: str,
        val_data_loader: Any,
        laplace: Laplace,
        reference: Any,
        bounds: tuple[float, float],
        link: str | None,
        n_posterior_samples: int,
        grid_size: int,
    ) -> tuple[Laplace, dict[str, Any]]:
        if mode == "marginal_lik":
            if link is not None:
                raise InvalidArgumentError(
                    f"link is {link!r}, but mode='marginal_lik' predicts nothing; leave it out"
                )
            return laplace, tune_by_evidence(laplace, reference, bounds)
        val = as_data_loader(val_data_loader, "val_data_loader")
        return tune_on_validation_data(
            laplace,
            reference,
            val,
            bounds,
            link=link,
            n_samples=n_posterior_samples,
            grid_size=grid_size,
        )

    def sample(self, rng: jax.Array | int | None = None, inputs_loader: Any = None) -> JointState:
        """One draw of the trainable parameters, the frozen ones beside it.

        `inputs_loader` is accepted for code written for Fortuna: no draw depends on inputs.
        """
        if inputs_loader is not None:
            as_inputs_loader(inputs_loader)
        key = self.joint.random.get() if rng is None else check_key(rng)
        samples = self.weight_samples(1, key)
        one = jax.tree.map(lambda x: x[0], samples.trainable)
        params = samples.partition.merge(one, samples.frozen)
        state = self.state.get()
        return JointState(params, state.mutable, state.calib_params, state.calib_mutable)

    def weight_samples(
        self, n_samples: int, key: jax.Array, link: str | None = None
    ) -> WeightSamples:
        """Draws of the trainable parameters.

        Outputs are those of the network at each draw with `link` "nn", and those of its
        linearisation about the MAP with "mc". By default "nn" where the network is linear in
        them, as in a last layer, and both are the same; else "mc": the posterior is that of the
        linearised network, and draws through the network itself may be far off.
        """
        check_sampling_link(link)
        key, n_samples = check_key(key), check_count("n_samples", n_samples, 1)
        state = self._fitted()
        if link is None:
            link = "mc" if state.laplace.linearised.head is None else "nn"
        trainable = state.laplace.sample(seed_from_key(key), n_samples)
        center, frozen = state.partition.split(state.params)
        return WeightSamples(
            state.partition,
            trainable,
            frozen,
            state.mutable or {},
            center=center if link == "mc" else None,
            devices=state.laplace.linearised.subset.devices,
        )

    def _fit_laplace(
        self,
        state: PosteriorState,
        partition: Partition,
        train: DataLoader,
        val: DataLoader | None,
        verbose: bool,
        devices: Devices,
    ) -> tuple[Laplace, dict[str, Any]]:
        tunes = bool(self.approximator.tune_prior_log_variance)
        prior, full = self._prior, state.params
        precision = (
            math.exp(-prior.log_var)
            if isinstance(prior, IsotropicGaussianPrior)
            else partition.split(prior.precision_tree(full))[0]
        )
        with memory_errors("the Laplace posterior"):
            laplace = fit_network(
                Subset(self.joint.network, partition, full, state.mutable or {}, devices),
                train,
                likelihood=self.joint.likelihood.output,
                hessian_structure=self.approximator.hessian_structure,
                prior_precision=precision,
                prior_mean=partition.split(prior.mean_tree(full))[0],
                progress=verbose,
                ignored_label=self.joint.likelihood.ignored_label,
            )
        if not tunes:
            return laplace, {"tuned": "none"}
        if laplace.curvature is None:
            warnings.warn(
                "the prior variance was not tuned: there is no memory to keep the curvature beside "
                "its factor; the posterior has the prior that was given. Freeze more parameters, "
                "or use hessian_structure='diag'",
                UserWarning,
                stacklevel=5,
            )
            return laplace, {"tuned": "none"}

        reference = self._reference(partition, full)
        if val is None:
            return laplace, tune_by_evidence(laplace, reference, LOG_VARIANCE_BOUNDS)
        return tune_on_validation_data(laplace, reference, val, LOG_VARIANCE_BOUNDS)

    def _reference(self, partition: Partition, params: Tree) -> ReferencePrior:
        prior = self._prior
        if isinstance(prior, IsotropicGaussianPrior):
            return ReferencePrior(1.0)
        return ReferencePrior(partition.split(prior.precision_tree(params))[0])


def _describe(laplace: Laplace, tuning: dict[str, Any]) -> dict[str, Any]:
    precision = laplace.prior_precision
    described = {
        "hessian_structure": laplace.hessian_structure,
        "num_params": laplace.num_params,
        "num_data": laplace.num_data,
        "prior_precision": precision,
        "log_marginal_likelihood": laplace.log_marginal_likelihood(),
        **tuning,
        "not_used": ("fit_config.optimizer.method", "fit_config.optimizer.n_epochs"),
    }
    if isinstance(precision, float):
        described["prior_log_variance"] = -math.log(precision)
    return described
