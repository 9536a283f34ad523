"""Posteriors by their draws behind Fortuna's interface: what all methods but Laplace share."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import optax

from hoarfrost.checks import check_count, check_key, is_choice, shown
from hoarfrost.data import DataLoader
from hoarfrost.devices import Devices, choose_devices
from hoarfrost.errors import InvalidArgumentError, NotFittedError
from hoarfrost.freezing import Partition, Subset
from hoarfrost.memory import memory_errors
from hoarfrost.methods import WeightPosterior
from hoarfrost.methods.epochs import UNWATCHED, Monitoring
from hoarfrost.methods.problem import Problem, gaussian_prior_of, problem_with
from hoarfrost.methods.target import GaussianPrior, WholePrior
from hoarfrost.predictive.weight_samples import WeightSamples, with_own
from hoarfrost.prior import DiagonalGaussianPrior, IsotropicGaussianPrior, Prior
from hoarfrost.prob_model.fit_config import FitConfig
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.loaders import as_data_loader, as_inputs_loader
from hoarfrost.prob_model.posterior.map_fit import (
    Status,
    check_configs,
    early_stopping_of,
    on_processor,
)
from hoarfrost.prob_model.posterior.preliminary import folder_of, preliminary_fit, put_fitted
from hoarfrost.prob_model.posterior.stored import StoredPosterior
from hoarfrost.prob_model.posterior.used_fields import OF_TRAINING, check_start, check_used
from hoarfrost.prob_model.posterior.weight_state import WeightState, state_with
from hoarfrost.prob_model.state import JointState, PosteriorState
from hoarfrost.training.step import clipped


@dataclass(frozen=True, eq=False)
class Run:
    """What a method is given: the problem, and what a `FitConfig` says.

    Attributes
    ----------
    problem : Problem
        The trainable parameters at their start, data, likelihood and prior.
    optimizer : optax.GradientTransformation
        Its gradients clipped, where that is asked for.
    n_epochs : int
        Passes over the data.
    key : jax.Array
        Of all that is random.
    monitoring : Monitoring
        What is watched.
    """

    problem: Problem
    optimizer: optax.GradientTransformation
    n_epochs: int
    key: jax.Array
    monitoring: Monitoring

    @property
    def climbing(self) -> dict[str, Any]:
        """Arguments of a method whose steps are those of an optimiser."""
        return {
            "optimizer": self.optimizer,
            "n_epochs": self.n_epochs,
            "seed": self.key,
            "monitoring": self.monitoring,
        }


class MethodPosterior(StoredPosterior, ABC):
    """A posterior over the trainable parameters, by its draws.

    Attributes
    ----------
    joint : Joint
        Prior and likelihood.
    approximator
        The settings of the method.
    state : StateRepository
        After a fit a `WeightState`: to put it back later is to have that posterior again.
    storage : Storage
        How the state is written to disk, and read.
    """

    name: ClassVar[str]
    # What messages call it.
    said: ClassVar[str]
    needs_start: ClassVar[bool] = False
    # Which fields of monitor and hyperparameters the method uses.
    uses: ClassVar[Sequence[str]] = OF_TRAINING

    def __init__(self, joint: Joint, approximator: Any) -> None:
        super().__init__(joint)
        self.approximator = approximator

    @abstractmethod
    def approximate(self, run: Run) -> WeightPosterior:
        """Fit the posterior."""

    def check(self, config: FitConfig, train: DataLoader) -> None:
        """Raise if the settings cannot be used with a configuration, before any work."""

    def map_is_idle(self, partition: Partition) -> str:
        """Why a MAP before the fit would change nothing, in words; "" where it is of use."""
        return ""

    def prior_of(self, subset: Subset) -> Any:
        """The prior over the trainable parameters."""
        return over_trainable(self.joint.prior, subset)

    def trainable_of(self, subset: Subset) -> Partition:
        """What is trainable, where `freeze_fun` leaves these parameters so."""
        return subset.partition

    def recorded(self, status: Status, found: dict[str, Any]) -> None:
        """Put what a fit recorded into the status."""
        status[self.name] = found

    @property
    def weights(self) -> WeightPosterior:
        """The fitted `hoarfrost.methods.WeightPosterior` over the trainable parameters.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        return self._fitted().weights

    def _fitted(self) -> WeightState:
        state = None if self.state.is_empty else self.state.get()
        if not isinstance(state, WeightState):
            raise NotFittedError(
                f"the posterior by {self.said} is not fitted yet; call "
                "train(train_data_loader=...) first"
            )
        return state

    def fit(
        self,
        train_data_loader: Any,
        val_data_loader: Any = None,
        fit_config: FitConfig | None = None,
        map_fit_config: FitConfig | None = None,
    ) -> Status:
        """Fit the posterior over the trainable parameters, after a MAP where that is asked for.

        Parameters
        ----------
        train_data_loader, val_data_loader : DataLoader
            Training data, for both steps, and data to validate on.
        fit_config : FitConfig, optional
            How to fit: the optimiser (chains have none of their own), epochs (of chains: the most
            steps), `freeze_fun`, checkpoints, monitor, processor. A field that is set and not used
            is named in a warning.
        map_fit_config : FitConfig, optional
            How to train to a MAP before. `fit_config.checkpointer` may say instead where to start
            from, which wins, with a warning.

        Returns
        -------
        dict
            "map", what MAP training recorded (missing where there was none), and under the name of
            the method what its steps recorded: "loss", the mean negative log joint density of each
            epoch, metrics, and the same after "val_". "checkpoint" is the path of what was
            written, if it was, and "start" says what the fit started from, if there was a choice.

        Notes
        -----
        An error or Ctrl-C leaves the state, and so the posterior, as it was; a MAP that was
        trained before it is in ``state.unfinished``, and is the state where there was none.
        """
        check_configs(fit_config, map_fit_config)
        config = FitConfig() if fit_config is None else fit_config
        if self.needs_start:
            check_start(config, map_fit_config, self.said)
        check_used(config, map_fit_config, self.said, self.uses)
        train = as_data_loader(train_data_loader, "train_data_loader")
        self.check(config, train)
        folder_of(config)
        val = (
            None if val_data_loader is None else as_data_loader(val_data_loader, "val_data_loader")
        )
        choose_devices(config.processor.devices)

        def check(subset: Subset) -> bool:
            idle = self.map_is_idle(subset.partition)
            if map_fit_config is not None and idle:
                warnings.warn(
                    f"map_fit_config has no effect on {self.said}, {idle}: no MAP is trained",
                    UserWarning,
                    stacklevel=5,
                )
            return not idle

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
            with on_processor(config.processor) as devices, memory_errors(self.said):
                run = self._run(first.at, first.partition, train, val, config, devices)
                weights = self.approximate(run)
            self.recorded(status, {**weights.status, "features": run.problem.features})
        except BaseException as error:
            if first.trained:
                self.state.keep_unfinished(first.at, "the parameters of the MAP", error)
            raise
        kept = {"step": first.at.step, "progress": first.at.progress}
        put_fitted(
            self.joint, self.state, self.storage, state_with(weights, **kept), config, status
        )
        return status

    def sample(self, rng: jax.Array | int | None = None, inputs_loader: Any = None) -> JointState:
        """One draw of the trainable parameters, the frozen ones beside it.

        `inputs_loader` is accepted for code written for Fortuna: no draw depends on inputs.
        """
        if inputs_loader is not None:
            as_inputs_loader(inputs_loader)
        key = self.joint.random.get() if rng is None else check_key(rng)
        samples, state = self.weight_samples(1, key), self.state.get()
        trainable, own = jax.tree.map(lambda leaf: leaf[0], (samples.trainable, samples.own))
        mutable = with_own(samples.mutable, samples.owned, own) if own else state.mutable
        params = samples.partition.merge(trainable, samples.frozen)
        return JointState(params, mutable, state.calib_params, state.calib_mutable)

    def weight_samples(
        self, n_samples: int, key: jax.Array, link: str | None = None
    ) -> WeightSamples:
        """Draws of the trainable parameters; samples and members come as evenly as may be.

        Outputs are those of the network at each draw, which `link` "nn" says, too.
        """
        if link is not None and not is_choice(link, ("nn",)):
            raise InvalidArgumentError(
                f"link is {shown(link)}, which belongs to a Laplace posterior; leave it out, or "
                f"give 'nn': draws of {self.said} go through the network itself"
            )
        key, n_samples = check_key(key), check_count("n_samples", n_samples, 1)
        return self._fitted().weights.weight_samples(n_samples, key)

    def _run(
        self,
        at: PosteriorState,
        partition: Partition,
        train: DataLoader,
        val: DataLoader | None,
        config: FitConfig,
        devices: Devices,
    ) -> Run:
        joint, monitor = self.joint, config.monitor
        subset = Subset(joint.network, partition, at.params, at.mutable or {}, devices)
        subset = replace(subset, partition=self.trainable_of(subset))
        problem = problem_with(
            subset,
            train,
            likelihood=joint.likelihood.output,
            prior=self.prior_of(subset),
            ignored_label=joint.likelihood.ignored_label,
            cache_features=config.processor.cache_features,  # type: ignore[arg-type]
            progress=bool(monitor.verbose),
        )
        every = monitor.eval_every_n_epochs
        monitoring = UNWATCHED
        if monitor.metrics or (val is not None and every):
            monitoring = Monitoring(
                val_loader=val if every else None,
                metrics=monitor.metrics or (),
                predict=joint.likelihood.predictions,
                training_metrics=not monitor.disable_training_metrics_computation,
                early_stopping=early_stopping_of(monitor, val),
                eval_every_n_epochs=every or 1,
            )
        return Run(
            problem=problem,
            optimizer=clipped(config.optimizer.method, config.hyperparameters.max_grad_norm),
            n_epochs=config.optimizer.n_epochs,
            key=joint.random.training_key(),
            monitoring=monitoring,
        )


def over_trainable(prior: Prior, subset: Subset) -> GaussianPrior | WholePrior:
    """A model's prior as that of the trainable parameters: a Gaussian in its own terms."""
    if not isinstance(prior, IsotropicGaussianPrior | DiagonalGaussianPrior):
        return WholePrior(prior)

    precision, mean = (
        subset.partition.split(tree)[0]
        for tree in (prior.precision_tree(subset.params), prior.mean_tree(subset.params))
    )
    return gaussian_prior_of(precision, mean, subset)
