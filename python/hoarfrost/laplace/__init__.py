"""The Laplace posterior over the trainable parameters."""

from hoarfrost.laplace.evidence.tuning import Tuning
from hoarfrost.laplace.fit import fit_laplace, fit_network, plan_laplace, plan_network
from hoarfrost.laplace.plan import MemoryPlan
from hoarfrost.laplace.posterior import Laplace

__all__ = [
    "Laplace",
    "MemoryPlan",
    "Tuning",
    "fit_laplace",
    "fit_network",
    "plan_laplace",
    "plan_network",
]
