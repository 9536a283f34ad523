"""The Laplace posterior behind Fortuna's interface."""

from __future__ import annotations

import math
import warnings
from typing import Any

import jax
import numpy as np

from hoarfrost.data import DataLoader
from hoarfrost.errors import NotFittedError
from hoarfrost.freezing import Partition
from hoarfrost.laplace import Laplace, fit_network
from hoarfrost.prior import IsotropicGaussianPrior
from hoarfrost.prob_model.approximator import LaplacePosteriorApproximator
from hoarfrost.prob_model.fit_config import FitConfig
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.laplace_config import check_laplace_config, check_start
from hoarfrost.prob_model.loaders import as_data_loader
from hoarfrost.prob_model.map_fit import Status, on_processor, partition_of, run_map, start_of
from hoarfrost.prob_model.random import check_key, seed_from_key
from hoarfrost.prob_model.state import JointState, StateRepository
from hoarfrost.training.bounded_search import BoundedMaximum, bounded_maximum
from hoarfrost.training.ensemble import WeightSamples

Tree = Any

# Logarithms of the prior variance between which it is tuned.
LOG_VARIANCE_BOUNDS = (-10.0, 10.0)


class LaplacePosterior:
    """A Gaussian posterior over the trainable parameters, the others fixed at the MAP.

    Attributes
    ----------
    joint : Joint
        Prior and likelihood.
    state : StateRepository
        ``state.get().params`` is the full tree, at every leaf what MAP training left.
    """

    def __init__(self, joint: Joint, approximator: LaplacePosteriorApproximator) -> None:
        self.joint = joint
        self.approximator = approximator
        self.state = StateRepository()
        self._partition: Partition | None = None
        self._laplace: Laplace | None = None

    @property
    def laplace(self) -> Laplace:
        """The fitted `hoarfrost.Laplace` over the trainable parameters.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        if self._laplace is None:
            raise NotFittedError(
                "the Laplace posterior is not fitted yet; call "
                "train(train_data_loader=..., map_fit_config=FitConfig()) first"
            )
        return self._laplace

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
            `checkpointer.start_from_current_state` whether to start from the state that there is,
            `monitor.verbose` whether there is a progress bar, and `processor` where the work is
            done. Laplace has no epochs and no optimiser: `optimizer.n_epochs` and
            `optimizer.method` are not used, and the status says so. Any other field that is set
            is not used either, and a warning says so.
        map_fit_config : FitConfig, optional
            How to train to the MAP; needed unless `start_from_current_state` is set.

        Returns
        -------
        dict
            "map", what MAP training recorded (missing where there was none), and "laplace".
        """
        config = FitConfig() if fit_config is None else fit_config
        check_start(config, map_fit_config)
        check_laplace_config(config)
        train = as_data_loader(train_data_loader, "train_data_loader")
        val = (
            None if val_data_loader is None else as_data_loader(val_data_loader, "val_data_loader")
        )
        with on_processor((map_fit_config or config).processor):
            start = start_of(self.joint, self.state, map_fit_config or config, train)
            # A selection that cannot be used is found before anything is trained.
            partition = partition_of(start, config)
            status: Status = {}
            if map_fit_config is not None:
                status["map"] = run_map(self.joint, self.state, start, train, val, map_fit_config)
        with on_processor(config.processor):
            laplace, tuning = self._fit_laplace(partition, train, val, bool(config.monitor.verbose))
        self._partition, self._laplace = partition, laplace
        status["laplace"] = _describe(laplace, tuning)
        return status

    def sample(self, rng: jax.Array | None = None) -> JointState:
        """One draw of the trainable parameters, the frozen ones beside it."""
        key = self.joint.random.get() if rng is None else check_key(rng)
        samples = self.weight_samples(1, key)
        one = jax.tree.map(lambda x: x[0], samples.trainable)
        params = samples.partition.merge(one, samples.frozen)
        return JointState(params=params, mutable=self.state.get().mutable)

    def weight_samples(self, n_samples: int, key: jax.Array) -> WeightSamples:
        """Draws of the trainable parameters."""
        trainable = self.laplace.sample(seed_from_key(key), n_samples)
        assert self._partition is not None  # set together with the posterior above
        state = self.state.get()
        _, frozen = self._partition.split(state.params)
        return WeightSamples(self._partition, trainable, frozen, state.mutable or {})

    def _fit_laplace(
        self, partition: Partition, train: DataLoader, val: DataLoader | None, verbose: bool
    ) -> tuple[Laplace, dict[str, Any]]:
        state, tunes = self.state.get(), bool(self.approximator.tune_prior_log_variance)
        prior, full = self.joint.prior, state.params
        isotropic = isinstance(prior, IsotropicGaussianPrior)
        given = (
            math.exp(-prior.log_var)
            if isinstance(prior, IsotropicGaussianPrior)
            else partition.split(prior.precision_tree(full))[0]
        )
        laplace = fit_network(
            self.joint.network,
            full,
            state.mutable or {},
            partition,
            train,
            likelihood=self.joint.likelihood.output,
            hessian_structure=self.approximator.hessian_structure,
            prior_precision=given,
            progress=verbose,
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

        def at(log_variance: float) -> Any:
            # One variance for all, or a common factor on the variances of each.
            scale = math.exp(-log_variance)
            return scale if isotropic else jax.tree.map(lambda t: scale * t, given)

        if val is None:
            found = bounded_maximum(
                lambda v: laplace.log_marginal_likelihood(at(v)), *LOG_VARIANCE_BOUNDS
            )
            method = "evidence"
        else:
            inputs, targets = val.to_inputs_loader(), np.asarray(val.to_array_targets())
            found = bounded_maximum(
                lambda v: _log_predictive(laplace.with_prior_precision(at(v)), inputs, targets),
                *LOG_VARIANCE_BOUNDS,
            )
            method = "validation"
        laplace = laplace.with_prior_precision(at(found.argument))
        return laplace, {"tuned": method, **_describe_tuning(found, isotropic)}


def _log_predictive(laplace: Laplace, inputs: Any, targets: np.ndarray) -> float:
    """Mean log-probability of the targets by the posterior's own probit link."""
    probabilities = laplace.predict(inputs, link="probit").astype(np.float64)
    chosen = np.take_along_axis(probabilities, targets.astype(np.int64)[:, None], axis=1)
    return float(np.mean(np.log(np.maximum(chosen, np.finfo(np.float64).tiny))))


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


def _describe_tuning(found: BoundedMaximum, isotropic: bool) -> dict[str, Any]:
    tuning = {
        "objective": found.value,
        "bounds": LOG_VARIANCE_BOUNDS,
        "at_bound": found.at_edge,
        "evaluations": found.evaluations,
    }
    if not isotropic:
        # What was added to the logarithm of each parameter's prior variance.
        tuning["prior_log_variance_shift"] = found.argument
    return {"tuning": tuning}
