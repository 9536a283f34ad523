"""The state of a posterior, where code written for Fortuna looks for it."""

from hoarfrost.prob_model.state import PosteriorState

__all__ = ["PosteriorState"]
