"""What cannot be a network is refused when it is made, in Linen and in NNX alike."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_cases import CASES, variables, with_weights

from hoarfrost import model
from hoarfrost.errors import InvalidArgumentError, ShapeError

BOTH = [
    ("MLP", {"output_dim": 0}, "output_dim is 0"),
    ("MLP", {"widths": ()}, "widths is"),
    ("MLP", {"widths": (4, 0)}, "widths is"),
    ("MLP", {"widths": (4, 4, 4)}, "widths has 3 entries and activations has 2"),
    ("MLP", {"activations": (jnp.tanh, "relu")}, "tuple of functions"),
    ("MLP", {"dropout_rate": 1.0}, "dropout_rate is 1.0"),
    ("MLP", {"dropout_rate": float("nan")}, "dropout_rate is nan"),
    ("DeepResidualNet", {"widths": (6, 6, 1)}, "same width"),
    ("LeNet5", {"output_dim": 2.0}, "output_dim is 2.0"),
    ("CNN", {"output_dim": -1}, "output_dim is -1"),
    ("CNN", {"dropout_rate": -0.1}, "dropout_rate is -0.1"),
    ("ResNet", {"num_filters": 0}, "num_filters is 0"),
    ("ResNet", {"output_dim": None}, "output_dim is None"),
    ("WideResNet", {"depth": 12}, "give 6 n"),
    ("WideResNet", {"depth": 10**400}, "at most 10,000"),
    ("WideResNet", {"widen_factor": 0}, "widen_factor is 0"),
    ("WideResNet", {"output_dim": 0}, "output_dim is 0"),
    ("WideResNet", {"dropout_rate": 2}, "dropout_rate is 2"),
    ("ViT", {"num_heads": 3}, "multiple of num_heads"),
    ("ViT", {"patch_size": 0}, "patch_size is 0"),
    ("ViT", {"lora_rank": -1}, "lora_rank is -1"),
    ("ViT", {"mlp_dim": 0}, "mlp_dim is 0"),
    ("ViT", {"dropout_rate": 1}, "dropout_rate is 1"),
    ("TransformerEncoder", {"vocab_size": 0}, "vocab_size is 0"),
    ("TransformerEncoder", {"max_length": 0}, "max_length is 0"),
    ("TransformerEncoder", {"depth": 0}, "depth is 0"),
    ("TransformerEncoder", {"pool": "max"}, "pool is 'max'; give one of 'mean'"),
    ("TransformerEncoder", {"pad_id": -1}, "pad_id is -1"),
    ("LinearModel", {"output_dim": 0}, "output_dim is 0"),
    ("ConstantModel", {"output_dim": 0}, "output_dim is 0"),
    ("ScalarConstantModel", {"output_dim": 0}, "output_dim is 0"),
]


@pytest.mark.parametrize(("name", "changes", "message"), BOTH)
def test_an_argument_that_makes_no_sense_is_named(name, changes, message):
    for make in (CASES[name].linen, CASES[name].nnx):
        with pytest.raises(InvalidArgumentError, match=message):
            make(**changes)


@pytest.mark.parametrize("value", [1.0, [[1.0]], [], ["a"], [np.nan]])
def test_a_vector_that_is_none_is_refused(value):
    for cls in (model.HyperparameterModel, model.nnx.HyperparameterModel):
        with pytest.raises(InvalidArgumentError, match="value "):
            cls(np.array(value))


@pytest.mark.parametrize("value", ["a", None, np.inf, True])
def test_a_number_that_is_none_is_refused(value):
    for cls in (model.ScalarHyperparameterModel, model.nnx.ScalarHyperparameterModel):
        with pytest.raises(InvalidArgumentError, match="value is"):
            cls(2, value)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("MLP", 4, "input_shape is 4"),
        ("MLP", (), "input_shape is"),
        ("LinearModel", (0,), "input_shape is"),
        ("LeNet5", (28, 28), "height, width, channels"),
        ("LeNet5", (15, 28, 1), "at least 16 x 16"),
        ("CNN", (3, 8, 1), "at least 4 x 4"),
        ("ResNet18", (3,), "height, width, channels"),
        ("WideResNet16_4", (32, 32, -3), "height, width, channels"),
        ("ViT", (16, 16), "height, width, channels"),
    ],
)
def test_a_shape_that_no_point_has_is_refused(name, shape, message):
    with pytest.raises(InvalidArgumentError, match=message):
        getattr(model.nnx, name)(shape, 2, rngs=nnx.Rngs(0))


def test_patches_that_do_not_tile_are_refused():
    with pytest.raises(ShapeError, match="divide into patches of patch_size 5"):
        model.nnx.ViT((16, 16, 1), 2, patch_size=5, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("name", ["LeNet5", "CNN", "ResNet", "WideResNet"])
def test_what_is_no_image_is_refused(name):
    case, values = CASES[name], variables(name)
    for run in (lambda x: case.linen().apply(values, x), with_weights(case.nnx(), values)):
        with pytest.raises(ShapeError, match="give images"):
            run(case.inputs[0])
