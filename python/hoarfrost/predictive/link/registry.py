"""The links that there are: the only list of them."""

from __future__ import annotations

from typing import Any

from hoarfrost.checks import shown
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.likelihood import Likelihood
from hoarfrost.predictive.link.base import Link, Quantity
from hoarfrost.predictive.link.bridge import Bridge
from hoarfrost.predictive.link.closed import ClosedDensity, ClosedMoments
from hoarfrost.predictive.link.mc import MonteCarlo
from hoarfrost.predictive.link.nn import ThroughNetwork
from hoarfrost.predictive.link.probit import Probit

# The first that gives a quantity for a likelihood is the default.
LINKS: tuple[Link, ...] = (
    ClosedMoments(),
    ClosedDensity(),
    Probit(),
    MonteCarlo(),
    Bridge(),
    ThroughNetwork(),
)

# What no user can ask for by name: it is the default wherever it is there.
_UNNAMED = "closed"


def choose_link(quantity: Quantity, likelihood: Likelihood, link: Any) -> Link:
    """The link of this name, or the default where `link` is None.

    Raises
    ------
    InvalidArgumentError
        If `link` is no link that gives this quantity for this likelihood.
    """
    links = [one for one in LINKS if one.takes(quantity, likelihood)]
    if link is None:
        return links[0]
    for one in links:
        if isinstance(link, str) and one.name == link != _UNNAMED:
            return one
    named = [repr(one.name) for one in links if one.name != _UNNAMED]
    closed = ", or leave it out for the closed form" if len(named) < len(links) else ""
    raise InvalidArgumentError(
        f"link is {shown(link)}; give one of {', '.join(named)} for the {likelihood.name} "
        f"likelihood{closed}"
    )


def closed_links(likelihood: Likelihood) -> tuple[str, ...]:
    """Names of the links that give probabilities without drawing samples."""
    links = (one for one in LINKS if one.takes("probabilities", likelihood))
    return tuple(one.name for one in links if not one.samples)
