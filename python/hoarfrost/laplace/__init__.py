"""The Laplace posterior over the trainable parameters."""

from hoarfrost.laplace.description import Description, describe
from hoarfrost.laplace.evidence.tuning import Tuning
from hoarfrost.laplace.fit import fit_laplace, fit_network
from hoarfrost.laplace.loading import load_laplace
from hoarfrost.laplace.plan import MemoryPlan
from hoarfrost.laplace.planning import plan_laplace, plan_network
from hoarfrost.laplace.posterior import Laplace

__all__ = [
    "Description",
    "Laplace",
    "MemoryPlan",
    "Tuning",
    "describe",
    "fit_laplace",
    "fit_network",
    "load_laplace",
    "plan_laplace",
    "plan_network",
]
