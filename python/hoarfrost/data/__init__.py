"""Data loaders: batches of inputs and targets that can be gone over any number of times."""

from hoarfrost.data.hugging_face import HuggingFaceDataLoader
from hoarfrost.data.loaders import DataLoader
from hoarfrost.data.single import InputsLoader, TargetsLoader

__all__ = ["DataLoader", "HuggingFaceDataLoader", "InputsLoader", "TargetsLoader"]
