"""Names of types, where code written for Fortuna looks for them."""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import numpy as np

from hoarfrost.types import Tree

Array = jax.Array | np.ndarray
# A tree of parameters: plain dicts, ``{"model": {"params": ...}}``.
Params = Tree
Path = str | pathlib.Path
Status = dict[str, Any]

__all__ = ["Array", "Params", "Path", "Status"]
