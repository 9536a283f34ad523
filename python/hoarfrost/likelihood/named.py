"""The likelihoods that have a name: the only list of them."""

from __future__ import annotations

from typing import Any

import jax

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.likelihood.base import Likelihood
from hoarfrost.likelihood.bernoulli import Bernoulli
from hoarfrost.likelihood.categorical import Categorical
from hoarfrost.likelihood.gaussian import Gaussian
from hoarfrost.likelihood.poisson import Poisson

# A name stands for the likelihood without arguments.
NAMED: dict[str, type[Likelihood]] = {
    one.name: one for one in (Categorical, Bernoulli, Poisson, Gaussian)
}


def resolve(likelihood: str | Likelihood) -> Likelihood:
    """The likelihood that a name or an object stands for.

    Raises
    ------
    InvalidArgumentError
        If it is neither the name of one in `NAMED` nor a `Likelihood`.
    """
    if isinstance(likelihood, str):
        if likelihood in NAMED:
            return NAMED[likelihood]()
    elif isinstance(likelihood, Likelihood) and not isinstance(likelihood, type):
        if jax.tree_util.all_leaves([likelihood]):
            # A class that JAX does not know is hashable, and static in programs.
            cls: Any = type(likelihood)
            jax.tree_util.register_static(cls)
        return likelihood
    raise InvalidArgumentError(
        f"likelihood is {likelihood!r}; give {', '.join(map(repr, NAMED))}, "
        "hoarfrost.likelihood.Gaussian(noise_std=...) or another likelihood, such as a "
        "hoarfrost.likelihood.CustomLikelihood of your own"
    )
