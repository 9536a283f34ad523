"""The memory that a posterior will take, said before it is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

from hoarfrost import _core
from hoarfrost.errors import InvalidArgumentError, MemoryLimitError

STRUCTURES = ("full", "diag")
Keep = bool | Literal["auto"]
HeadKind = Literal["softmax", "independent", "gaussian"]


@dataclass(frozen=True)
class MemoryPlan:
    """What each structure of a posterior needs, beside what there is.

    Attributes
    ----------
    num_params : int
        ``P``, the number of trainable parameters.
    head : {"softmax", "independent", "gaussian"} or None
        The last-layer structure that will be used, if any.
    curvature_bytes, factor_bytes, cache_bytes : mapping of str to int
        For each structure, what the likelihood's curvature and the factor take, and what the core
        keeps between predictions.
    bytes_available : int or None
        The memory budget, or what the machine has; None where the system does not say.
    """

    num_params: int
    head: HeadKind | None
    curvature_bytes: Mapping[str, int]
    factor_bytes: Mapping[str, int]
    cache_bytes: Mapping[str, int]
    bytes_available: int | None

    def bytes_needed(self, structure: str, keep_curvature: bool) -> int:
        """Bytes of a posterior of one structure at its peak, predictions included."""
        curvature, factor = self.curvature_bytes[structure], self.factor_bytes[structure]
        cache = self.cache_bytes[structure]
        if keep_curvature:
            return curvature + factor + cache
        # A dense curvature that is not kept is factored where it lies; a head's blocks and its
        # factor are both there while one is made from the other.
        in_place = structure == "full" and self.head is None
        return max(curvature, factor) if in_place else factor + max(curvature, cache)

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
        for name in STRUCTURES if structure == "auto" else (structure,):
            for keep in (True, False) if keep_curvature == "auto" else (bool(keep_curvature),):
                if self.fits(name, keep):
                    return name, keep
        name = "diag" if structure == "auto" else structure
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
            for name in STRUCTURES
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
        for name in STRUCTURES:
            keep = self.fits(name, True)
            verdict = "fits" if keep else "does not fit"
            if not keep and self.fits(name, False):
                verdict = "fits without keeping the curvature"
            lines.append(
                f"  {name:<5} {format_bytes(self.bytes_needed(name, keep)):>10}  {verdict}"
            )
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
) -> MemoryPlan:
    """The plan of a posterior, by arithmetic alone.

    Parameters
    ----------
    num_params : int
        ``P``.
    head : {"softmax", "independent", "gaussian"}, optional
        The last-layer structure, with its `num_outputs` ``C`` and `num_features` ``D'``.
    memory_budget : int, optional
        Bytes that may be used; by default what the machine has.
    same_prior : bool
        Whether the prior precision is the same for all outputs, which leaves a softmax head
        ``(C - 1) D'`` columns to factor instead of ``C D'``, and a Gaussian head one
        eigendecomposition of edge ``D'`` instead of ``C`` factors.
    """
    cache = 0
    if head is None:
        curvature = factor = _core.dense_bytes(num_params)
    elif head == "gaussian":
        curvature, factor, _ = _core.head_bytes("independent", 1, num_features)
        # The matrix, its eigenvectors, and the work space of their computation: three more.
        factor = 40 * num_features**2 if same_prior else num_outputs * factor
        cache = 16 * num_params
    else:
        curvature, factor, cache = _core.head_bytes(head, num_outputs, num_features)
        if head == "softmax" and not same_prior:
            factor = _core.dense_bytes(num_params)
    return MemoryPlan(
        num_params=num_params,
        head=head,
        curvature_bytes={"full": curvature, "diag": 8 * num_params},
        factor_bytes={"full": factor, "diag": 16 * num_params},
        cache_bytes={"full": cache, "diag": 0},
        bytes_available=available_bytes() if memory_budget is None else memory_budget,
    )


def check_memory_budget(memory_budget: Any) -> None:
    """Raise `InvalidArgumentError` unless it is None or a positive whole number of bytes."""
    if memory_budget is None:
        return
    whole = isinstance(memory_budget, Integral) and not isinstance(memory_budget, bool)
    if not whole or memory_budget <= 0:
        raise InvalidArgumentError(
            f"memory_budget is {memory_budget!r}; give a positive whole number of bytes, or None "
            "for what the machine has"
        )


def check_room(what: str, needed: int, remedy: str, budget: int | None = None) -> None:
    """Raise `MemoryLimitError` where there is no room for what is about to be made.

    The room is what the machine has, or what is left of a budget.
    """
    available = available_bytes() if budget is None else budget
    if available is not None and needed > available:
        raise MemoryLimitError(
            f"{what} needs {format_bytes(needed)}, and there are {format_bytes(available)}; "
            f"{remedy}",
            needed,
            available,
        )


def available_bytes() -> int | None:
    """Bytes that this process may still take: the machine's, or its control group's if fewer."""
    found = [_machine_bytes(), *_group_bytes()]
    return min((value for value in found if value is not None), default=None)


def _machine_bytes() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _group_bytes() -> list[int | None]:
    """What the control groups (version 2, then 1) leave, page cache that can be dropped counted."""
    root = Path("/sys/fs/cgroup")
    files = [("memory.max", "memory.current", "memory.stat", "inactive_file")]
    folder = "memory"
    files.append(
        (
            f"{folder}/memory.limit_in_bytes",
            f"{folder}/memory.usage_in_bytes",
            f"{folder}/memory.stat",
            "total_inactive_file",
        )
    )
    return [
        _left(root / limit, root / usage, root / stat, key) for limit, usage, stat, key in files
    ]


def _left(limit: Path, usage: Path, stat: Path, cache_key: str) -> int | None:
    try:
        allowed = int(limit.read_text())  # "max" where there is no limit: a ValueError
        used = int(usage.read_text())
        pairs = (line.split() for line in stat.read_text().splitlines())
        cache = next((int(value) for key, value in pairs if key == cache_key), 0)
    except (OSError, ValueError):
        return None
    return max(0, allowed - used + cache)


def format_bytes(count: int) -> str:
    """A number of bytes as people read it."""
    if count < 1024:
        return f"{count} B"
    size = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024 or unit == "GiB":
            break
    return f"{size:.1f} {unit}"
