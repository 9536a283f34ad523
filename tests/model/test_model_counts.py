"""Parameters of the ready-made networks: as many as published, and under Fortuna's paths."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from flax.traverse_util import flatten_dict
from model_cases import shapes, unrandom

from hoarfrost import model

IMAGENET = ((224, 224, 3), 1000)
CIFAR = ((32, 32, 3), 10)
# What torchvision (ResNets), timm (ResNet200, ViTs), the papers' own code (wide ResNets, CIFAR-10)
# and textbooks (the rest) say.
PUBLISHED = {
    "ResNet18": (*IMAGENET, 11_689_512),
    "ResNet34": (*IMAGENET, 21_797_672),
    "ResNet50": (*IMAGENET, 25_557_032),
    "ResNet101": (*IMAGENET, 44_549_160),
    "ResNet152": (*IMAGENET, 60_192_808),
    "ResNet200": (*IMAGENET, 64_673_832),
    "WideResNet16_4": (*CIFAR, 2_748_890),
    "WideResNet28_10": (*CIFAR, 36_479_194),
    "ViTTi16": (*IMAGENET, 5_717_416),
    "ViTS16": (*IMAGENET, 22_050_664),
    "ViTB16": (*IMAGENET, 86_567_656),
    "LeNet5": ((32, 32, 1), 10, 61_706),
    "CNN": ((28, 28, 1), 10, 693_962),
}
DISTILBERT = {"vocab_size": 30522, "max_length": 512, "width": 768, "depth": 6, "num_heads": 12}


def of_linen(network, inputs):
    return jax.eval_shape(network.init, jax.random.PRNGKey(0), inputs)


def of_nnx(make):
    """Shapes of parameters and statistics, with nothing allocated."""
    module = nnx.eval_shape(make)
    kinds = {"params": nnx.Param, "batch_stats": nnx.BatchStat}
    return {name: nnx.to_pure_dict(nnx.state(module, kind)) for name, kind in kinds.items()}


def count(params):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_has_the_published_number_of_parameters(name):
    shape, outputs, published = PUBLISHED[name]
    linen = of_linen(getattr(model, name)(output_dim=outputs), jnp.zeros((1, *shape)))
    assert count(linen["params"]) == published
    made = of_nnx(lambda: getattr(model.nnx, name)(shape, outputs, rngs=unrandom()))
    assert shapes(made["params"]) == shapes(linen["params"])
    assert shapes(made["batch_stats"]) == shapes(linen.get("batch_stats", {}))


def test_an_encoder_of_distilberts_sizes_has_its_number_of_parameters():
    """66,362,880 without a head; a norm before the head stands for that after the embedding."""
    network = model.TransformerEncoder(2, **DISTILBERT)
    linen = of_linen(network, jnp.zeros((1, 8), int))
    assert count(linen["params"]["dfe_subnet"]) == 66_362_880
    made = of_nnx(lambda: model.nnx.TransformerEncoder(2, **DISTILBERT, rngs=unrandom()))
    assert shapes(made["params"]) == shapes(linen["params"])


def test_fortunas_shortcut_of_a_wide_network_is_three_by_three():
    network = model.WideResNet28_10(output_dim=10, shortcut_size=(3, 3))
    linen = of_linen(network, jnp.zeros((1, 32, 32, 3)))
    more = 8 * (16 * 160 + 160 * 320 + 320 * 640)
    assert count(linen["params"]) == 36_479_194 + more
    make = lambda: model.nnx.WideResNet28_10(  # noqa: E731
        (32, 32, 3), 10, shortcut_size=(3, 3), rngs=unrandom()
    )
    assert shapes(of_nnx(make)["params"]) == shapes(linen["params"])


@pytest.mark.parametrize(
    ("network", "shape", "paths"),
    [
        (
            model.MLP(2),
            (4,),
            {"dfe_subnet/hidden1/kernel", "dfe_subnet/hidden2/bias", "output_subnet/last/kernel"},
        ),
        (
            model.DeepResidualNet(2),
            (4,),
            {"dfe_subnet/hidden1/kernel", "dfe_subnet/hidden2/bias", "output_subnet/last/kernel"},
        ),
        (
            model.LeNet5(2),
            (28, 28, 1),
            {
                "dfe_subnet/Conv_0/kernel",
                "dfe_subnet/Conv_1/bias",
                "dfe_subnet/Dense_0/kernel",
                "dfe_subnet/Dense_1/bias",
                "output_subnet/Dense_0/kernel",
            },
        ),
        (
            model.CNN(2),
            (8, 8, 1),
            {
                "hidden_layers/Conv_0/kernel",
                "last_layer/Dense_0/kernel",
                "last_layer/Dense_1/bias",
            },
        ),
        (
            model.ResNet18(2),
            (32, 32, 3),
            {
                "dfe_subnet/conv_init/kernel",
                "dfe_subnet/bn_init/scale",
                "dfe_subnet/ResNetBlock_0/Conv_1/kernel",
                "dfe_subnet/ResNetBlock_7/BatchNorm_1/bias",
                "dfe_subnet/ResNetBlock_2/conv_proj/kernel",
                "dfe_subnet/ResNetBlock_2/norm_proj/scale",
                "output_subnet/Dense_0/bias",
            },
        ),
        (
            model.ResNet50(2),
            (32, 32, 3),
            {
                "dfe_subnet/BottleneckResNetBlock_0/conv_proj/kernel",
                "dfe_subnet/BottleneckResNetBlock_15/Conv_2/kernel",
                "output_subnet/Dense_0/bias",
            },
        ),
        (
            model.WideResNet16_4(2),
            (32, 32, 3),
            {
                "dfe_subnet/init_conv/kernel",
                "dfe_subnet/WideResnetGroup_0/WideResnetBlock_0/Conv_0/kernel",
                "dfe_subnet/WideResnetGroup_2/WideResnetBlock_1/bn1/scale",
                "dfe_subnet/WideResnetGroup_2/WideResnetBlock_1/conv2/kernel",
                "dfe_subnet/BatchNorm_0/scale",
                "output_subnet/Dense_0/bias",
            },
        ),
        (model.LinearModel(2), (4,), {"last/kernel", "last/bias"}),
        (model.ConstantModel(2), (4,), {"constant"}),
        (model.ScalarConstantModel(2), (4,), {"scalar"}),
        (model.ScalarHyperparameterModel(2, 0.5), (4,), {"none"}),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "init") else "",
)
def test_parameters_have_fortunas_paths(network, shape, paths):
    params = of_linen(network, jnp.zeros((1, *shape)))["params"]
    found = {"/".join(path) for path in flatten_dict(params)}
    assert paths <= found
    tops = {path.split("/")[0] for path in paths}
    assert {path.split("/")[0] for path in found} == tops


def test_fortunas_modules_hold_its_names():
    from hoarfrost.model import cnn, constant, hyper, lenet, linear, mlp, resnet, wideresnet
    from hoarfrost.model.scalar_constant import ScalarConstantModel
    from hoarfrost.model.scalar_hyper import ScalarHyperparameterModel

    places = {
        cnn: ["CNN", "CNNHiddenLayers", "CNNLastLayer"],
        constant: ["ConstantModel"],
        hyper: ["HyperparameterModel"],
        lenet: ["LeNet5", "LeNet5DeepFeatureExtractorSubNet", "LeNet5OutputSubNet"],
        linear: ["LinearModel"],
        mlp: [
            "MLP",
            "DeepResidualNet",
            "MLPDeepFeatureExtractorSubNet",
            "DeepResidualFeatureExtractorSubNet",
            "MLPOutputSubNet",
        ],
        resnet: resnet.__all__,
        wideresnet: wideresnet.__all__,
    }
    for place, names in places.items():
        assert all(getattr(place, name).__doc__ for name in names)
    assert model.ScalarConstantModel is ScalarConstantModel
    assert model.ScalarHyperparameterModel is ScalarHyperparameterModel
    assert set(model.__all__) - {"nnx"} == set(model.nnx.__all__)
