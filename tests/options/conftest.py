"""What the files of this folder share while they run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from entries import CACHE


@pytest.fixture(scope="module", autouse=True)
def nothing_kept() -> Iterator[None]:
    """Give back the models and results that a file kept."""
    yield
    CACHE.clear()
