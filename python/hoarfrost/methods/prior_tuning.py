"""Priors learnt in training: set every few epochs where the evidence is largest.

Between epochs the parameters stand still, so the curvature there gives Laplace's evidence as a
function of prior precisions and noise, whose maximum `hoarfrost.laplace` finds. Training goes on
under them: each half raises the same number, which of a linear model with Gaussian noise is the
evidence itself at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import jax
import numpy as np

from hoarfrost.checks import check_count, check_switch, is_choice, shown
from hoarfrost.data.checked import data_batches
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.laplace import Laplace, fit_network
from hoarfrost.laplace.linearise import linearise
from hoarfrost.laplace.structure.registry import NAMES
from hoarfrost.likelihood import Gaussian
from hoarfrost.methods.ascent import Climber
from hoarfrost.methods.posterior import WeightPosterior
from hoarfrost.methods.problem import Problem
from hoarfrost.methods.target import GaussianPrior
from hoarfrost.predictive.weight_samples import with_own
from hoarfrost.prior import resolve_prior_precision
from hoarfrost.types import Array, Tree, join, path_of

# Which parameters share a precision; one for each would be P numbers at every stop.
_STRUCTURES = ("scalar", "layerwise", "weights_biases")


@dataclass(frozen=True)
class PriorTuning:
    """When the prior is set, and by what.

    Attributes
    ----------
    structure : {"layerwise", "scalar", "weights_biases"}
        Which parameters share a prior precision.
    hessian_structure : {"kron", "diag", "full"}
        Of the curvature of the trainable parameters.
    every, burn_in : int
        The prior is set after `burn_in` epochs and after each `every` epochs more, but not after
        the last one: the parameters are trained under the prior that is given back.
    tune_noise : bool
        Whether the noise of a Gaussian likelihood is set, too.
    """

    structure: str = "layerwise"
    hessian_structure: str = "kron"
    every: int = 10
    burn_in: int = 10
    tune_noise: bool = True

    def __post_init__(self) -> None:
        if not is_choice(self.structure, _STRUCTURES):
            raise InvalidArgumentError(
                f"structure is {shown(self.structure)}, which parameters share a prior precision; "
                f"give one of {', '.join(map(repr, _STRUCTURES))} (of the curvature it is "
                "hessian_structure)"
            )
        if not is_choice(self.hessian_structure, NAMES):
            raise InvalidArgumentError(
                f"hessian_structure is {shown(self.hessian_structure)}; give one of "
                f"{', '.join(map(repr, NAMES))}"
            )
        for name in ("every", "burn_in"):
            object.__setattr__(self, name, check_count(name, getattr(self, name), 1))
        check_switch("tune_noise", self.tune_noise)

    def epochs(self, n_epochs: int) -> range:
        """After how many epochs the prior is set.

        Raises
        ------
        InvalidArgumentError
            If that is after none.
        """
        if self.burn_in >= n_epochs:
            raise InvalidArgumentError(
                f"burn_in is {self.burn_in}, and n_epochs {n_epochs}: the prior would never be "
                "set; give a smaller burn_in, or more epochs"
            )
        return range(self.burn_in, n_epochs, self.every)


def prior_tuning_of(tune_prior: Any, n_epochs: int, **settings: Any) -> PriorTuning | None:
    """The arguments of `hoarfrost.methods.fit_map` that are about the prior; None: it stays.

    Raises
    ------
    InvalidArgumentError
        If one cannot be used, or would have no effect.
    """
    tuning = PriorTuning(**settings)
    if tune_prior is None:
        defaults = {one.name: one.default for one in fields(PriorTuning)}
        idle = [name for name in settings if getattr(tuning, name) != defaults[name]]
        if idle:
            raise InvalidArgumentError(
                f"{', '.join(idle)} would have no effect, since tune_prior is None; give "
                "tune_prior='evidence', or leave it out"
            )
        return None
    if not is_choice(tune_prior, ("evidence",)):
        raise InvalidArgumentError(f"tune_prior is {shown(tune_prior)}; give 'evidence' or None")
    tuning.epochs(n_epochs)
    return tuning


def tunable(problem: Problem, prior_precision: Any, tuning: PriorTuning) -> Problem:
    """The problem with one number of the prior a leaf, whose posterior is known to fit.

    Raises
    ------
    InvalidArgumentError
        If the prior precision that training begins with is an array.
    StructureError
        If the curvature cannot have the structure.
    MemoryLimitError
        If a posterior of it does not fit.
    """
    given = resolve_prior_precision(prior_precision, problem.whole.trainable).value
    for path, leaf in jax.tree_util.tree_leaves_with_path(given):
        if np.ndim(leaf):
            raise InvalidArgumentError(
                f"prior_precision at {join(path_of(path))!r} is an array, but with tune_prior one "
                "number is set for each layer; give a number, or a tree of one a leaf"
            )
    first = next(data_batches(problem.loader, one_shape=False, masks=True))
    ignored = problem.points.ignored_label
    linearised = linearise(problem.subset, problem.likelihood, first, ignored)
    if tuning.hessian_structure == "kron":
        linearised = linearised.by_layers()
    linearised.plan(None, first.size).choose(tuning.hessian_structure, "auto")
    return _under(problem, given)


@dataclass(frozen=True, eq=False)
class PriorSchedule:
    """Sets the prior between epochs, and records what it came to.

    Attributes
    ----------
    tuning : PriorTuning
        How.
    epochs : sequence of int
        After which.
    """

    tuning: PriorTuning
    epochs: Sequence[int]
    _done: list[tuple[float, Array, Any]] = field(default_factory=list)

    def __call__(self, problem: Problem, epoch: int, state: Climber) -> Problem:
        """The problem that training goes on with after so many epochs."""
        if epoch not in self.epochs:
            return problem
        laplace = _laplace_at(problem, state, self.tuning.hessian_structure)
        likelihood = problem.likelihood
        if self.tuning.tune_noise and isinstance(likelihood, Gaussian):
            precision, noise = laplace.optimize_hyperparameters(self.tuning.structure)  # type: ignore[arg-type]
            likelihood = Gaussian(noise)
        else:
            precision = laplace.optimize_prior_precision(self.tuning.structure)  # type: ignore[arg-type]
        assert laplace.tuning is not None  # set by the line above
        problem = _under(problem, precision, likelihood)
        leaves = jax.tree.leaves(problem.given.prior.precision)
        numbers = np.array([float(leaf) for leaf in leaves])
        self._done.append((laplace.tuning.evidence, numbers, laplace.noise_std))
        return problem

    def status(self, problem: Problem) -> dict[str, Any]:
        """What was recorded at the T stops; `problem` tells the names of the L trainable leaves."""
        evidence, precision, noise = zip(*self._done, strict=True)
        paths = jax.tree_util.tree_leaves_with_path(problem.whole.trainable)
        found = {
            "prior_epochs": np.array(self.epochs[: len(self._done)]),
            "evidence": np.array(evidence),
            "prior_precision": np.array(precision),
            "prior_leaves": [join(path_of(path)) for path, _ in paths],
        }
        return found if noise[0] is None else {**found, "noise_std": np.array(noise)}


def learnt_prior(posterior: WeightPosterior) -> Tree:
    """The prior precision that `hoarfrost.methods.fit_map` learnt, for `hoarfrost.fit_laplace`.

    Parameters
    ----------
    posterior : WeightPosterior
        Of ``fit_map(..., tune_prior="evidence")``; its `likelihood` has the noise that was learnt.

    Returns
    -------
    tree of float
        One number a trainable leaf.

    Raises
    ------
    InvalidArgumentError
        If it is none, or its prior was not learnt.
    """
    if not isinstance(posterior, WeightPosterior):
        raise InvalidArgumentError(
            f"posterior is {shown(posterior)}; give what fit_map(..., tune_prior='evidence') gave"
        )
    if "prior_leaves" not in posterior.status:
        raise InvalidArgumentError(
            "the posterior's prior was not learnt; give fit_map(..., tune_prior='evidence')"
        )
    structure: Any = jax.tree.structure(posterior.mean)
    return jax.tree.unflatten(structure, posterior.status["prior_precision"][-1].tolist())


def _under(problem: Problem, precision: Any, likelihood: Any = None) -> Problem:
    """The problem under another prior and likelihood, in the dtypes and shapes that it had."""
    trainable, given = problem.whole.trainable, problem.given
    value = resolve_prior_precision(precision, trainable).value
    each = jax.tree.map(lambda _: value, trainable) if isinstance(value, float) else value
    # A leaf that holds no number belongs to no group.
    numbers = jax.tree.map(lambda one: np.float32(one if np.size(one) else 1.0), each)
    prior = GaussianPrior(given.prior.mean, numbers)
    likelihood = given.likelihood if likelihood is None else likelihood
    changed = replace(given, prior=prior, likelihood=likelihood)
    return replace(problem, given=problem.subset.devices.whole(changed))


def _laplace_at(problem: Problem, state: Climber, hessian_structure: str) -> Laplace:
    """The posterior of the only member, under the prior that it is trained under."""
    own, statistics = jax.tree.map(lambda leaf: leaf[0], (state.trainable, state.statistics))
    subset, prior = problem.subset, problem.given.prior
    at = replace(
        subset,
        params=subset.partition.merge(own, subset.frozen),
        mutable=with_own(subset.mutable, problem.kind.moving, statistics),
    )
    return fit_network(
        at,
        problem.loader,
        likelihood=problem.likelihood,
        hessian_structure=hessian_structure,
        prior_precision=jax.tree.map(float, prior.precision),
        prior_mean=jax.tree.map(np.asarray, prior.mean),
        progress=False,
        ignored_label=problem.points.ignored_label,
    )
