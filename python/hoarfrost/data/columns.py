"""Batches of named columns as inputs and targets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hoarfrost.data.batch import INPUTS, TARGETS, checked_batch
from hoarfrost.errors import DataError, InvalidArgumentError

# What Hugging Face calls targets; a data collator makes the first of the second.
_TARGETS = ("labels", "label")


@dataclass(frozen=True)
class Columns:
    """Which columns are inputs, and which one is the targets.

    Attributes
    ----------
    inputs : str, tuple of str or None
        A column that is the inputs by itself, the columns of a dict, or None: all but the targets.
    targets : str or None
        The column of the targets, or None: "labels" or "label".
    """

    inputs: str | tuple[str, ...] | None
    targets: str | None

    @classmethod
    def of(cls, inputs: Any, targets: Any) -> Columns:
        """Columns as a user names them; raises `InvalidArgumentError` for what is no name."""
        if inputs is not None and not isinstance(inputs, str):
            whole = isinstance(inputs, Sequence) and not isinstance(inputs, bytes)
            if not whole or not inputs or not all(isinstance(name, str) for name in inputs):
                raise InvalidArgumentError(
                    f"inputs is {inputs!r}; give the name of a column, or a list of names"
                )
            inputs = tuple(inputs)
        if targets is not None and not isinstance(targets, str):
            raise InvalidArgumentError(f"targets is {targets!r}; give the name of a column")
        return cls(inputs, targets)

    def check(self, columns: Iterable[str]) -> None:
        """Raise `InvalidArgumentError` if a column that is named is not among these."""
        columns = list(columns)
        inputs = (self.inputs,) if isinstance(self.inputs, str) else self.inputs or ()
        for argument, name in (*(("inputs", i) for i in inputs), ("targets", self.targets)):
            if name is not None and name not in columns:
                raise InvalidArgumentError(
                    f"{argument} names {name!r}; the data set has {', '.join(columns)}"
                )

    def pairs(self, batches: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Each batch as (inputs, targets), checked; targets are None where there are none."""
        for index, batch in enumerate(batches):
            where = f"batch {index}"
            inputs, targets = self._apart(batch, where)
            inputs = checked_batch(_arrays(inputs, "inputs", where), INPUTS, where)
            if targets is not None:
                targets = _arrays(targets, "targets", where)
                targets = checked_batch(targets, TARGETS, where)
            yield inputs, targets

    def labelled(self, pairs: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        """The same pairs; raises `DataError` where there are no targets."""
        for index, (inputs, targets) in enumerate(pairs):
            if targets is None:
                wanted = repr(self.targets) if self.targets else " or ".join(map(repr, _TARGETS))
                raise DataError(
                    f"batch {index} has no targets: no column {wanted}; name theirs by "
                    "targets=, or use to_inputs_loader()"
                )
            yield inputs, targets

    def _apart(self, batch: Any, where: str) -> tuple[Any, Any]:
        if isinstance(batch, Mapping):
            candidates = _TARGETS if self.targets is None else (self.targets,)
            name = next((one for one in candidates if one in batch), None)
            rest = {key: value for key, value in batch.items() if key != name}
            return self._inputs(rest, where), None if name is None else batch[name]
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise DataError(
                f"{where} is of type {type(batch).__name__}; give a dict of columns, or a tuple "
                "(inputs, targets)"
            )
        if self.targets is not None:
            raise DataError(
                f"{where} is a pair (inputs, targets), and no dict with the column "
                f"{self.targets!r} that targets names; leave targets out"
            )
        inputs, targets = batch
        return self._inputs(inputs, where) if isinstance(inputs, Mapping) else inputs, targets

    def _inputs(self, columns: Mapping[str, Any], where: str) -> Any:
        wanted = self.inputs
        if wanted is None:
            return dict(columns)
        names = (wanted,) if isinstance(wanted, str) else wanted
        for name in names:
            if name not in columns:
                raise DataError(
                    f"{where} has no column {name!r} that inputs names; it has "
                    f"{', '.join(map(str, columns))} beside the targets"
                )
        return columns[wanted] if isinstance(wanted, str) else {n: columns[n] for n in names}


def _arrays(part: Any, name: str, where: str) -> Any:
    """Columns that are lists as arrays; raises `DataError` for text and rows of unequal length."""
    if isinstance(part, Mapping):
        return {key: _array(value, f"{name}[{key!r}]", where) for key, value in part.items()}
    return _array(part, name, where)


def _array(value: Any, label: str, where: str) -> Any:
    if isinstance(value, list):
        try:
            value = np.asarray(value)
        except ValueError as error:
            raise _uneven(label, where) from error
    if isinstance(value, np.ndarray) and value.dtype.kind in "OSU":
        if value.dtype.kind != "O" or (value.size and isinstance(value.flat[0], str)):
            raise DataError(
                f"{label} of {where} is a column of text; tokenize it, or leave it out by "
                "inputs=[...]"
            )
        raise _uneven(label, where)
    return value


def _uneven(label: str, where: str) -> DataError:
    return DataError(
        f"{label} of {where} is a column whose rows are no numbers, or of unequal length; pad them "
        "(padding='max_length' of a tokenizer)"
    )
