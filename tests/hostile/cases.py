"""The cases of a campaign: hypothesis draws a hostile value for each, always the same ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any
from zlib import crc32

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from kinds import kind_of, recipes
from meaning import Recipe
from reach import places


@dataclass(frozen=True)
class Case:
    """A hostile value in place of one argument."""

    name: str
    argument: str
    recipe: Recipe

    def text(self) -> str:
        """From which the case can be made again."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> Case:
        return cls(**{**json.loads(text), "recipe": tupled(json.loads(text)["recipe"])})


def tupled(recipe: Any) -> Any:
    return tuple(map(tupled, recipe)) if isinstance(recipe, list) else recipe


def drawn(strategy: st.SearchStrategy[Recipe], count: int, name: str) -> list[Recipe]:
    """Up to `count` different recipes of a strategy, the same at every call with this name."""
    found: dict[Recipe, None] = {}

    @seed(crc32(name.encode()))
    @settings(
        max_examples=count + count // 2 + 2,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(recipe: Recipe) -> None:
        found[recipe] = None

    draw()
    return list(found)[:count]


def cases_of(name: str, argument: str, count: int) -> Iterator[Case]:
    """Up to `count` cases of one argument."""
    for recipe in drawn(recipes(kind_of(name, argument)), count, f"{name}.{argument}"):
        yield Case(name, argument, recipe)


def campaign(count: int) -> list[Case]:
    """About `count` cases, as many for each argument, those of a callable together."""
    wanted = places()
    found: list[Case] = []
    for done, (name, argument) in enumerate(wanted):
        each = -(-(count - len(found)) // (len(wanted) - done))
        found += cases_of(name, argument, max(each, 1))
    return found
