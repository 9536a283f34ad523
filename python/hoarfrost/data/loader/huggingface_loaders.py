"""The loader of columns, where code written for Fortuna looks for it."""

from hoarfrost.data.hugging_face import HuggingFaceDataLoader

__all__ = ["HuggingFaceDataLoader"]
