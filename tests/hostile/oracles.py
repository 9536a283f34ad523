"""Closed forms by which results of values without a plain form are judged, by the callable."""

from __future__ import annotations

import conformal_oracles
import core_oracles
import method_oracles
import numpy as np
from agreement import Oracle
from density_oracles import (
    DENSITIES,
    credible_interval,
    evidence,
    finite_loss,
    gaussian_quantile,
    log_likelihood,
    noise,
    prior_log_density,
    tree_density,
)
from loader_oracles import hands_out
from metric_oracles import (
    accuracy,
    brier_score,
    calibration_error,
    coverage,
    negative_log_likelihood,
    reliability_diagram,
    rmse,
)

ORACLES: dict[str, Oracle] = {
    "accuracy": accuracy,
    "negative_log_likelihood": negative_log_likelihood,
    "nll": negative_log_likelihood,
    "brier_score": brier_score,
    "expected_calibration_error": calibration_error(largest=False),
    "ece": calibration_error(largest=False),
    "maximum_calibration_error": calibration_error(largest=True),
    "mce": calibration_error(largest=True),
    "reliability_diagram": reliability_diagram,
    "root_mean_squared_error": rmse,
    "rmse": rmse,
    "prediction_interval_coverage_probability": coverage,
    "picp": coverage,
    "RegressionPrediction.quantile": gaussian_quantile,
    "RegressionPrediction.credible_interval": credible_interval,
    "IsotropicGaussianPrior": prior_log_density,
    "IsotropicGaussianPrior.log_joint_prob": tree_density(1.0),
    "DiagonalGaussianPrior.log_joint_prob": tree_density(np.linspace(-1, 1, 15)),
    "Gaussian": noise,
    "Laplace.log_marginal_likelihood": evidence,
    **{
        f"{loader}{made}": hands_out(argument)
        for loader in ("DataLoader", "HuggingFaceDataLoader")
        for made, argument in {
            "": "iterable",
            ".from_iterable": "iterable",
            ".from_array_data": "data",
            ".from_tensorflow_data_loader": "tf_data_loader",
            ".from_torch_data_loader": "torch_data_loader",
        }.items()
    },
    "InputsLoader": hands_out("iterable"),
    "InputsLoader.from_iterable": hands_out("iterable"),
    "InputsLoader.from_array_inputs": hands_out("inputs"),
    "TargetsLoader": hands_out("iterable"),
    "TargetsLoader.from_iterable": hands_out("iterable"),
    "TargetsLoader.from_array_targets": hands_out("targets"),
    **{f"{of}.log_prob": log_likelihood(of) for of in DENSITIES},
    "FitMonitor": finite_loss,
    "CalibMonitor": finite_loss,
    # They hand on what they are given, a NaN too.
    "Laplace.merge": lambda given, result: "",
    "Laplace.write_to": lambda given, result: "",
    "WeightPosterior.merge": lambda given, result: "",
    "WeightPosterior.write_to": lambda given, result: "",
    **conformal_oracles.ORACLES,
    **core_oracles.ORACLES,
    **method_oracles.ORACLES,
}
