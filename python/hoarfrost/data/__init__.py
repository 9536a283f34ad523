"""Data loaders: batches of inputs and targets that can be gone over any number of times."""

from hoarfrost.data.loaders import DataLoader
from hoarfrost.data.single import InputsLoader, TargetsLoader

__all__ = ["DataLoader", "InputsLoader", "TargetsLoader"]
