"""Each recipe of `hoarfrost.examples.networks` with a small network of its library."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from hoarfrost.examples.networks import (
    bonsai_vit,
    equinox_module,
    haiku_function,
    hugging_face,
    keras3,
    pytorch,
)
from hoarfrost.examples.networks.demonstration import Data, digits

SIZE = 24


@dataclass(frozen=True)
class Case:
    """A network through its recipe, and the outputs that its own library gives.

    `leaves` are the paths of the head, `own` is called again after the fit.
    """

    apply: Callable[[Any, Any], Any]
    params: Any
    head: Callable[[Any, Any], bool]
    leaves: set[str]
    inputs: Any
    targets: np.ndarray
    own: Callable[[], np.ndarray]


def few(data: Data) -> tuple[Any, np.ndarray]:
    inputs, targets = data.train
    if isinstance(inputs, dict):
        return {key: value[:SIZE] for key, value in inputs.items()}, targets[:SIZE]
    return inputs[:SIZE], targets[:SIZE]


def of_pytorch() -> Case:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchax")
    module = pytorch.network()
    inputs, targets = few(digits(1, 8, 8))

    def own() -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(inputs)).numpy()

    leaves = {"head.weight", "head.bias"}
    return Case(*pytorch.as_function(module), pytorch.head, leaves, inputs, targets, own)


def of_hugging_face() -> Case:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchax")
    pytest.importorskip("transformers")
    model = hugging_face.network()
    inputs, targets = few(hugging_face.sequences(SIZE))

    def own() -> np.ndarray:
        with torch.no_grad():
            tensors = {key: torch.from_numpy(value) for key, value in inputs.items()}
            return model(**tensors).logits.numpy()

    leaves = {"classifier.weight", "classifier.bias"}
    made = hugging_face.as_function(model)
    return Case(*made, hugging_face.head, leaves, inputs, targets, own)


def of_keras() -> Case:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    pytest.importorskip("keras")
    model = keras3.network()
    inputs, targets = few(digits(8, 8, 1))

    def own() -> np.ndarray:
        return np.asarray(model(inputs, training=False))

    leaves = {f"{model.name}/head/kernel", f"{model.name}/head/bias"}
    return Case(*keras3.as_function(model), keras3.head, leaves, inputs, targets, own)


def of_equinox() -> Case:
    eqx = pytest.importorskip("equinox")
    import jax

    module = equinox_module.network()
    inputs, targets = few(digits(64))

    def own() -> np.ndarray:
        return np.asarray(jax.vmap(eqx.nn.inference_mode(module))(inputs))

    leaves = {"layers/2/weight", "layers/2/bias"}
    made = equinox_module.as_function(module)
    return Case(*made, equinox_module.head, leaves, inputs, targets, own)


def of_haiku() -> Case:
    pytest.importorskip("haiku")
    inputs, targets = few(digits(64))
    transformed, params, state = haiku_function.network(inputs)

    def own() -> np.ndarray:
        return np.asarray(transformed.apply(params, state, None, inputs, is_training=False)[0])

    made = haiku_function.as_function(transformed, params, state)
    leaves = {"head/w", "head/b"}
    return Case(*made, haiku_function.head, leaves, inputs, targets, own)


def of_nnx(module: Any) -> Case:
    from flax import nnx

    inputs, targets = few(digits(8, 8, 1))

    def own() -> np.ndarray:
        evaluated = nnx.clone(module)
        evaluated.eval()
        return np.asarray(evaluated(inputs, rngs=None))

    leaves = {"classifier/kernel", "classifier/bias"}
    made = bonsai_vit.as_function(module)
    return Case(*made, bonsai_vit.head, leaves, inputs, targets, own)


def of_bonsai() -> Case:
    pytest.importorskip("bonsai.models.vit.modeling")
    return of_nnx(bonsai_vit.network())


def of_bonsai_like() -> Case:
    from standins import vision_network

    return of_nnx(vision_network())


def of_torchax_stand_in() -> Case:
    import standins

    module = standins.TorchModule()
    inputs, targets = few(digits(64))
    leaves = {"head.weight", "head.bias"}
    made = pytorch.as_function(module)
    return Case(
        *made, pytorch.head, leaves, inputs, targets, lambda: np.asarray(module.forward(inputs))
    )


CASES: dict[str, Callable[[], Case]] = {
    "pytorch": of_pytorch,
    "hugging face": of_hugging_face,
    "keras": of_keras,
    "equinox": of_equinox,
    "haiku": of_haiku,
    "bonsai": of_bonsai,
    "bonsai-like": of_bonsai_like,
    "torchax stand-in": of_torchax_stand_in,
}
