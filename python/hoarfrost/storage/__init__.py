"""Arrays and a header in one file of the safetensors format."""

from hoarfrost.storage.container import VERSION, Pieces, as_path, digest, kind_of
from hoarfrost.storage.reading import StoredFile, opened
from hoarfrost.storage.writing import checked_target, write

__all__ = [
    "VERSION",
    "Pieces",
    "StoredFile",
    "as_path",
    "checked_target",
    "digest",
    "kind_of",
    "opened",
    "write",
]
