"""Where code written for Fortuna imports from: the same paths, with the root changed."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import hoarfrost

PATHS = {
    "conformal": """AdaptivePredictionConformalClassifier CVPlusConformalRegressor
        JackknifeMinmaxConformalRegressor JackknifePlusConformalRegressor
        OneDimensionalUncertaintyConformalRegressor QuantileConformalRegressor
        SimplePredictionConformalClassifier""",
    "conformal.classification": """AdaptivePredictionConformalClassifier
        SimplePredictionConformalClassifier""",
    "conformal.classification.adaptive_prediction": """AdaptivePredictionConformalClassifier
        CVPlusAdaptivePredictionConformalClassifier""",
    "conformal.classification.base": """ConformalClassifier CVPlusConformalClassifier
        SplitConformalClassifier""",
    "conformal.classification.simple_prediction": """SimplePredictionConformalClassifier
        CVPlusSimplePredictionConformalClassifier""",
    "conformal.regression": """CVPlusConformalRegressor JackknifeMinmaxConformalRegressor
        JackknifePlusConformalRegressor OneDimensionalUncertaintyConformalRegressor
        QuantileConformalRegressor""",
    "conformal.regression.base": "ConformalRegressor",
    "conformal.regression.cvplus": "CVPlusConformalRegressor",
    "conformal.regression.jackknife_minmax": "JackknifeMinmaxConformalRegressor",
    "conformal.regression.jackknifeplus": "JackknifePlusConformalRegressor",
    "conformal.regression.onedim_uncertainty": "OneDimensionalUncertaintyConformalRegressor",
    "conformal.regression.quantile": "QuantileConformalRegressor",
    "data": "DataLoader InputsLoader TargetsLoader",
    "data.loader": "DataLoader InputsLoader TargetsLoader",
    "data.loader.huggingface_loaders": "HuggingFaceDataLoader",
    "metric.classification": """accuracy brier_score expected_calibration_error
        maximum_calibration_error""",
    "metric.regression": """picp prediction_interval_coverage_probability rmse
        root_mean_squared_error""",
    "output_calibrator": "ClassificationTemperatureScaler RegressionTemperatureScaler",
    "output_calibrator.classification": "ClassificationTemperatureScaler",
    "output_calibrator.regression": "RegressionTemperatureScaler",
    "prob_model": """ADVIPosteriorApproximator CalibCheckpointer CalibConfig CalibMonitor
        CalibOptimizer CalibProcessor CyclicalSGLDPosteriorApproximator
        DeepEnsemblePosteriorApproximator FitCheckpointer FitConfig FitMonitor FitOptimizer
        FitProcessor LaplacePosteriorApproximator MAPPosteriorApproximator ProbClassifier
        ProbRegressor SGHMCPosteriorApproximator SNGPPosteriorApproximator
        SWAGPosteriorApproximator""",
    "prob_model.base": "ProbModel",
    "prob_model.calib_config.base": "CalibConfig",
    "prob_model.calib_config.checkpointer": "CalibCheckpointer",
    "prob_model.calib_config.monitor": "CalibMonitor",
    "prob_model.calib_config.optimizer": "CalibOptimizer",
    "prob_model.calib_config.processor": "CalibProcessor",
    "prob_model.classification": "ProbClassifier",
    "prob_model.fit_config": "FitCallback FitConfig FitMonitor FitOptimizer",
    "prob_model.fit_config.base": "FitConfig",
    "prob_model.fit_config.callback": "FitCallback",
    "prob_model.fit_config.checkpointer": "FitCheckpointer",
    "prob_model.fit_config.hyperparameters": "FitHyperparameters",
    "prob_model.fit_config.monitor": "FitMonitor",
    "prob_model.fit_config.optimizer": "FitOptimizer",
    "prob_model.fit_config.processor": "FitProcessor",
    "prob_model.joint.base": "Joint",
    "prob_model.joint.state": "JointState",
    "prob_model.likelihood.classification": "ClassificationLikelihood",
    "prob_model.likelihood.regression": "RegressionLikelihood",
    "prob_model.posterior.advi.advi_approximator": "ADVIPosteriorApproximator",
    "prob_model.posterior.advi.advi_posterior": "ADVIPosterior",
    "prob_model.posterior.base": "Posterior",
    "prob_model.posterior.deep_ensemble.deep_ensemble_approximator": (
        "DeepEnsemblePosteriorApproximator"
    ),
    "prob_model.posterior.deep_ensemble.deep_ensemble_posterior": "DeepEnsemblePosterior",
    "prob_model.posterior.laplace.laplace_approximator": "LaplacePosteriorApproximator",
    "prob_model.posterior.laplace.laplace_posterior": "LaplacePosterior",
    "prob_model.posterior.laplace.laplace_state": "LaplaceState",
    "prob_model.posterior.map.map_approximator": "MAPPosteriorApproximator",
    "prob_model.posterior.map.map_posterior": "MAPPosterior",
    "prob_model.posterior.sgmcmc.cyclical_sgld.cyclical_sgld_approximator": (
        "CyclicalSGLDPosteriorApproximator"
    ),
    "prob_model.posterior.sgmcmc.cyclical_sgld.cyclical_sgld_posterior": "CyclicalSGLDPosterior",
    "prob_model.posterior.sgmcmc.sghmc.sghmc_approximator": "SGHMCPosteriorApproximator",
    "prob_model.posterior.sgmcmc.sghmc.sghmc_posterior": "SGHMCPosterior",
    "prob_model.posterior.sgmcmc.sgmcmc_diagnostic": """effective_sample_size
        kernel_stein_discrepancy_imq""",
    "prob_model.posterior.sgmcmc.sgmcmc_preconditioner": """identity_preconditioner
        rmsprop_preconditioner""",
    "prob_model.posterior.sgmcmc.sgmcmc_step_schedule": """constant_schedule
        constant_schedule_with_cosine_burnin cosine_schedule
        cyclical_cosine_schedule_with_const_burnin polynomial_schedule""",
    "prob_model.posterior.sngp.sngp_approximator": "SNGPPosteriorApproximator",
    "prob_model.posterior.sngp.sngp_posterior": "SNGPPosterior",
    "prob_model.posterior.state": "PosteriorState",
    "prob_model.posterior.swag.swag_approximator": "SWAGPosteriorApproximator",
    "prob_model.posterior.swag.swag_posterior": "SWAGPosterior",
    "prob_model.predictive.classification": "ClassificationPredictive",
    "prob_model.predictive.regression": "RegressionPredictive",
    "prob_model.prior": "DiagonalGaussianPrior IsotropicGaussianPrior Prior",
    "prob_model.regression": "ProbRegressor",
    "typing": "Array Params",
    "utils.random": "RandomNumberGenerator",
}
# Modules that hold no code of their own.
RE_EXPORTS = [
    "conformal/__init__.py",
    "conformal/classification/__init__.py",
    "conformal/regression/__init__.py",
    "data/loader/__init__.py",
    "data/loader/huggingface_loaders.py",
    "joint/state.py",
    "posterior/sgmcmc/sgmcmc_diagnostic.py",
    "posterior/sgmcmc/sgmcmc_preconditioner.py",
    "posterior/sgmcmc/sgmcmc_step_schedule.py",
    "posterior/state.py",
    "utils/random.py",
    "output_calibrator/__init__.py",
    "output_calibrator/classification.py",
    "output_calibrator/regression.py",
]
# The import lines of Fortuna's own examples, as far as what they name exists here.
EXAMPLES = """
from fortuna.conformal import AdaptivePredictionConformalClassifier
from fortuna.conformal import OneDimensionalUncertaintyConformalRegressor
from fortuna.conformal import QuantileConformalRegressor
from fortuna.conformal import SimplePredictionConformalClassifier
from fortuna.data import DataLoader
from fortuna.data import InputsLoader
from fortuna.data.loader.huggingface_loaders import HuggingFaceDataLoader
from fortuna.metric.classification import accuracy
from fortuna.metric.classification import accuracy, expected_calibration_error, brier_score
from fortuna.metric.regression import rmse
from fortuna.metric.regression import root_mean_squared_error, \
prediction_interval_coverage_probability
from fortuna.prob_model import CalibConfig, CalibMonitor, FitCheckpointer, FitConfig
from fortuna.prob_model import FitConfig, FitMonitor, CalibConfig, CalibMonitor
from fortuna.prob_model import FitConfig, FitMonitor, FitOptimizer
from fortuna.prob_model import LaplacePosteriorApproximator, MAPPosteriorApproximator
from fortuna.prob_model import ProbClassifier, LaplacePosteriorApproximator
from fortuna.prob_model import ProbRegressor
from fortuna.prob_model.fit_config import FitConfig, FitMonitor
from fortuna.prob_model.fit_config import FitConfig, FitMonitor, FitOptimizer, FitProcessor
from fortuna.prob_model.fit_config import FitConfig, FitMonitor, FitOptimizer, FitCallback
from fortuna.prob_model.fit_config.checkpointer import FitCheckpointer
from fortuna.prob_model import ADVIPosteriorApproximator, DeepEnsemblePosteriorApproximator
from fortuna.prob_model import SGHMCPosteriorApproximator, CyclicalSGLDPosteriorApproximator
from fortuna.prob_model import SNGPPosteriorApproximator, SWAGPosteriorApproximator
from fortuna.prob_model.posterior import MAPPosteriorApproximator
from fortuna.prob_model.posterior.sgmcmc.cyclical_sgld import CyclicalSGLDPosteriorApproximator
from fortuna.prob_model.posterior.sgmcmc.sghmc import SGHMCPosteriorApproximator
from fortuna.prob_model.posterior.sngp.sngp_approximator import SNGPPosteriorApproximator
from fortuna.prob_model.posterior.swag.swag_approximator import SWAGPosteriorApproximator
from fortuna.prob_model.posterior.state import PosteriorState
from fortuna.prob_model.prior import IsotropicGaussianPrior
from fortuna.prob_model.prior import Prior
from fortuna.typing import Array
from fortuna.typing import Params
from fortuna.utils.random import RandomNumberGenerator
"""


@pytest.mark.parametrize("path", PATHS)
def test_names_are_at_fortunas_paths(path):
    module = importlib.import_module(f"hoarfrost.{path}")
    for name in PATHS[path].split():
        assert hasattr(module, name), name


@pytest.mark.parametrize("path", PATHS)
def test_a_name_is_the_same_object_wherever_it_is(path):
    module = importlib.import_module(f"hoarfrost.{path}")
    front, _, _ = path.partition(".")
    public = importlib.import_module(f"hoarfrost.{front}")
    for name in PATHS[path].split():
        if hasattr(public, name):
            assert getattr(module, name) is getattr(public, name)


@pytest.mark.parametrize("line", EXAMPLES.replace("\\\n", "").strip().splitlines())
def test_import_lines_of_fortunas_examples(line):
    names: dict[str, object] = {}
    exec(line.replace("fortuna", "hoarfrost"), names)
    (statement,) = ast.parse(line).body
    assert all(alias.name in names for alias in statement.names)


@pytest.mark.parametrize("file", RE_EXPORTS)
def test_re_exports_hold_no_logic(file):
    root = Path(hoarfrost.__file__).parent
    path = root / file if (root / file).exists() else root / "prob_model" / file
    document, *statements = ast.parse(path.read_text(encoding="utf-8")).body
    assert isinstance(document, ast.Expr)
    imports, (names,) = statements[:-1], statements[-1:]
    assert all(isinstance(statement, ast.ImportFrom) for statement in imports)
    assert isinstance(names, ast.Assign)
