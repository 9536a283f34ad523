"""The joint distribution of targets and parameters."""

from hoarfrost.prob_model.joint.base import Joint

__all__ = ["Joint"]
