"""Deep ensembles behind Fortuna's interface."""

from hoarfrost.prob_model.posterior.deep_ensemble.deep_ensemble_approximator import (
    DeepEnsemblePosteriorApproximator,
)
from hoarfrost.prob_model.posterior.deep_ensemble.deep_ensemble_posterior import (
    DeepEnsemblePosterior,
)

__all__ = ["DeepEnsemblePosterior", "DeepEnsemblePosteriorApproximator"]
