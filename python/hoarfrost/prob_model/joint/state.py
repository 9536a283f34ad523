"""Parameters of a model, where code written for Fortuna looks for them."""

from hoarfrost.prob_model.state import JointState

__all__ = ["JointState"]
