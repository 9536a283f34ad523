"""A small network of each kind, in Linen and in NNX, and inputs for it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from hoarfrost import model

NUM_OUTPUTS = 3
RNG = np.random.default_rng(3)
KEY = jax.random.PRNGKey(2)
IMAGES = RNG.normal(size=(6, 16, 16, 2)).astype(np.float32)
VECTORS = RNG.normal(size=(6, 5)).astype(np.float32)
IDS = RNG.integers(1, 11, (6, 7))
MASK = np.arange(7) < np.array([7, 3, 1, 6, 7, 2])[:, None]


@dataclass(frozen=True)
class Case:
    """The name of a network, inputs and its arguments."""

    name: str
    inputs: Any
    arguments: dict[str, Any] = field(default_factory=dict)
    shaped: bool = True
    block: str = ""

    def linen(self, **changes: Any) -> Any:
        given = {"output_dim": NUM_OUTPUTS, **self.arguments, **changes}
        if self.block:
            given["block_cls"] = getattr(model.resnet, self.block)
        return getattr(model, self.name)(**given)

    def nnx(self, rngs: Any = None, **changes: Any) -> Any:
        given = {"output_dim": NUM_OUTPUTS, **self.arguments, **changes}
        if self.block:
            given["block_cls"] = getattr(model.nnx.resnet, self.block)
        given |= {"input_shape": self.inputs.shape[1:]} if self.shaped else {}
        return getattr(model.nnx, self.name)(**given, rngs=rngs or nnx.Rngs(0))


CASES = {
    "MLP": Case("MLP", IMAGES, {"widths": (6, 5), "dropout_rate": 0.4}),
    "DeepResidualNet": Case(
        "DeepResidualNet",
        VECTORS,
        {"widths": (6, 6, 6), "activations": (jnp.tanh,) * 3, "dropout_rate": 0.4},
    ),
    "LeNet5": Case("LeNet5", IMAGES),
    "CNN": Case("CNN", IMAGES, {"dropout_rate": 0.4}),
    "ResNet": Case(
        "ResNet", IMAGES, {"stage_sizes": (1, 1), "num_filters": 4}, block="ResNetBlock"
    ),
    "bottlenecks": Case(
        "ResNet", IMAGES, {"stage_sizes": (1, 1), "num_filters": 2}, block="BottleneckResNetBlock"
    ),
    "WideResNet": Case("WideResNet", IMAGES, {"depth": 10, "widen_factor": 1, "dropout_rate": 0.4}),
    "ViT": Case(
        "ViT",
        IMAGES,
        {"patch_size": 8, "width": 8, "depth": 2, "lora_rank": 2, "dropout_rate": 0.4},
    ),
    "TransformerEncoder": Case(
        "TransformerEncoder",
        (IDS, MASK),
        {"vocab_size": 11, "width": 8, "lora_rank": 2, "dropout_rate": 0.4},
        shaped=False,
    ),
    "LinearModel": Case("LinearModel", VECTORS),
    "ConstantModel": Case("ConstantModel", VECTORS, shaped=False),
    "ScalarConstantModel": Case("ScalarConstantModel", VECTORS, shaped=False),
}
# Those whose last layer is a Dense layer.
HEADS = [name for name in CASES if not name.endswith("ConstantModel")]
WITH_DROPOUT = [name for name in CASES if "dropout_rate" in CASES[name].arguments]
WITH_STATISTICS = ["ResNet", "bottlenecks", "WideResNet"]


@functools.cache
def variables(name: str) -> Any:
    """Variables of the Linen network, none of them as it starts (LoRA starts at 0)."""
    case = CASES[name]
    made = jax.jit(case.linen().init)(KEY, case.inputs)
    keys = jax.random.split(KEY, len(jax.tree.leaves(made)))
    keys = jax.tree.unflatten(jax.tree.structure(made), list(keys))
    return jax.tree.map(lambda x, key: x + 0.1 * jax.random.uniform(key, x.shape), made, keys)


def with_weights(module: Any, values: Any) -> Any:
    """The NNX module with the variables of a Linen network."""
    for collection in values.values():
        nnx.update(module, collection)
    return module


def evaluating(module: Any) -> Any:
    """The module in evaluation mode."""
    module.eval()
    return module


def shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: tuple(leaf.shape), tree)


def of_type(module: Any, kind: Any) -> Any:
    """The module's variables of a type as a tree of arrays."""
    return nnx.to_pure_dict(nnx.state(module, kind))


def unrandom() -> Any:
    """Stands for ``nnx.Rngs`` where only shapes matter: one key, which costs no tracing."""
    return SimpleNamespace(params=lambda: jax.random.PRNGKey(0))


def draws(run: Callable[[int], Any]) -> tuple[Any, Any, Any]:
    """A run with one seed, with the same and with another."""
    return run(0), run(0), run(1)
