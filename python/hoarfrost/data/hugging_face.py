"""The loader of data sets and batches with columns, as Hugging Face's `datasets` gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, Self

import numpy as np

from hoarfrost.checks import check_integer, check_switch
from hoarfrost.data.arrays import ArrayBatches
from hoarfrost.data.batch import INPUTS, PAIR, num_points
from hoarfrost.data.columns import Columns
from hoarfrost.data.loaders import DataLoader
from hoarfrost.data.single import InputsLoader
from hoarfrost.data.streams import Reopened, StreamBatches, is_dataset, reiterable
from hoarfrost.errors import DataError, InvalidArgumentError


class HuggingFaceDataLoader(DataLoader):
    """A `DataLoader` of columns: its inputs are a dict of arrays, by the names of the columns.

    It takes anything with the interface of Hugging Face's data sets, whose points stay where they
    are (in a file, say) until their batch comes, and any iterable of batches that are dicts.

    Parameters
    ----------
    iterable : data set or iterable of batches
        A data set (anything with ``column_names`` and ``iter(batch_size)``), or an iterable of
        batches that can be gone over again. A batch is a dict of columns, or
        ``(inputs, targets)``, where targets are None if there are none.
    num_unique_labels : int, optional
        Number of distinct target labels, where it is known; else it is counted when asked for.
    num_inputs : int, optional
        Number of data points, where it is known; else they are counted when asked for.
    batch_size : int, optional
        Points in a batch, for a data set; the last batch holds what remains.
    inputs : str or sequence of str, optional
        The columns that are inputs; by default all but the targets. A single name: inputs are that
        column itself, and no dict.
    targets : str, optional
        The column with the targets; by default "labels" or "label".
    shuffle : bool
        Whether each epoch goes through the points of a data set in a new order. It must have rows
        that can be taken by number, ``dataset[[3, 1]]``.
    seed : int
        Seed of the orders: that of epoch n is a function of (seed, n).

    Raises
    ------
    InvalidArgumentError
        If a data set comes without `batch_size`, or batches come with it or with ``shuffle=True``;
        if `num_inputs` is not the length of the data set, or a column is not there.
    DataError
        If `iterable` is a one-shot iterator. While iterating: if there are no targets (which
        `to_inputs_loader` does not need), a column holds text or rows of unequal length, or there
        are not `num_inputs` points.

    Examples
    --------
    >>> import numpy as np
    >>> from hoarfrost.data import HuggingFaceDataLoader
    >>> tokens = {"input_ids": np.ones((4, 8), int), "label": np.array([0, 1, 1, 0])}
    >>> loader = HuggingFaceDataLoader([tokens], num_inputs=4)
    >>> loader.input_shape, loader.num_unique_labels
    ({'input_ids': (8,)}, 2)
    """

    def __init__(
        self,
        iterable: Any,
        num_unique_labels: int | None = None,
        num_inputs: int | None = None,
        *,
        batch_size: int | None = None,
        inputs: str | Sequence[str] | None = None,
        targets: str | None = None,
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        columns = Columns.of(inputs, targets)
        if num_inputs is not None:
            num_inputs = check_integer("num_inputs", num_inputs)
        if batch_size is not None:
            batch_size = check_integer("batch_size", batch_size)
        shuffle, seed = check_switch("shuffle", shuffle), check_integer("seed", seed, 0)
        self._num_inputs = num_inputs
        self._pairs: Callable[[int | None], Iterator[Any]] | None = None
        if isinstance(iterable, ArrayBatches | StreamBatches):
            # Made from another loader: inputs and targets are apart already.
            super().__init__(iterable, num_unique_labels)
            return
        if is_dataset(iterable):
            columns.check(iterable.column_names or ())
            opened, sizes = _of_dataset(iterable, batch_size, shuffle, seed)
            if num_inputs is not None and sizes is not None and num_inputs != sum(sizes):
                raise InvalidArgumentError(
                    f"num_inputs is {num_inputs}, but the data set has {sum(sizes)} points; leave "
                    "it out"
                )
        else:
            _check_no_dataset(iterable, batch_size, shuffle)
            opened, sizes = reiterable(iterable, PAIR), None

        def pairs(epoch: int | None) -> Iterator[Any]:
            return _counted(columns.pairs(opened(epoch)), num_inputs)

        self._pairs = pairs
        labelled = StreamBatches(lambda epoch: columns.labelled(pairs(epoch)), PAIR, sizes)
        super().__init__(labelled, num_unique_labels)

    @classmethod
    def from_callable_iterable(cls, fun: Callable[[], Iterable[Any]]) -> Self:
        """A loader over the batches that a function returns, as `DataLoader`'s."""
        DataLoader.from_callable_iterable(fun)  # says what is wrong with it
        return cls(_Called(fun))

    @property
    def size(self) -> int:
        """Number of data points: `num_inputs`, or counted in one pass and remembered."""
        return super().size if self._num_inputs is None else self._num_inputs

    def to_inputs_loader(self) -> InputsLoader:
        """A loader of the inputs alone, also of batches without targets.

        Its epoch n is in the order of this loader's epoch n.
        """
        source, pairs = self._batches, self._pairs
        if pairs is None or not isinstance(source, StreamBatches):
            return super().to_inputs_loader()

        def inputs(epoch: int | None) -> Iterator[Any]:
            return (x for x, _ in source.order.follow(epoch, pairs(epoch), PAIR))

        return InputsLoader(StreamBatches(inputs, INPUTS, source.sizes))


