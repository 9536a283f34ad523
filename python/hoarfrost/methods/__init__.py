"""Approximate posteriors over the trainable parameters, beside the exact Laplace posterior.

Every method takes a model, its parameters, data and a selection as `hoarfrost.fit_laplace` does,
and gives a `WeightPosterior`.
"""

from hoarfrost.methods.advi import fit_advi
from hoarfrost.methods.cyclical_sgld import sample_cyclical_sgld
from hoarfrost.methods.diagnostics import effective_sample_size, kernel_stein_discrepancy_imq
from hoarfrost.methods.ensemble import fit_ensemble
from hoarfrost.methods.ivon import fit_ivon
from hoarfrost.methods.map import fit_map
from hoarfrost.methods.posterior import WeightPosterior
from hoarfrost.methods.preconditioners import identity_preconditioner, rmsprop_preconditioner
from hoarfrost.methods.prior_tuning import learnt_prior
from hoarfrost.methods.schedules import (
    constant_schedule,
    constant_schedule_with_cosine_burnin,
    cosine_schedule,
    cyclical_cosine_schedule_with_const_burnin,
    polynomial_schedule,
)
from hoarfrost.methods.sghmc import sample_sghmc
from hoarfrost.methods.sngp import fit_sngp
from hoarfrost.methods.swag import fit_swag

__all__ = [
    "WeightPosterior",
    "constant_schedule",
    "constant_schedule_with_cosine_burnin",
    "cosine_schedule",
    "cyclical_cosine_schedule_with_const_burnin",
    "effective_sample_size",
    "fit_advi",
    "fit_ensemble",
    "fit_ivon",
    "fit_map",
    "fit_sngp",
    "fit_swag",
    "identity_preconditioner",
    "kernel_stein_discrepancy_imq",
    "learnt_prior",
    "polynomial_schedule",
    "rmsprop_preconditioner",
    "sample_cyclical_sgld",
    "sample_sghmc",
]
