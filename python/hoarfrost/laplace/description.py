"""A network's parameters as people read them: which are trainable, and what a posterior takes."""

from __future__ import annotations

import html
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hoarfrost.errors import SelectionError
from hoarfrost.freezing import Selector, columns
from hoarfrost.laplace.plan import MemoryPlan
from hoarfrost.laplace.planning import first_inputs, plan_network, subset_of
from hoarfrost.likelihood import Likelihood
from hoarfrost.network import Call
from hoarfrost.types import Path, Tree, join

_HEADINGS = ("parameter", "shape", "dtype", "selection", "numbers")


@dataclass(frozen=True)
class DescribedLeaf:
    """One parameter.

    Attributes
    ----------
    path : tuple of str or int
        Where it is in the tree.
    shape : tuple of int
        Its shape.
    dtype : str
        Its dtype.
    trainable : bool
        Whether the posterior is over it.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: str
    trainable: bool

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, repr=False)
class Description:
    """The parameters of a network, and the memory of a posterior; ``print`` it.

    Attributes
    ----------
    leaves : tuple of DescribedLeaf
        In tree order.
    plan : MemoryPlan or None
        What each structure takes, where inputs were given.
    """

    leaves: tuple[DescribedLeaf, ...]
    plan: MemoryPlan | None = None

    @property
    def num_params(self) -> int:
        """P, the number of trainable parameters."""
        return sum(leaf.size for leaf in self.leaves if leaf.trainable)

    @property
    def num_frozen(self) -> int:
        """How many parameters are frozen."""
        return sum(leaf.size for leaf in self.leaves if not leaf.trainable)

    def __str__(self) -> str:
        table = columns([_HEADINGS, *self._rows(), *self._totals()])
        return table if self.plan is None else f"{table}\n{self.plan}"

    def __repr__(self) -> str:
        return f"Description(num_params={self.num_params}, num_frozen={self.num_frozen})"

    def _repr_html_(self) -> str:
        """The table of a notebook."""
        head = _html_row(_HEADINGS, "th")
        body = [
            _html_row(row, "td", bold=leaf.trainable)
            for row, leaf in zip(self._rows(), self.leaves, strict=True)
        ]
        foot = [_html_row(row, "th") for row in self._totals()]
        plan = "" if self.plan is None else f"<pre>{html.escape(str(self.plan))}</pre>"
        return (
            f"<table><thead>{head}</thead><tbody>{''.join(body)}</tbody>"
            f"<tfoot>{''.join(foot)}</tfoot></table>{plan}"
        )

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for leaf in self.leaves:
            part = "trainable" if leaf.trainable else "frozen"
            yield join(leaf.path), str(leaf.shape), leaf.dtype, part, f"{leaf.size:,}"

    def _totals(self) -> list[tuple[str, ...]]:
        return [
            ("P", "", "", "trainable", f"{self.num_params:,}"),
            ("total", "", "", "frozen", f"{self.num_frozen:,}"),
        ]


def describe(
    model: Any,
    params: Tree,
    trainable: Selector = None,
    inputs: Tree = None,
    *,
    likelihood: str | Likelihood = "categorical",
    memory_budget: int | None = None,
    call: Call | None = None,
) -> Description:
    """Print and return which parameters a selection trains, and what their posterior takes.

    In a notebook nothing is printed: what is returned is shown as a table.

    Parameters
    ----------
    model, params, trainable, call
        As in `fit_laplace`.
    inputs : array, tree of arrays or InputsLoader, optional
        Some inputs, for the memory of each structure (and to find "last_layer").
    likelihood, memory_budget : optional
        As in `fit_laplace`; they matter to the memory alone.

    Returns
    -------
    Description
        Path, shape, dtype and selection of each parameter, P, and the plan.

    Raises
    ------
    SelectionError
        If the selection does not fit the parameters, or needs inputs.
    InvalidArgumentError, ShapeError, DataError
        If another argument cannot be used.

    Examples
    --------
    >>> import jax.numpy as jnp, re, hoarfrost
    >>> params = {"body": jnp.zeros((2, 3)), "head": jnp.zeros((3, 4))}
    >>> described = hoarfrost.describe(
    ...     lambda p, x: x @ p["body"] @ p["head"], params, re.compile("head"))
      parameter  shape   dtype    selection  numbers
      body       (2, 3)  float32  frozen     6
      head       (3, 4)  float32  trainable  12
      P                           trainable  12
      total                       frozen     6
    >>> described.num_params
    12
    """

    def first() -> Any:
        if inputs is None:
            raise SelectionError(
                "trainable is 'last_layer', which is found on inputs; give describe some inputs"
            )
        return first_inputs(inputs)

    subset = subset_of(model, params, trainable, first, call)
    partition = subset.partition
    values = partition.treedef.flatten_up_to(subset.params)
    leaves = tuple(
        DescribedLeaf(path, tuple(leaf.shape), str(leaf.dtype), chosen)
        for path, leaf, chosen in zip(partition.paths, values, partition.mask, strict=True)
    )
    plan = None
    if inputs is not None:
        plan = plan_network(subset, inputs, likelihood=likelihood, memory_budget=memory_budget)
    described = Description(leaves, plan)
    if not _in_notebook():
        print(described)
    return described


def _in_notebook() -> bool:
    """Whether what a cell returns is shown as HTML."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def _html_row(entries: Sequence[str], tag: str, *, bold: bool = False) -> str:
    style = ' style="font-weight: bold"' if bold else ""
    return f"<tr{style}>{''.join(f'<{tag}>{html.escape(e)}</{tag}>' for e in entries)}</tr>"
