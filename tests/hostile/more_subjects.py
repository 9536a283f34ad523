"""Public callables that the options tables leave out, each with a right call of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from entries import Subject
from problems import tree

import hoarfrost
from hoarfrost import likelihood, prior
from hoarfrost.likelihood import Bernoulli, Categorical, Gaussian, HeteroscedasticGaussian, Poisson

OUTPUTS = np.float32([[0.5, -1.0], [1.5, 0.25], [-0.5, 0.75], [0.0, 1.0]])
REAL = np.float32([[0.25, 1.0], [-1.5, 0.5], [2.0, 0.0], [0.5, -0.5]])
COUNTS = np.array([[0, 3], [1, 2], [5, 0], [2, 2]], np.int32)


def through(params: Any, x: Any) -> Any:
    """A network whose outputs are its inputs, where its matrix is the unit."""
    return x @ params["w"]


def log_likelihood(of: Any) -> Callable[..., float]:
    """The log-likelihood of these targets where these are the outputs of a network."""

    def run(outputs: Any, targets: Any) -> float:
        posterior = hoarfrost.fit_laplace(
            through,
            {"w": np.eye(2, dtype=np.float32)},
            [(outputs, targets)],
            likelihood=of,
            hessian_structure="diag",
            prior_precision=1e3,
            progress=False,
        )
        return posterior.log_likelihood

    return run


def subject(run: Callable[..., Any], **base: Any) -> Subject:
    return Subject(run, run, lambda: base, {})


def resolve(likelihood: Any) -> str:
    return str(hoarfrost.likelihood.resolve(likelihood))


def precision(value: Any) -> Any:
    return prior.resolve_prior_precision(value, tree()).vector


def mean(value: Any) -> Any:
    return prior.resolve_prior_mean(value, tree())


def under_noise(noise_std: Any) -> float:
    return log_likelihood(Gaussian(noise_std))(OUTPUTS, REAL)


MORE: dict[str, Subject] = {
    "Gaussian": Subject(Gaussian, under_noise, lambda: {"noise_std": 0.5}, {}),
    "Gaussian.log_prob": subject(log_likelihood(Gaussian(0.5)), outputs=OUTPUTS, targets=REAL),
    "HeteroscedasticGaussian.log_prob": subject(
        log_likelihood(HeteroscedasticGaussian()), outputs=OUTPUTS, targets=REAL[:, :1]
    ),
    "Poisson.log_prob": subject(log_likelihood(Poisson()), outputs=OUTPUTS, targets=COUNTS),
    "Bernoulli.log_prob": subject(
        log_likelihood(Bernoulli()), outputs=OUTPUTS, targets=COUNTS.clip(0, 1)
    ),
    "Categorical.log_prob": subject(
        log_likelihood(Categorical()), outputs=OUTPUTS, targets=np.array([0, 1, 1, 0])
    ),
    "resolve": subject(resolve, likelihood="poisson"),
    "resolve_prior_precision": subject(precision, value=2.0),
    "resolve_prior_mean": subject(mean, value=0.5),
}

MADE_BY_US = "is made by Hoarfrost and handed out"
PROTOCOL = "is what its classes have in common, and is reached by them"
OTHER_ROOMS = "is for other rooms of the house, which hand it what they checked: reached by them"
IN_PROGRAMS = "is called in compiled programs, with values that were checked: reached by fits"
OF_A_SIZE = "is the network of that name with its sizes filled in"
NO_VALUES = "takes no value of a user's"
COPIES = "copies a record with other fields, which are checked where they are used"
BY_USERS = "is overridden by users, whose own are hostile callbacks, priors and likelihoods here"
# Posteriors of the methods, and what each of them says of its own.
METHODS = ("SWAG", "ADVI", "DeepEnsemble", "SGHMC", "CyclicalSGLD", "SNGP")
HOOKS = ("approximate", "check", "map_is_idle", "prior_of", "recorded", "trainable_of")
STATES = ("Joint", "Posterior", "Laplace", "Weight")
# Public callables without an entry, and why.
REASONS: dict[str, str] = {
    **dict.fromkeys(
        (
            *("Laplace", "RegressionPrediction", "ReliabilityDiagram", "PriorPrecision"),
            *("LaplacePosterior", "MAPPosterior", "JointState", "PosteriorState", "LaplaceState"),
            *("WeightPosterior", "WeightState", *(f"{of}Posterior" for of in METHODS)),
            *("ClassificationPredictive", "RegressionPredictive"),
            *("ClassificationLikelihood", "RegressionLikelihood"),
        ),
        MADE_BY_US,
    ),
    **dict.fromkeys(
        (
            *("ModelLikelihood", "Predictive", "Posterior"),
            *("Likelihood", "Classification", "Regression", "MarginalDensity"),
        ),
        PROTOCOL,
    ),
    **dict.fromkeys(
        ("ClassificationLikelihood.predictions", "RegressionLikelihood.predictions"), IN_PROGRAMS
    ),
    **dict.fromkeys((f"{name}State.replace" for name in STATES), COPIES),
    **dict.fromkeys(("FitCallback", "CustomLikelihood", "Prior"), BY_USERS),
    **dict.fromkeys(
        (
            *("array_tree", "gaussian_prior", "log_prior_density", "check_prior"),
            "num_parameters",
            *("exact_log_prob", "density_precision", "sound_noise"),
            *("SGHMCPosterior.plan", "CyclicalSGLDPosterior.plan"),
            *(f"{of}Posterior.{hook}" for of in METHODS for hook in HOOKS),
        ),
        OTHER_ROOMS,
    ),
}


def reason_of(name: str, member: Any, reached: set[Any]) -> str:
    """Why a public callable needs no entry; "" if it needs one."""
    from entries import arguments_of

    owner, _, attribute = name.partition(".")
    if name in REASONS:
        return REASONS[name]
    if attribute and owner in REASONS and REASONS[owner] in (PROTOCOL, BY_USERS):
        return REASONS[owner]
    if name.startswith("model.") and name[-1].isdigit() and not name.endswith("LeNet5"):
        return OF_A_SIZE
    if isinstance(member, type) and issubclass(member, BaseException):
        return MADE_BY_US
    if isinstance(getattr(hoarfrost.errors, owner, None), type):
        return MADE_BY_US
    if attribute and hasattr(likelihood, owner):
        return IN_PROGRAMS
    if getattr(member, "__func__", member) in reached:
        return PROTOCOL
    return NO_VALUES if not arguments_of(member) else ""
