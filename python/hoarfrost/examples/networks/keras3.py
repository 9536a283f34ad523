"""A Keras 3 model on JAX: ``KERAS_BACKEND=jax python -m hoarfrost.examples.networks.keras3``."""

from __future__ import annotations

import os
from typing import Any

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.examples.networks.demonstration import (
    Apply,
    check_installed,
    digits,
    show,
    versions,
)
from hoarfrost.types import Path, Tree


def as_function(model: Any) -> tuple[Apply, Tree]:
    """A built Keras model on JAX as ``(apply, params)``, in inference mode.

    ``params`` are all its variables by their paths, such as "sequential/head/kernel". They are
    handed over by path, so that ``layer.trainable = False``, which moves variables from one of
    Keras's lists to the other, does not mix them up.

    Raises
    ------
    InvalidArgumentError
        If Keras computes with another backend than JAX, the model is not built, or two variables
        have the same path.
    """
    import keras

    if keras.config.backend() != "jax":
        raise InvalidArgumentError(
            f"Keras computes with {keras.config.backend()}; set the environment variable "
            "KERAS_BACKEND to jax before Keras is imported"
        )
    if not model.built:
        raise InvalidArgumentError("the Keras model is not built; call it once on some inputs")
    params = {variable.path: variable.value for variable in model.variables}
    if len(params) != len(model.variables):
        raise InvalidArgumentError(
            "two variables of the Keras model have the same path; give its layers different names"
        )

    def apply(params: Tree, inputs: Tree) -> Any:
        lists = [
            [params[variable.path] for variable in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]
        return model.stateless_call(*lists, inputs, training=False)[0]

    return apply, params


def head(path: Path, value: Any) -> bool:
    """Choose the leaves of the layer that is called "head"."""
    return "/head/" in str(path[0])


def network(seed: int = 0) -> Any:
    """A convolution with BatchNorm, dropout and a head, of random weights."""
    import keras

    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, padding="same", name="conv"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.ReLU(),
            keras.layers.AveragePooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(10, name="head"),
        ]
    )


def main() -> None:
    """Print the table."""
    check_installed(keras="keras>=3")
    os.environ.setdefault("KERAS_BACKEND", "jax")
    apply, params = as_function(network())
    show(f"Keras ({versions('keras')})", apply, params, head, digits(8, 8, 1))


if __name__ == "__main__":
    main()
