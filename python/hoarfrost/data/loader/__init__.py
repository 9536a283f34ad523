"""The data loaders, where code written for Fortuna looks for them."""

from hoarfrost.data.loaders import DataLoader
from hoarfrost.data.single import InputsLoader, TargetsLoader

__all__ = ["DataLoader", "InputsLoader", "TargetsLoader"]
