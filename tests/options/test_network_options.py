"""Every argument of the ready-made networks changes their program, in Linen and in NNX.

A program is its jaxpr from a key and inputs to parameters and outputs in training: traced, not run.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from entries import Elsewhere, Entry, Other, Subject, cases, check, same, table
from flax import linen as nn
from flax import nnx

from hoarfrost import model

KEY = jax.random.PRNGKey(0)
IMAGES = np.ones((2, 16, 16, 2), np.float32)
VECTORS = np.ones((2, 5), np.float32)
IDS = np.ones((2, 4), np.int32)
HALF = Other(jnp.bfloat16)
RATE = Other(0.25)
OUTPUTS = Other(4)
NORMAL = nn.initializers.normal(1.0)


class Silent(nn.Dropout):
    """Dropout of another kind."""

    def __call__(self, inputs: Any, deterministic: Any = None) -> Any:
        return inputs


def no_bias(dense: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: dense(*args, **{**kwargs, "use_bias": False})


def lax_conv(conv: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: conv(*args, **{**kwargs, "precision": jax.lax.Precision.HIGHEST})


PERCEPTRON: dict[str, Entry] = {
    "output_dim": OUTPUTS,
    "widths": Other((7, 7, 7)),
    "activations": Other((nn.relu, nn.relu, jnp.tanh)),
    "dropout_rate": RATE,
}
RESIDUAL: dict[str, Entry] = {
    "stage_sizes": Other((1, 2)),
    "output_dim": OUTPUTS,
    "num_filters": Other(3),
    "dtype": HALF,
    "activation": Other(jnp.tanh),
}
WIDE: dict[str, Entry] = {
    "output_dim": OUTPUTS,
    "depth": Other(16),
    "widen_factor": Other(2),
    "dropout_rate": RATE,
    "dtype": HALF,
    "activation": Other(jnp.tanh),
    "shortcut_size": Other((3, 3)),
}
TRANSFORMER: dict[str, Entry] = {
    "output_dim": OUTPUTS,
    "width": Other(12),
    "depth": Other(2),
    "num_heads": Other(4),
    "mlp_dim": Other(5),
    "dropout_rate": RATE,
    "lora_rank": Other(2),
    "dtype": HALF,
}
SMALL = {"output_dim": 3, "width": 8, "depth": 1, "num_heads": 2}
TOKENS: dict[str, Entry] = {
    "vocab_size": Other(12),
    "max_length": Other(5),
    "pool": Other("first"),
    "pad_id": Other(0),
}
THREE = {"widths": (6, 6, 6), "activations": (nn.relu, nn.relu, nn.relu)}
DROPPING = {"dropout_rate": 0.5}

# Inputs, a base call and the entries that Linen and NNX share.
SHARED: dict[str, tuple[Any, dict[str, Any], dict[str, Entry]]] = {
    "MLP": (VECTORS, {"output_dim": 3, **THREE, **DROPPING}, PERCEPTRON),
    "DeepResidualNet": (VECTORS, {"output_dim": 3, **THREE, **DROPPING}, PERCEPTRON),
    "LeNet5": (IMAGES, {"output_dim": 3}, {"output_dim": OUTPUTS, "dtype": HALF}),
    "CNN": (
        IMAGES,
        {"output_dim": 3},
        {"output_dim": OUTPUTS, "dropout_rate": RATE, "dtype": HALF},
    ),
    "ResNet": (IMAGES, {"output_dim": 3, "stage_sizes": (1,), "num_filters": 2}, RESIDUAL),
    "WideResNet": (
        IMAGES,
        {"output_dim": 3, "depth": 10, "widen_factor": 1, **DROPPING},
        WIDE,
    ),
    "ViT": (IMAGES, SMALL, {**TRANSFORMER, "patch_size": Other(8)}),
    "TransformerEncoder": (IDS, {**SMALL, "vocab_size": 9}, {**TRANSFORMER, **TOKENS}),
    "LinearModel": (VECTORS, {"output_dim": 3}, {"output_dim": OUTPUTS}),
    "ConstantModel": (
        VECTORS,
        {"output_dim": 3},
        {"output_dim": OUTPUTS, "initializer_fun": Other(NORMAL)},
    ),
    "ScalarConstantModel": (
        VECTORS,
        {"output_dim": 3},
        {"output_dim": OUTPUTS, "initializer_fun": Other(NORMAL)},
    ),
    "HyperparameterModel": (
        VECTORS,
        {"value": np.float32([1, 2])},
        {"value": Other(np.float32([1, 3]))},
    ),
    "ScalarHyperparameterModel": (
        VECTORS,
        {"output_dim": 3, "value": 1.0},
        {"output_dim": OUTPUTS, "value": Other(2.0)},
    ),
}
# Arguments of one of the two.
LINEN: dict[str, dict[str, Entry]] = {
    "MLP": {"dropout": Other(Silent), "dense": Other(no_bias(nn.Dense))},
    "DeepResidualNet": {"dropout": Other(Silent), "dense": Other(no_bias(nn.Dense))},
    "ResNet": {
        "block_cls": Other(model.resnet.BottleneckResNetBlock),
        "conv": Other(lax_conv(nn.Conv)),
    },
    "WideResNet": {"dropout": Other(Silent), "conv": Other(lax_conv(nn.Conv))},
}
NNX: dict[str, dict[str, Entry]] = {
    "MLP": {"input_shape": Other((6,)), "dense": Other(no_bias(nnx.Linear))},
    "DeepResidualNet": {"input_shape": Other((6,)), "dense": Other(no_bias(nnx.Linear))},
    "ResNet": {
        "block_cls": Other(model.nnx.resnet.BottleneckResNetBlock),
        "conv": Other(lax_conv(nnx.Conv)),
        "input_shape": Other((16, 16, 1)),
    },
    "WideResNet": {"conv": Other(lax_conv(nnx.Conv)), "input_shape": Other((16, 16, 1))},
    "LeNet5": {"input_shape": Other((16, 20, 2))},
    "CNN": {"input_shape": Other((16, 20, 2))},
    "ViT": {"input_shape": Other((16, 20, 2))},
    "LinearModel": {"input_shape": Other((6,))},
}


def program(function: Callable[..., Any], *arguments: Any) -> tuple[str, list[Any]]:
    """What a function computes: its jaxpr without addresses, and its constants."""
    closed = jax.make_jaxpr(function)(*arguments)
    return re.sub(r"0x[0-9a-f]+", "", str(closed)), list(closed.consts)


def of_linen(name: str, inputs: Any) -> Callable[..., Any]:
    def run(**given: Any) -> tuple[str, list[Any]]:
        network = getattr(model, name)(**given)

        def made_and_called(key: jax.Array, x: jax.Array) -> Any:
            variables = network.init(key, x)
            rngs = {"dropout": key}
            return variables, network.apply(variables, x, True, rngs=rngs, mutable=["batch_stats"])

        return program(made_and_called, KEY, inputs)

    return run


def of_nnx(name: str, inputs: Any, drawn: bool) -> Callable[..., Any]:
    def run(**given: Any) -> tuple[str, list[Any]]:
        shape = given.get("input_shape")
        x = inputs if shape is None else np.ones((2, *shape), np.float32)

        def made_and_called(key: jax.Array, x: jax.Array) -> Any:
            rngs = {"rngs": nnx.Rngs(key)} if drawn else {}
            module = getattr(model.nnx, name)(**given, **rngs)
            outputs = module(x)
            return nnx.to_pure_dict(nnx.state(module, (nnx.Param, nnx.BatchStat))), outputs

        return program(made_and_called, KEY, x)

    return run


def seeded(name: str, inputs: Any, base: dict[str, Any]) -> Callable[[int], Any]:
    """Values that depend on the random streams."""
    more = {"initializer_fun": NORMAL} if name.endswith("ConstantModel") else {}

    made = jax.jit(lambda key: getattr(model.nnx, name)(**base, **more, rngs=nnx.Rngs(key))(inputs))
    return lambda seed: made(jax.random.PRNGKey(seed))


def documented(cls: Any) -> Any:
    """The class with the arguments of its own, not those that every Linen module has."""
    own = inspect.signature(cls.__init__)
    kept = [p for p in own.parameters.values() if p.name not in ("self", "parent", "name")]
    return type(
        "Documented", (), {"__signature__": own.replace(parameters=kept), "__doc__": cls.__doc__}
    )


def of_networks() -> Iterator[tuple[str, Subject]]:
    for name, (inputs, base, shared) in SHARED.items():
        linen = {**base, "block_cls": model.resnet.ResNetBlock} if name == "ResNet" else base
        yield (
            f"model.{name}",
            Subject(
                documented(getattr(model, name)),
                of_linen(name, inputs),
                lambda base=linen: base,
                {**shared, **LINEN.get(name, {})},
            ),
        )
        cls = getattr(model.nnx, name)
        names = inspect.signature(documented(cls)).parameters
        own = {**base, "block_cls": model.nnx.resnet.ResNetBlock} if name == "ResNet" else {**base}
        if "input_shape" in names:
            own["input_shape"] = inputs.shape[1:]
        rngs = {"rngs": Elsewhere(seeded(name, inputs, own), 0, 1)} if "rngs" in names else {}
        yield (
            f"model.nnx.{name}",
            Subject(
                documented(cls),
                of_nnx(name, inputs, "rngs" in names),
                lambda base=own: base,
                {**shared, **NNX.get(name, {}), **rngs},
            ),
        )


TABLE = table(of_networks())


@pytest.mark.parametrize(("name", "argument"), cases(TABLE))
def test_every_argument_of_a_network_acts(name: str, argument: str) -> None:
    check(name, TABLE[name], argument)


@pytest.mark.parametrize("name", TABLE)
def test_equal_networks_are_equal_programs(name: str) -> None:
    subject = TABLE[name]
    assert same(subject.run(**subject.base()), subject.run(**subject.base()))


def test_every_class_of_networks_has_a_row() -> None:
    """The others are these with some arguments given."""
    for place, prefix in ((model, "model"), (model.nnx, "model.nnx")):
        classes = {name for name in model.nnx.__all__ if inspect.isclass(getattr(place, name))}
        assert {f"{prefix}.{name}" for name in classes} == {
            name for name in TABLE if name.rpartition(".")[0] == prefix
        }
