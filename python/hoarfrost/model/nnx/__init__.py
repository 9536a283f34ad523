"""The networks of `hoarfrost.model` in NNX, under the same names.

The first argument is the shape of one point (of `TransformerEncoder`, `ConstantModel` and the like,
the number of outputs), and ``rngs`` gives initial values and dropout. As all NNX modules they train
when they are new; ``module.eval()`` or `flax.nnx.view` switches dropout and BatchNorm. Parameters
and statistics have the paths that they have in Linen, so that
``nnx.update(module, variables["params"])`` takes over a Linen network's parameters.
"""

from hoarfrost.model.nnx.cnn import CNN
from hoarfrost.model.nnx.constant import (
    ConstantModel,
    HyperparameterModel,
    LinearModel,
    ScalarConstantModel,
    ScalarHyperparameterModel,
)
from hoarfrost.model.nnx.lenet import LeNet5
from hoarfrost.model.nnx.mlp import MLP, DeepResidualNet
from hoarfrost.model.nnx.resnet import (
    ResNet,
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
    ResNet200,
)
from hoarfrost.model.nnx.transformer import TransformerEncoder
from hoarfrost.model.nnx.vit import ViT, ViTB16, ViTS16, ViTTi16
from hoarfrost.model.nnx.wideresnet import WideResNet, WideResNet16_4, WideResNet28_10

__all__ = [
    "CNN",
    "MLP",
    "ConstantModel",
    "DeepResidualNet",
    "HyperparameterModel",
    "LeNet5",
    "LinearModel",
    "ResNet",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "ResNet200",
    "ScalarConstantModel",
    "ScalarHyperparameterModel",
    "TransformerEncoder",
    "ViT",
    "ViTB16",
    "ViTS16",
    "ViTTi16",
    "WideResNet",
    "WideResNet16_4",
    "WideResNet28_10",
]
