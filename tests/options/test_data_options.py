"""Every argument of the loaders."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from entries import Elsewhere, Entry, Other, Pair, Refused, Subject, built, cases, check, table
from problems import CLASSES, INPUTS, INPUTS2, X2, X, Y

from hoarfrost.data import DataLoader, HuggingFaceDataLoader, InputsLoader


def batches(loader: Any) -> Any:
    """Two epochs, and what a loader says of itself."""
    if isinstance(loader, tuple):
        return [batches(part) for part in loader]
    unique = loader.num_unique_labels if isinstance(loader, DataLoader) else None
    return list(loader.epoch(0)), list(loader.epoch(1)), loader.size, unique


class Tensor:
    """Stands for a tensor of another library."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def numpy(self) -> np.ndarray:
        return self.array


class Watched(np.ndarray):
    """Says which threads took rows of it."""

    threads: set[str]

    def __getitem__(self, rows: Any) -> np.ndarray:
        self.threads.add(threading.current_thread().name)
        return np.asarray(super().__getitem__(rows))


def gatherers(from_arrays: Callable[..., Any]) -> Callable[[bool], Any]:
    """The threads in which a loader gathers its batches, with and without prefetching."""

    def run(prefetch: bool) -> list[str]:
        array = np.arange(6.0).view(Watched)
        array.threads = set()
        data = (array, np.arange(6)) if from_arrays.__name__ == "from_array_data" else array
        found = list(from_arrays(data, batch_size=2, prefetch=prefetch).epoch(0))
        assert len(found) == 3
        return sorted(array.threads)

    return run


def doubled(*batch: Any) -> tuple[Any, ...]:
    *arrays, status = batch
    return (*(array + (1 if status is None else status) for array in arrays), status)


def negated(*batch: Any) -> tuple[Any, ...]:
    return (*(-array for array in batch[:-1]), batch[-1])


def of_data() -> Iterator[tuple[str, Subject]]:
    arrays: dict[str, Entry] = {
        "batch_size": Other(5),
        "shuffle": Other(True),
        "seed": Pair({"shuffle": True}, {"shuffle": True, "seed": 1}),
    }
    pairs = ((X, Y), (X2, Y), "from_array_data", "data")
    kinds: list[tuple[str, Any, Any, Any, str, str]] = [
        ("DataLoader", CLASSES, *pairs),
        ("HuggingFaceDataLoader", HuggingFaceDataLoader([(X, Y)]), *pairs),
        ("InputsLoader", INPUTS, X, X2, "from_array_inputs", "inputs"),
        ("TargetsLoader", CLASSES.to_targets_loader(), Y, Y[::-1], "from_array_targets", "targets"),
    ]
    for name, loader, data, other, from_arrays, argument in kinds:
        cls = type(loader)

        def call(attribute: str, on: Any = cls) -> Callable[..., Any]:
            return lambda **given: batches(getattr(on, attribute)(**given))

        unique = {"num_unique_labels": Other(7)} if issubclass(cls, DataLoader) else {}
        if cls is HuggingFaceDataLoader:
            unique |= of_columns()
        yield built(
            name,
            lambda cls=cls, **given: batches(cls(**given)),
            {"iterable": [data]},
            iterable=Other([other]),
            **unique,
        )
        yield built(
            f"{name}.{from_arrays}",
            call(from_arrays),
            {argument: data},
            **{argument: Other(other)},
            prefetch=Elsewhere(gatherers(getattr(cls, from_arrays)), False, True),
            **arrays,
        )
        yield built(
            f"{name}.from_iterable",
            call("from_iterable"),
            {"iterable": [data]},
            iterable=Other([other]),
        )
        yield built(
            f"{name}.from_callable_iterable",
            call("from_callable_iterable"),
            {"fun": lambda data=data: [data]},
            fun=Other(lambda other=other: [other]),
        )
        if not issubclass(cls, DataLoader):
            yield built(
                f"{name}.from_data_loader",
                call("from_data_loader"),
                {"data_loader": CLASSES},
                data_loader=Other(DataLoader.from_array_data((X2, Y[::-1]))),
            )
        epochs = cls(DataLoader.from_array_data((X, Y), shuffle=True)._batches)
        if not issubclass(cls, DataLoader):
            epochs = getattr(cls, from_arrays)(data, shuffle=True)
        yield built(
            f"{name}.epoch",
            lambda epochs=epochs, **given: list(epochs.epoch(**given)),
            {"n": 0},
            n=Other(1),
        )
        yield built(f"{name}.chop", call("chop", loader), {"divisor": 1}, divisor=Other(5))
        yield built(f"{name}.split", call("split", loader), {"n_data": 4}, n_data=Other(5))
        yield built(
            f"{name}.sample",
            call("sample", loader),
            {"seed": 0, "n_samples": 12},
            seed=Other(1),
            n_samples=Other(11),
            replace=Other(False),
        )
        transform = {
            "DataLoader": "to_transformed_data_loader",
            "HuggingFaceDataLoader": "to_transformed_data_loader",
            "InputsLoader": "to_transformed_inputs_loader",
            "TargetsLoader": "to_transformed_targets_loader",
        }[name]
        yield built(
            f"{name}.{transform}",
            call(transform, loader),
            {"transform": doubled},
            transform=Other(negated),
            status=Other(2),
        )
    for cls in (DataLoader, HuggingFaceDataLoader):
        yield from of_other_loaders(cls)


