"""The stream of random keys, where code written for Fortuna looks for it."""

from hoarfrost.prob_model.random import RandomNumberGenerator

__all__ = ["RandomNumberGenerator"]
