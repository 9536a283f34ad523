"""The memory that a posterior will take, said before it is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hoarfrost.curvature import FoundLayers
from hoarfrost.errors import MemoryLimitError
from hoarfrost.laplace.structure.cost import Cost, HeadKind, Passes, Setting
from hoarfrost.laplace.structure.registry import AUTO, NAMES, names_for, structure_for
from hoarfrost.memory import available_bytes, format_bytes

Keep = bool | Literal["auto"]


@dataclass(frozen=True)
class MemoryPlan:
    """What each structure of a posterior needs, beside what there is.

    Attributes
    ----------
    num_params : int
        ``P``, the number of trainable parameters.
    head : {"softmax", "independent", "gaussian"} or None
        The last-layer structure that will be used, if any.
    costs : mapping of str to Cost
        For each structure, the bytes of the likelihood's curvature, of its factor, of what the core
        keeps between predictions, and of what stands between them for a while. "dual" is there
        where it is known how many points there are, "kron" where the layers are known.
    bytes_available : int or None
        The memory budget, or what the machine has; None where the system does not say.
    passes : Passes
        JAX's share of it, the same for every structure.
    """

    num_params: int
    head: HeadKind | None
    costs: Mapping[str, Cost]
    bytes_available: int | None
    passes: Passes = field(default_factory=Passes)

    def bytes_needed(self, structure: str, keep_curvature: bool) -> int:
        """Bytes of a posterior of one structure at its peak, predictions and tuning included."""
        return self.costs[structure].bytes_needed(keep_curvature, self.passes)

    def by_verb(self, structure: str, keep_curvature: bool) -> dict[str, int]:
        """Bytes at the peak of "fit", "tune" and "predict" (for many inputs)."""
        return self.costs[structure].by_verb(keep_curvature, self.passes)

    def fits(self, structure: str, keep_curvature: bool) -> bool:
        """Whether that is there."""
        needed = self.bytes_needed(structure, keep_curvature)
        return self.bytes_available is None or needed <= self.bytes_available

    def choose(self, structure: str, keep_curvature: Keep) -> tuple[str, bool]:
        """The structure to use and whether the curvature is kept.

        Raises
        ------
        MemoryLimitError
            If the structure asked for does not fit; what would fit is listed.
        """
        if structure in NAMES and structure not in self.costs:
            return structure, keep_curvature is not False
        names = (
            [name for name in AUTO if name in self.costs] if structure == "auto" else [structure]
        )
        for name in names:
            for keep in (True, False) if keep_curvature == "auto" else (bool(keep_curvature),):
                if self.fits(name, keep):
                    return name, keep
        name = names[-1]
        needed = self.bytes_needed(name, keep_curvature is True)
        raise MemoryLimitError(
            f"a posterior with hessian_structure={name!r} over P = {self.num_params:,} parameters "
            f"needs {format_bytes(needed)}, and there are "
            f"{format_bytes(self.bytes_available or 0)}; {self._remedy(name)}",
            needed,
            self.bytes_available,
        )

    def _remedy(self, refused: str) -> str:
        fitting = [
            f"hessian_structure={name!r} ({format_bytes(self.bytes_needed(name, keep))}"
            f"{'' if keep else ', with keep_curvature=False'})"
            for name in self.costs
            for keep in (True, False)
            if self.fits(name, keep)
            and (keep or not self.fits(name, True))
            and (name != refused or not keep)
        ]
        if fitting:
            return f"what would fit: {', '.join(fitting)}; or train fewer parameters"
        return "no structure would fit: train fewer parameters, or raise memory_budget"

    def __str__(self) -> str:
        lines = [f"posterior over {self.num_params:,} parameters"]
        if self.head is not None:
            lines[0] += f" (last layer, {self.head})"
        for name in self.costs:
            keep = self.fits(name, True)
            verdict = "fits" if keep else "does not fit"
            if not keep and self.fits(name, False):
                verdict = "fits without keeping the curvature"
            lines.append(
                f"  {name:<5} {format_bytes(self.bytes_needed(name, keep)):>10}  {verdict}"
            )
        jax = self.passes.kept + max(self.passes.fitting, self.passes.predicting)
        if jax:
            lines.append(f"  of each, {format_bytes(jax)} are JAX's")
        if self.bytes_available is not None:
            lines.append(f"  there are {format_bytes(self.bytes_available)}")
        return "\n".join(lines)


def make_plan(
    num_params: int,
    head: HeadKind | None = None,
    num_outputs: int = 0,
    num_features: int = 0,
    memory_budget: int | None = None,
    *,
    same_prior: bool = True,
    layers: FoundLayers | None = None,
    passes: Passes | None = None,
    num_rows: int | None = None,
) -> MemoryPlan:
    """The plan of a posterior, by arithmetic alone.

    Parameters
    ----------
    num_params : int
        ``P``.
    head : {"softmax", "independent", "gaussian"}, optional
        The last-layer structure, with its `num_outputs` ``C`` and `num_features` ``D'``.
    memory_budget : int, optional
        Bytes that curvature and factor may take; by default what the machine has, for them and for
        what Python and JAX take beside them.
    same_prior : bool
        Whether the prior precision is the same for all outputs, which leaves a softmax head
        ``(C - 1) D'`` columns to factor instead of ``C D'``, and a Gaussian head one
        eigendecomposition of edge ``D'`` instead of ``C`` factors.
    layers : FoundLayers, optional
        The layers of other parameters than a last layer, without which "kron" is not in the plan.
    passes : Passes, optional
        JAX's share.
    num_rows : int, optional
        Rows of curvature of all data, at most, where it is known how many points there are.
    """
    setting = Setting(
        num_params, head, num_outputs, num_features, same_prior, layers=layers, num_rows=num_rows
    )
    found = {name: structure_for(name, setting).cost(setting) for name in names_for(setting)}
    costs = {name: cost for name, cost in found.items() if cost is not None}
    if memory_budget is not None:
        # A budget is of the posterior itself, not of what Python and JAX take beside it.
        passes = None
        costs = {name: cost.own() for name, cost in costs.items()}
    return MemoryPlan(
        num_params=num_params,
        head=head,
        costs=costs,
        bytes_available=available_bytes() if memory_budget is None else memory_budget,
        passes=Passes() if passes is None else passes,
    )
