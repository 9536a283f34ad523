"""No dead option: every public argument changes what it says it changes, or raises.

Each argument has an entry in a table of this folder. A new argument without one fails there, a
public name without a row and an entry whose argument is gone fail here.
"""

from __future__ import annotations

import numpy as np
from entries import arguments_of, same
from problems import X
from public import public_callables
from test_checkpoint_options import TABLE as CHECKPOINTS
from test_config_options import TABLE as CONFIGS
from test_conformal_options import TABLE as CONFORMAL
from test_data_options import TABLE as DATA
from test_laplace_options import TABLE as LAPLACE
from test_method_posterior_options import TABLE as METHOD_POSTERIORS
from test_methods_options import TABLE as METHODS
from test_metric_and_prior_options import TABLE as METRICS_AND_PRIORS
from test_model_options import TABLE as MODELS
from test_network_options import TABLE as NETWORKS
from test_predictive_options import TABLE as PREDICTIVES
from test_weight_posterior_options import TABLE as WEIGHTS

import hoarfrost
from hoarfrost import methods, prob_model
from hoarfrost.data import DataLoader, HuggingFaceDataLoader, InputsLoader, TargetsLoader
from hoarfrost.methods.problem import ProblemOptions, problem_of
from hoarfrost.predictive import RegressionPrediction
from hoarfrost.prior import DiagonalGaussianPrior, IsotropicGaussianPrior
from hoarfrost.prob_model.posterior import LaplacePosterior, MAPPosterior

TABLES = (LAPLACE, MODELS, NETWORKS, CONFIGS, DATA, METRICS_AND_PRIORS, PREDICTIVES, CHECKPOINTS)
TABLES += (CONFORMAL, METHODS, WEIGHTS, METHOD_POSTERIORS)
TABLE = {name: subject for rows in TABLES for name, subject in rows.items()}
# Classes all of whose public methods must stand in the table.
WHOLE = (
    hoarfrost.Laplace,
    methods.WeightPosterior,
    prob_model.ProbClassifier,
    RegressionPrediction,
    DataLoader,
    HuggingFaceDataLoader,
    InputsLoader,
    TargetsLoader,
    LaplacePosterior,
    MAPPosterior,
    IsotropicGaussianPrior,
    DiagonalGaussianPrior,
)
# Names without arguments, or with methods to be overridden, whose hooks are tested with training.
NO_ARGUMENTS = {"MAPPosteriorApproximator", "FitCallback", "identity_preconditioner"}
# What the package makes and hands out.
MADE_BY_US = {"JointState", "PosteriorState", "Laplace", "WeightPosterior"}


def test_the_table_holds_no_argument_that_is_gone() -> None:
    assert len(TABLE) == sum(map(len, TABLES))
    for name, subject in TABLE.items():
        assert set(subject.entries) <= set(arguments_of(subject.documented)), name


def test_the_table_holds_every_public_callable() -> None:
    whole = {cls.__name__ for cls in WHOLE}
    of_classes = [name for name in public_callables() if name.partition(".")[0] in whole]
    wanted = {name for name in of_classes if "." in name and arguments_of(public_callables()[name])}
    named = {name for module in (prob_model, methods) for name in module.__all__} - NO_ARGUMENTS
    functions = {name for name in hoarfrost.__all__ if callable(getattr(hoarfrost, name))}
    wanted |= {*named, *functions} - MADE_BY_US
    assert wanted - set(TABLE) == set()
    assert not any(arguments_of(public_callables()[name]) for name in NO_ARGUMENTS)


def test_options_that_all_methods_share_are_those_of_their_problem() -> None:
    shared = set(ProblemOptions.__annotations__)
    assert shared == set(arguments_of(problem_of)) - {"model", "params", "data_loader"}
    for name in set(METHODS) - {"learnt_prior"}:
        assert shared <= set(METHODS[name].entries), name


def test_a_result_that_differs_is_told_from_one_that_does_not() -> None:
    assert same({"a": X, "b": [1, "x"]}, {"a": X.copy(), "b": [1, "x"]})
    assert not same({"a": X}, {"a": X + np.float32(1e-6)})
    assert not same({"a": X}, {"b": X}) and not same([1], [2]) and not same((X, X), (X,))
