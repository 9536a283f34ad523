"""What a structure is chosen for, and the bytes that it takes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hoarfrost.curvature import FoundLayers, HeadLayout
from hoarfrost.likelihood import Likelihood
from hoarfrost.types import Array

HeadKind = Literal["softmax", "independent", "gaussian"]


@dataclass(frozen=True)
class Setting:
    """What a structure is chosen, costed and made for.

    Attributes
    ----------
    num_params : int
        ``P``.
    head : {"softmax", "independent", "gaussian"} or None
        The last-layer structure that there is, with its `num_outputs` ``C`` and `num_features`
        ``D'``; None for any other parameters.
    same_prior : bool
        Whether the prior precision is the same for all outputs.
    layout : HeadLayout or None
        Where the layer's leaves sit, in a setting that something is made for.
    likelihood : Likelihood or None
        Of the targets, likewise.
    layers : FoundLayers or None
        The layers of other parameters than a last layer, where they were found.
    num_columns : int
        Columns of a root of the likelihood's curvature that a fit takes of each point then.
    num_rows : int or None
        Of all points' curvature: columns of a root for each, at most; None where it is not known
        how many points there are.
    """

    num_params: int
    head: HeadKind | None = None
    num_outputs: int = 0
    num_features: int = 0
    same_prior: bool = True
    layout: HeadLayout | None = None
    likelihood: Likelihood | None = None
    layers: FoundLayers | None = None
    num_columns: int = 0
    num_rows: int | None = None

    def order(self) -> Array:
        """Ravelled index of each of the core's indices, shape ``(P,)``, int64."""
        if self.layers is not None:
            return self.layers.order
        if self.layout is None:
            return np.arange(self.num_params, dtype=np.int64)
        return self.layout.order()

    def require_likelihood(self) -> Likelihood:
        """The likelihood, in a setting that something is made for."""
        assert self.likelihood is not None
        return self.likelihood


# Vectors over the parameters that Python keeps: mean, prior's mean and precision, order; and those
# of a search for the prior, its groups, shape and deviations and what is made from them.
VECTORS, TUNING = 4, 7


@dataclass(frozen=True)
class Passes:
    """JAX's share: bytes of a network's passes, and of NumPy's copies of what they give.

    Attributes
    ----------
    kept : int
        What stays for later passes.
    fitting, predicting : int
        Of the pieces that are on their way at once.
    widened : int
        Of one piece in float64.
    lingering : int
        Of those, what the allocator does not give back before the factor is made.
    """

    kept: int = 0
    fitting: int = 0
    predicting: int = 0
    widened: int = 0
    lingering: int = 0


@dataclass(frozen=True)
class Cost:
    """Bytes that a structure takes.

    Attributes
    ----------
    curvature, factor, panel, cache : int
        Of the curvature, of its factor, of a panel of points while they are added, and of what the
        core keeps between predictions.
    between : int
        What stands between curvature and factor while one is made from the other.
    vectors, making, tuning : int
        Of vectors over the parameters in Python: kept, and there for a while where a factor is made
        or a prior is tuned. Only a diagonal counts them: beside ``P^2`` they are nothing.
    widens : int
        Copies of a piece in float64 that a prediction takes.
    in_place : bool
        Whether a curvature that is not kept gives its memory back as the factor takes it up.
    shared : int
        Of the curvature and of the factor, what is the same memory.
    """

    curvature: int
    factor: int
    panel: int = 0
    cache: int = 0
    between: int = 0
    in_place: bool = False
    vectors: int = 0
    making: int = 0
    tuning: int = 0
    widens: int = 1
    shared: int = 0

    def own(self) -> Cost:
        """Of curvature and factor alone, without Python's vectors."""
        return dataclasses.replace(self, vectors=0, making=0, tuning=0)

    def bytes_needed(self, keep_curvature: bool, passes: Passes | None = None) -> int:
        """Bytes at the peak, predictions included, and tuning where the curvature is kept.

        A curvature that comes back for tuning is checked then.
        """
        found = self.by_verb(keep_curvature, passes)
        return max(found[verb] for verb in found if keep_curvature or verb != "tune")

    def by_verb(self, keep_curvature: bool, passes: Passes | None = None) -> dict[str, int]:
        """Bytes at the peak of each verb, with those of the network's passes: "fit", ...

        "tune" is for priors that the outputs share, whichever structure of them takes the most.
        """
        passes = Passes() if passes is None else passes
        adding = self.curvature + self.panel + passes.fitting
        if keep_curvature:
            made = self.curvature + self.factor + self.between - self.shared
            predicting = self.curvature + self.factor + self.cache - self.shared
        elif self.in_place:
            made = max(self.curvature + self.between, self.factor)
            predicting = self.factor + self.cache
        else:
            made = self.factor + self.curvature + self.between
            predicting = self.factor + self.cache
        # What lingers is room for what stands between.
        making = max(self.making, passes.lingering - self.between, 0)
        kept = self.vectors + passes.kept
        return {
            "fit": kept + max(adding, made + making),
            "tune": kept + self.curvature + self.factor + self.between + self.tuning - self.shared,
            "predict": kept + predicting + passes.predicting + self.widens * passes.widened,
        }
