"""A factorised precision and the curvature beside it, as memory allows."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.laplace.structure.base import Curvature, Factor, Scale
from hoarfrost.laplace.turns import Turn
from hoarfrost.types import Array


@dataclass(eq=False)
class FactorStore:
    """The factor of ``scale H + T``, made when it is asked for and given up on request.

    What it is the factor of never changes: another prior or scale is another store. Posteriors
    and threads may share one, as they share its curvature with the stores of the same fit.

    Attributes
    ----------
    curvature : Curvature or None
        ``H``; None where it is not kept.
    keep : bool
        Whether it is kept beside the factor.
    budget : int or None
        Bytes that both may take; None for what the machine has.
    prior : ndarray
        ``T``, shape ``(P,)``.
    scale : float or ndarray
        One number, or one an output.
    held : Factor or None
        The factor, where it is there.
    turn : Turn
        Of the curvature, which one thread at a time works with, whichever store it comes by.
    """

    curvature: Curvature | None
    keep: bool
    budget: int | None
    prior: Array
    scale: Scale = 1.0
    held: Factor | None = None
    turn: Turn = field(default_factory=Turn)
    held_variance: Array | None = field(default=None, init=False)

    @property
    def factor(self) -> Factor:
        """The factor, made again where a search that was broken off gave it up."""
        held = self.held
        if held is not None:
            return held
        with self.turn.lock:
            held = self._made() if self.held is None else self.held
            # It was there for want of a factor only.
            self.held, self.curvature = held, self.curvature if self.keep else None
        return held

    @property
    def required_curvature(self) -> Curvature:
        """The curvature of a store that keeps it, or whose factor was released."""
        assert self.curvature is not None
        return self.curvature

    def curvature_for(self, purpose: str) -> Curvature:
        """The curvature, kept or recovered, for something that cannot do without.

        Raises
        ------
        InvalidArgumentError
            If it was not kept and does not come back from the factor.
        MemoryLimitError
            If it does, and there is no room for it.
        """
        curvature = self.curvature or self.factor.curvature(self.prior, self.budget)
        if curvature is None:
            raise InvalidArgumentError(
                f"{purpose} needs the curvature, which was not kept beside the factor "
                "(keep_curvature=False, or 'auto' where memory did not allow it); fit again with "
                "keep_curvature=True"
            )
        return curvature

    def variance(self) -> Array:
        """Diagonal of the inverse, shape ``(P,)``; a new array each time."""
        held = self.held_variance
        if held is None:
            self.held_variance = held = self.factor.variance()
        return held.copy()

    def alone(self) -> FactorStore:
        """The same, shared with no posterior and no thread: the one to release."""
        return copy.copy(self)

    def drop_cache(self) -> None:
        """Give back what is kept for later predictions."""
        self.held_variance = None
        self.factor.drop_cache()

    def release(self) -> Factor:
        """Hand the factor over, so that it and its successor need not both be held.

        The curvature is there from then on, recovered from the factor where it was not kept.

        Raises
        ------
        InvalidArgumentError
            If the curvature was not kept and does not come back from the factor.
        MemoryLimitError
            If it does, and there is no room for it.
        """
        with self.turn.lock:
            if self.curvature is None:
                self.curvature = self._recovered("prior_precision")
            factor = self._made() if self.held is None else self.held
            self.held = self.held_variance = None
        return factor

    def at(self, prior: Array, scale: Scale, changed: str) -> FactorStore:
        """The store under another prior or scale; `changed` is what the user called it.

        Raises
        ------
        InvalidArgumentError, MemoryLimitError
            As `release` does.
        """
        if np.array_equal(prior, self.prior) and np.all(np.equal(scale, self.scale)):
            return self
        with self.turn.lock:
            keep = self.curvature is not None
            curvature = self.curvature or self._recovered(changed)
            return self.holding(curvature.factor(prior, scale=scale, keep=keep), prior, scale)

    def holding(self, factor: Factor, prior: Array, scale: Scale) -> FactorStore:
        """A store with this factor, of this prior and scale."""
        curvature = self.curvature if self.keep else None
        return FactorStore(curvature, self.keep, self.budget, prior, scale, factor, self.turn)

    def _made(self) -> Factor:
        return self.required_curvature.factor(self.prior, scale=self.scale)

    def _recovered(self, changed: str) -> Curvature:
        curvature = self.factor.curvature(self.prior, self.budget)
        if curvature is None:
            raise InvalidArgumentError(
                f"{changed} cannot be changed: the curvature was not kept beside the factor "
                "(keep_curvature=False, or 'auto' where memory did not allow it); fit again with "
                f"keep_curvature=True, or with this {changed}"
            )
        return curvature
