"""Which leaves of a parameter tree are trainable, and the two halves of a tree."""

from hoarfrost.freezing.partition import Partition
from hoarfrost.freezing.selectors import Selector, is_selector, make_partition
from hoarfrost.freezing.subset import Subset
from hoarfrost.freezing.table import columns, selection_table

__all__ = [
    "Partition",
    "Selector",
    "Subset",
    "columns",
    "is_selector",
    "make_partition",
    "selection_table",
]
