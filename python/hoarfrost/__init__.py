"""Bayesian inference at scale for Flax: an exact Laplace posterior over part of a network.

Freeze most of a trained network and call :func:`fit_laplace`, or come from Fortuna through
:mod:`hoarfrost.prob_model`, whose names and arguments are Fortuna's.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hoarfrost._core import __version__

if TYPE_CHECKING:
    from hoarfrost import conformal, data, errors, likelihood, methods, metric, model, prob_model
    from hoarfrost.curvature.features import features
    from hoarfrost.laplace import Laplace, describe, fit_laplace, load_laplace
    from hoarfrost.laplace import plan_laplace as plan
    from hoarfrost.methods.saving import load_posterior

__all__ = [
    "Laplace",
    "__version__",
    "conformal",
    "data",
    "describe",
    "errors",
    "features",
    "fit_laplace",
    "likelihood",
    "load_laplace",
    "load_posterior",
    "methods",
    "metric",
    "model",
    "plan",
    "prob_model",
]

# Where each name is, which is imported when it is first asked for.
_PLACES = {
    "Laplace": ("hoarfrost.laplace", "Laplace"),
    "describe": ("hoarfrost.laplace", "describe"),
    "features": ("hoarfrost.curvature.features", "features"),
    "fit_laplace": ("hoarfrost.laplace", "fit_laplace"),
    "load_laplace": ("hoarfrost.laplace", "load_laplace"),
    "load_posterior": ("hoarfrost.methods.saving", "load_posterior"),
    "plan": ("hoarfrost.laplace", "plan_laplace"),
    **{
        name: (f"hoarfrost.{name}", "")
        for name in (
            "conformal",
            "data",
            "errors",
            "likelihood",
            "methods",
            "metric",
            "model",
            "prob_model",
        )
    },
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'hoarfrost' has no attribute {name!r}")
    module, attribute = _PLACES[name]
    found = import_module(module)
    value = getattr(found, attribute) if attribute else found
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