class _Called:
    """What a function returns, each time anew."""

    def __init__(self, fun: Callable[[], Iterable[Any]]) -> None:
        self._opened = Reopened(fun)

    def __iter__(self) -> Iterator[Any]:
        return self._opened(None)


def _of_dataset(
    dataset: Any, batch_size: int | None, shuffle: bool, seed: int
) -> tuple[Callable[[int | None], Iterator[Any]], tuple[int, ...] | None]:
    """What opens a pass over a data set, and the sizes of its batches where it has a length."""
    if batch_size is None:
        raise InvalidArgumentError(
            f"iterable is a data set, a {type(dataset).__name__}, whose points come one by one; "
            "give batch_size, such as batch_size=128"
        )
    sizes: tuple[int, ...] | None = None
    if isinstance(dataset, Sized):
        total = len(dataset)
        sizes = tuple(min(batch_size, total - s) for s in range(0, total, batch_size))
    elif shuffle:
        raise InvalidArgumentError(
            f"shuffle is True, but the points of a {type(dataset).__name__} come in one order "
            "only; use its own shuffle(buffer_size=...), or a data set with a length"
        )
    dataset = _as_numpy(dataset)

    def opened(epoch: int | None) -> Iterator[Any]:
        if not shuffle or epoch is None:
            yield from dataset.iter(batch_size=batch_size)
            return
        order = np.random.default_rng((seed, epoch)).permutation(len(dataset))
        for start in range(0, len(order), batch_size):
            yield dataset[order[start : start + batch_size].tolist()]

    return opened, sizes


def _as_numpy(dataset: Any) -> Any:
    """The data set, giving arrays where nothing else was asked of it: lists are slow."""
    asked = getattr(dataset, "format", None)
    if not hasattr(dataset, "with_format"):
        return dataset
    if not isinstance(asked, Mapping):
        return dataset.with_format("numpy")
    if asked.get("type") is not None:
        return dataset
    return dataset.with_format("numpy", columns=asked.get("columns"))


def _check_no_dataset(iterable: Any, batch_size: int | None, shuffle: bool) -> None:
    """Raise for several data sets, and if options of one come with batches, which stay."""
    if isinstance(iterable, Mapping) and any(map(is_dataset, iterable.values())):
        raise InvalidArgumentError(
            f"iterable is a {type(iterable).__name__} of {', '.join(map(str, iterable))}; give one "
            "of these"
        )
    for name, given in (("batch_size", batch_size is not None), ("shuffle", shuffle)):
        if given:
            raise InvalidArgumentError(
                f"{name} is given, but iterable is a {type(iterable).__name__} of batches, which "
                f"come as they are; leave {name} out, or give a data set"
            )


def _counted(pairs: Iterator[Any], num_inputs: int | None) -> Iterator[Any]:
    """The pairs; raises `DataError` at their end if there were not as many points as was said."""
    count = 0
    for pair in pairs:
        count += num_points(pair)
        yield pair
    if num_inputs is not None and count != num_inputs:
        raise DataError(
            f"num_inputs is {num_inputs}, but a pass over the data gave {count} points; leave "
            "num_inputs out"
        )
