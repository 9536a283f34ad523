"""The structures that there are: the only list of their names."""

from __future__ import annotations

from typing import Any

from hoarfrost.checks import is_choice
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.laplace.structure.base import Structure
from hoarfrost.laplace.structure.cost import Setting
from hoarfrost.laplace.structure.diag import DiagonalCurvature
from hoarfrost.laplace.structure.dual import DualCurvature
from hoarfrost.laplace.structure.full import FullCurvature
from hoarfrost.laplace.structure.gaussian_head import GaussianHeadCurvature
from hoarfrost.laplace.structure.head import HeadCurvature
from hoarfrost.laplace.structure.kron import KroneckerCurvature, KroneckerGaussianHead

# Of one name the first that suits the parameters is used.
STRUCTURES: tuple[type[Structure], ...] = (
    GaussianHeadCurvature,
    HeadCurvature,
    FullCurvature,
    DualCurvature,
    KroneckerGaussianHead,
    KroneckerCurvature,
    DiagonalCurvature,
)

NAMES: tuple[str, ...] = tuple(dict.fromkeys(one.structure for one in STRUCTURES))


# "auto" takes the first of them that fits.
AUTO: tuple[str, ...] = ("full", "dual", "diag")


def names_for(setting: Setting) -> tuple[str, ...]:
    """The names that have a structure for such parameters."""
    suited = {one.structure for one in STRUCTURES if one.suits(setting)}
    return tuple(name for name in NAMES if name in suited)


def structure_for(name: str, setting: Setting) -> type[Structure]:
    """The structure of this name for such parameters."""
    return next(one for one in STRUCTURES if one.structure == name and one.suits(setting))


def check_structure(hessian_structure: Any) -> None:
    """Raise `InvalidArgumentError` unless it is a name that there is, or "auto"."""
    if not is_choice(hessian_structure, (*NAMES, "auto")):
        raise InvalidArgumentError(
            f"hessian_structure is {hessian_structure!r}; give {', '.join(map(repr, NAMES))} or "
            "'auto'"
        )
