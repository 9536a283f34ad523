"""JAX passes that feed the core: layer inputs, Jacobian rows, and the stream that carries them."""

from hoarfrost.curvature.head import HeadPass, find_head
from hoarfrost.curvature.jacobian import JacobianPass
from hoarfrost.curvature.last_layer import last_layer
from hoarfrost.curvature.layers import FoundLayers, LayersPass, find_layers
from hoarfrost.curvature.layout import HeadLayout
from hoarfrost.curvature.result import PassResult

__all__ = [
    "FoundLayers",
    "HeadLayout",
    "HeadPass",
    "JacobianPass",
    "LayersPass",
    "PassResult",
    "find_head",
    "find_layers",
    "last_layer",
]