class Rows:
    """Points in columns, as a data set of Hugging Face."""

    column_names = ("x", "more", "label", "other")

    def __len__(self) -> int:
        return len(Y)

    def __getitem__(self, rows: Any) -> dict[str, Any]:
        columns = {"x": X, "more": X2, "label": Y, "other": Y[::-1]}
        return {name: column[rows] for name, column in columns.items()}

    def iter(self, batch_size: int) -> Iterator[dict[str, Any]]:
        for start in range(0, len(Y), batch_size):
            yield self[start : start + batch_size]


def of_columns() -> dict[str, Entry]:
    """What the loader of columns takes beside batches."""
    rows = {"iterable": Rows(), "batch_size": 4}
    return {
        "num_inputs": Refused(len(Y) + 1, "num_inputs"),
        "batch_size": Pair(rows, {**rows, "batch_size": 5}),
        "inputs": Pair(rows, {**rows, "inputs": ["x"]}),
        "targets": Pair(rows, {**rows, "targets": "other"}),
        "shuffle": Pair(rows, {**rows, "shuffle": True}),
        "seed": Pair({**rows, "shuffle": True}, {**rows, "shuffle": True, "seed": 1}),
    }


def of_other_loaders(cls: Any) -> Iterator[tuple[str, Subject]]:
    """Loaders made from loaders."""
    yield built(
        f"{cls.__name__}.from_inputs_loaders",
        lambda **given: batches(cls.from_inputs_loaders(**given)),
        {"inputs_loaders": [INPUTS.sample(0, 4), INPUTS2], "targets": [0, 1]},
        inputs_loaders=Other([INPUTS2, INPUTS]),
        targets=Other([1, 0]),
        how=Pair(
            {"inputs_loaders": [InputsLoader.from_array_inputs(X, batch_size=3), INPUTS2]},
            {
                "inputs_loaders": [InputsLoader.from_array_inputs(X, batch_size=3), INPUTS2],
                "how": "concatenate",
            },
        ),
    )
    for library, argument in (("tensorflow", "tf_data_loader"), ("torch", "torch_data_loader")):
        name = f"from_{library}_data_loader"
        yield built(
            f"{cls.__name__}.{name}",
            lambda name=name, **given: batches(getattr(cls, name)(**given)),
            {argument: [[Tensor(X), Tensor(Y)]]},
            **{argument: Other([[Tensor(X2), Tensor(Y)]])},
        )


TABLE = table(of_data())


@pytest.mark.parametrize(("name", "argument"), cases(TABLE))
def test_every_argument_acts(name: str, argument: str) -> None:
    check(name, TABLE[name], argument)
