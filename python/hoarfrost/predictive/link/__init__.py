"""Links: one file each, listed in `registry`."""

from hoarfrost.predictive.link.base import Draws, Link, Needs, Quantity, quantity_of
from hoarfrost.predictive.link.registry import LINKS, choose_link, closed_links

__all__ = [
    "LINKS",
    "Draws",
    "Link",
    "Needs",
    "Quantity",
    "choose_link",
    "closed_links",
    "quantity_of",
]
