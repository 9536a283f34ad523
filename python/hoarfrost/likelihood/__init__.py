"""Log-likelihoods, the curvature of their outputs, and its root: one file a likelihood.

======================================  ==================================  =====================
likelihood                              outputs                             targets
======================================  ==================================  =====================
`Categorical`                           ``(B, C)`` logits                   ``(B,)`` labels
`Bernoulli`                             ``(B, C)`` logits                   ``(B, C)`` of 0 and 1
`Gaussian`, known noise                 ``(B, C)`` means                    ``(B, C)``
`HeteroscedasticGaussian`               ``(B, 2 D)``: means, log-variances  ``(B, D)``
`Poisson`                               ``(B, C)`` log-rates                ``(B, C)`` counts
======================================  ==================================  =====================

A likelihood of your own is a frozen dataclass that derives from `CustomLikelihood` and defines
``log_prob(outputs, targets)``, with ``output_curvature(outputs)``, ``sample(outputs, key)`` and
``mean(outputs)`` where the defaults will not do; its curvature is compared with `jax.hessian` when
an object is made, and the object then goes to ``fit_laplace(..., likelihood=...)``. What the rest
of the package asks of a likelihood is `Likelihood`; of one whose targets are classes,
`Classification`; of numbers with known moments, `Regression`.
"""

from hoarfrost.likelihood.base import Classification, Likelihood, MarginalDensity, Regression
from hoarfrost.likelihood.bernoulli import Bernoulli
from hoarfrost.likelihood.categorical import Categorical
from hoarfrost.likelihood.custom import CustomLikelihood
from hoarfrost.likelihood.density import density_precision, exact_log_prob
from hoarfrost.likelihood.gaussian import Gaussian, sound_noise
from hoarfrost.likelihood.heteroscedastic import HeteroscedasticGaussian
from hoarfrost.likelihood.named import NAMED, resolve
from hoarfrost.likelihood.poisson import Poisson

__all__ = [
    "NAMED",
    "Bernoulli",
    "Categorical",
    "Classification",
    "CustomLikelihood",
    "Gaussian",
    "HeteroscedasticGaussian",
    "Likelihood",
    "MarginalDensity",
    "Poisson",
    "Regression",
    "density_precision",
    "exact_log_prob",
    "resolve",
    "sound_noise",
]
