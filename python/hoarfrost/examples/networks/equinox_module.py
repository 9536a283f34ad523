"""An Equinox module: ``python -m hoarfrost.examples.networks.equinox_module``."""

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


def as_function(module: Any) -> tuple[Apply, Tree]:
    """A module of one point as ``(apply, params)`` of a batch, with dropout switched off.

    ``params`` are the module with all that is no array left out; their paths are its attributes,
    such as "layers/2/weight".
    """
    import equinox as eqx

    params, static = eqx.partition(eqx.nn.inference_mode(module), eqx.is_array)
    return lambda params, inputs: jax.vmap(eqx.combine(params, static))(inputs), params


def head(path: Path, value: Any) -> bool:
    """Choose the leaves of the last layer."""
    return path[:2] == ("layers", 2)


def network(seed: int = 0) -> Any:
    """A hidden layer, dropout and a head, of random weights."""
    import equinox as eqx

    body, last = jax.random.split(jax.random.key(seed))
    return eqx.nn.Sequential(
        [
            eqx.nn.MLP(64, 128, 128, 1, final_activation=jax.nn.relu, key=body),
            eqx.nn.Dropout(0.5),
            eqx.nn.Linear(128, 10, key=last),
        ]
    )


def main() -> None:
    """Print the table."""
    check_installed(equinox="equinox")
    apply, params = as_function(network())
    show(f"Equinox ({versions('equinox')})", apply, params, head, digits(64))


if __name__ == "__main__":
    main()
