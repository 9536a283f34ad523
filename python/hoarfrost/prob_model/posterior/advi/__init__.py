"""Mean-field variational inference behind Fortuna's interface."""

from hoarfrost.prob_model.posterior.advi.advi_approximator import ADVIPosteriorApproximator
from hoarfrost.prob_model.posterior.advi.advi_posterior import ADVIPosterior

__all__ = ["ADVIPosterior", "ADVIPosteriorApproximator"]
