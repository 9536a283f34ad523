"""JAX passes that feed the core: layer inputs, Jacobian rows, and the stream that carries them."""

from hoarfrost.curvature.head import HeadPass, find_head
from hoarfrost.curvature.jacobian import JacobianPass
from hoarfrost.curvature.last_layer import last_layer
from hoarfrost.curvature.layout import HeadLayout
from hoarfrost.curvature.result import PassResult

__all__ = ["HeadLayout", "HeadPass", "JacobianPass", "PassResult", "find_head", "last_layer"]
