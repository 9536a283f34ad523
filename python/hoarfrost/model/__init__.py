"""Ready-made networks: in Linen under Fortuna's names, and in NNX in `hoarfrost.model.nnx`.

Most are a deep feature extractor, "dfe_subnet", and a last layer, "output_subnet", so that
``lambda path, value: "output_subnet" in path`` selects the head. A Linen network trains if it is
called with ``train=True``.
"""

from hoarfrost.model import nnx
from hoarfrost.model.cnn import CNN
from hoarfrost.model.constant import ConstantModel
from hoarfrost.model.hyper import HyperparameterModel
from hoarfrost.model.lenet import LeNet5
from hoarfrost.model.linear import LinearModel
from hoarfrost.model.mlp import MLP, DeepResidualNet
from hoarfrost.model.resnet import (
    ResNet,
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
    ResNet200,
)
from hoarfrost.model.scalar_constant import ScalarConstantModel
from hoarfrost.model.scalar_hyper import ScalarHyperparameterModel
from hoarfrost.model.transformer import TransformerEncoder
from hoarfrost.model.vit import ViT, ViTB16, ViTS16, ViTTi16
from hoarfrost.model.wideresnet import WideResNet, WideResNet16_4, WideResNet28_10

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
    "nnx",
]
