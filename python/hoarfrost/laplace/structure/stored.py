"""Curvatures and factors in a file: what they are in its header, their numbers in its arrays."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from hoarfrost import _core
from hoarfrost.errors import CurvatureStateError, SavedFileError
from hoarfrost.laplace.structure.base import Cores, Curvature, Factor
from hoarfrost.laplace.structure.cost import Setting
from hoarfrost.laplace.structure.diag import DiagonalFactor
from hoarfrost.laplace.structure.dual import DualFactor
from hoarfrost.laplace.structure.full import FullFactor
from hoarfrost.laplace.structure.gaussian_head import GramFactor, SeparateFactors
from hoarfrost.laplace.structure.head import HeadFactor
from hoarfrost.laplace.structure.kron_factor import KroneckerFactor
from hoarfrost.laplace.structure.registry import structure_for
from hoarfrost.storage import Pieces, StoredFile
from hoarfrost.types import Array

Header = dict[str, Any]
Arrays = dict[str, "Array | Pieces"]

# What files call them.
FACTORS: dict[str, type[Factor]] = {
    "full": FullFactor,
    "head": HeadFactor,
    "gram": GramFactor,
    "separate": SeparateFactors,
    "diagonal": DiagonalFactor,
    "kronecker": KroneckerFactor,
    "dual": DualFactor,
}
_NAMES = {cls: name for name, cls in FACTORS.items()}


def add_curvature(curvature: Curvature, prefix: str, arrays: Arrays) -> Header:
    """The header of a curvature, whose numbers are added to `arrays` under names with a prefix."""
    noise = getattr(curvature, "noise_precision", None)
    if noise is not None:
        # That with which the points were added, whatever the likelihood says by now.
        arrays[f"{prefix}noise_precision"] = noise
    core = curvature.core
    if isinstance(core, Cores):
        cores = [
            _add_core(one, f"{prefix}{place}.", arrays) for place, one in enumerate(core.parts)
        ]
        return {"cores": cores, "has_noise": False}
    return {**_add_core(core, prefix, arrays), "has_noise": noise is not None}


def curvature_of(
    structure: str, setting: Setting, header: Header, prefix: str, stored: StoredFile
) -> Curvature:
    """The curvature of a file."""
    core: Any
    if "cores" in header:
        parts = enumerate(header["cores"])
        core = Cores(tuple(_core_of(one, f"{prefix}{place}.", stored) for place, one in parts))
    else:
        core = _core_of(header, prefix, stored)
    curvature: Any = structure_for(structure, setting).of_core(setting, core)
    if header["has_noise"]:
        curvature.noise_precision = stored.array(f"{prefix}noise_precision").copy()
    found: Curvature = curvature
    return found


def progress_of(curvature: Curvature) -> dict[str, float] | None:
    """How far a factorisation is; None where it has no state that is worth a file."""
    try:
        return dict(_core.stored(curvature.core)[0])
    except CurvatureStateError:
        return None


def add_factor(factor: Factor, prefix: str, arrays: Arrays) -> Header:
    """The header of a factor, whose numbers are added to `arrays` under names with a prefix."""
    settings: Header = {}
    for name in _own_fields(type(factor)):
        value = getattr(factor, name)
        if isinstance(value, np.ndarray):
            arrays[f"{prefix}{name}"] = value
            value = None
        settings[name] = value
    posterior = factor.posterior
    shared = isinstance(factor, SeparateFactors | KroneckerFactor)
    # Outputs under the same noise share one.
    made = {id(one): one for one in (posterior if shared else [posterior])}
    places = {key: place for place, key in enumerate(made)}
    cores = [_add_core(one, f"{prefix}{place}.", arrays) for place, one in enumerate(made.values())]
    which = [places[id(one)] for one in posterior] if shared else None
    return {
        "kind": _NAMES[type(factor)],
        "settings": settings,
        "cores": cores,
        "core_of_output": which,
    }


def factor_of(order: Array, header: Header, prefix: str, stored: StoredFile) -> Factor:
    """The factor of a file, over parameters in this order.

    Raises
    ------
    SavedFileError
        If the file does not hold one.
    """
    cls: Any = FACTORS.get(header["kind"])
    if cls is None:
        raise SavedFileError(f"{stored.path} holds a factor of kind {header['kind']!r}: unknown")
    settings = {
        name: stored.array(f"{prefix}{name}").copy()
        if value is None and _is_array(cls, name)
        else value
        for name, value in header["settings"].items()
    }
    cores = [
        _core_of(core, f"{prefix}{place}.", stored) for place, core in enumerate(header["cores"])
    ]
    which = header["core_of_output"]
    posterior = cores[0] if which is None else [cores[place] for place in which]
    factor: Factor = cls(posterior, order, **settings)
    return factor


def _own_fields(cls: type[Factor]) -> list[str]:
    names = [one.name for one in dataclasses.fields(cls)]
    return [name for name in names if name not in ("posterior", "order")]


def _is_array(cls: type[Factor], name: str) -> bool:
    types = {one.name: one.type for one in dataclasses.fields(cls)}
    return types[name] == "Array"


def _add_core(core: Any, prefix: str, arrays: Arrays) -> Header:
    numbers, lengths = _core.stored(core)
    for name, length in lengths:
        read: Callable[[int, int], Array] = functools.partial(_core.stored_values, core, name)
        arrays[f"{prefix}{name}"] = Pieces(length, read)
    return {
        "class": type(core).__name__,
        "numbers": dict(numbers),
        "arrays": [name for name, _ in lengths],
    }


def _core_of(header: Header, prefix: str, stored: StoredFile) -> Any:
    places = {name: stored.place(f"{prefix}{name}") for name in header["arrays"]}
    return _core.restored(header["class"], stored.descriptor(), header["numbers"], places)
