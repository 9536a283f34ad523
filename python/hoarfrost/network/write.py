"""Values put back into a user's module, where it is one that holds values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hoarfrost.checks import shown
from hoarfrost.dtypes import is_real_array
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.network.nested import by_path, nested
from hoarfrost.network.recognise import is_nnx_module
from hoarfrost.types import Tree, join


def write_to_module(module: Any, values: Tree, changed: Tree = None) -> None:
    """Put values into an NNX module: all that are given, or on an error none.

    Parameters
    ----------
    module : flax.nnx.Module
        Changed in place; what is not given stays as it is.
    values : nested dict
        Arrays at the module's own paths.
    changed : nested dict, optional
        Put in the place of those of `values`.

    Raises
    ------
    InvalidArgumentError
        If `module` is no NNX module, or has no variable at a path.
    ShapeError
        If a variable there has another shape.
    """
    if not is_nnx_module(module):
        raise InvalidArgumentError(
            f"module is a {type(module).__name__}; give an NNX module (no other holds parameters: "
            "what the posterior's merge gives goes where the parameters came from)"
        )
    if changed is not None and not isinstance(changed, Mapping):
        raise InvalidArgumentError(
            f"tree is a {type(changed).__name__}; give a nested dict, such as one draw of sample()"
        )
    from hoarfrost.network.nnx_module import write_values

    own, others = by_path(values), by_path(changed or {})
    for path, leaf in others.items():
        if not is_real_array(leaf):
            raise InvalidArgumentError(
                f"tree at {join(path)!r} is {shown(leaf)}; give an array of real numbers"
            )
        if any(path[: len(place)] == place != path for place in own):
            raise InvalidArgumentError(
                f"tree has a leaf at {join(path)!r}, below one of the module's variables; give a "
                "tree such as one draw of sample()"
            )
    write_values(module, nested({**own, **others}))
