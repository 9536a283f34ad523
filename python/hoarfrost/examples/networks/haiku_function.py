"""A Haiku function with state: ``python -m hoarfrost.examples.networks.haiku_function``."""

from __future__ import annotations

from typing import Any

import jax

from hoarfrost.examples.networks.demonstration import (
    Apply,
    check_installed,
    digits,
    show,
    versions,
)
from hoarfrost.types import Path, Tree


def as_function(transformed: Any, params: Tree, state: Tree) -> tuple[Apply, Tree]:
    """What `haiku.transform_with_state` gives as ``(apply, params)``, in evaluation mode.

    The function must take ``is_training``. Its state (BatchNorm's statistics) is bound by a
    `jax.tree_util.Partial`, by which it is frozen and no constant of a program. A function without
    state needs none of this: ``haiku.without_apply_rng(haiku.transform(function)).apply``.
    """

    def apply(state: Tree, params: Tree, inputs: Tree) -> Any:
        return transformed.apply(params, state, None, inputs, is_training=False)[0]

    bound: Any = jax.tree_util.Partial(apply, state)  # type: ignore[no-untyped-call]
    return bound, params


def head(path: Path, value: Any) -> bool:
    """Choose the leaves of the module that is called "head"."""
    return path[0] == "head"


def network(inputs: Any, seed: int = 0) -> tuple[Any, Tree, Tree]:
    """A hidden layer with BatchNorm, dropout and a head, with random weights and their state."""
    import haiku as hk

    def function(inputs: Any, is_training: bool) -> Any:
        hidden = hk.Linear(128, name="body")(inputs)
        hidden = jax.nn.relu(hk.BatchNorm(True, True, 0.9, name="norm")(hidden, is_training))
        if is_training:
            hidden = hk.dropout(hk.next_rng_key(), 0.5, hidden)
        return hk.Linear(10, name="head")(hidden)

    transformed = hk.transform_with_state(function)
    params, state = transformed.init(jax.random.key(seed), inputs, is_training=True)
    return transformed, params, state


def main() -> None:
    """Print the table."""
    check_installed(haiku="dm-haiku")
    data = digits(64)
    apply, params = as_function(*network(data.train[0][:2]))
    show(f"Haiku ({versions('dm-haiku')})", apply, params, head, data)


if __name__ == "__main__":
    main()
