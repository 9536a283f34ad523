"""HuggingFaceDataLoader: data sets with columns, batches that are dicts, and Fortuna's pairs."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import hoarfrost
from hoarfrost.data import DataLoader, HuggingFaceDataLoader, InputsLoader
from hoarfrost.errors import DataError, InvalidArgumentError

RNG = np.random.default_rng(3)
IDS = RNG.integers(0, 9, (10, 4))
MASK = (np.arange(4) < RNG.integers(2, 5, (10, 1))).astype(np.int64)
LABELS = np.arange(10) % 3
COLUMNS = {"input_ids": IDS, "attention_mask": MASK, "label": LABELS}


class Rows:
    """The interface of a data set of `datasets`, as far as the loader uses it."""

    def __init__(self, columns):
        self.columns = columns
        self.column_names = list(columns)

    def __len__(self):
        return len(self.columns[self.column_names[0]])

    def __getitem__(self, rows):
        return {name: np.asarray(column)[rows] for name, column in self.columns.items()}

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def iter(self, batch_size):
        for start in range(0, len(self), batch_size):
            yield {n: c[start : start + batch_size] for n, c in self.columns.items()}


class Stream:
    """The interface of a data set that is streamed: no length, no rows by number."""

    def __init__(self, columns):
        self.rows = Rows(columns)
        self.column_names = None

    def iter(self, batch_size):
        return self.rows.iter(batch_size)


def real(columns):
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_dict({k: np.asarray(v).tolist() for k, v in columns.items()})


SOURCES = {
    "rows": lambda: Rows(COLUMNS),
    "stream": lambda: Stream(COLUMNS),
    "datasets": lambda: real(COLUMNS),
    "datasets in numpy": lambda: real(COLUMNS).with_format("numpy"),
    "datasets stream": lambda: real(COLUMNS).to_iterable_dataset(),
}
WITH_ROWS = ("rows", "datasets", "datasets in numpy")


def dicts(batch_size=4, **changed):
    return list(Rows({**COLUMNS, **changed}).iter(batch_size))


def check_all(loader, name="label"):
    for _ in range(2):
        batches = list(loader)
        assert [len(y) for _, y in batches] == [4, 4, 2]
        for key in ("input_ids", "attention_mask"):
            np.testing.assert_array_equal(
                np.concatenate([x[key] for x, _ in batches]), COLUMNS[key]
            )
        np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), LABELS)
        assert set(batches[0][0]) == {"input_ids", "attention_mask"}
    assert (loader.size, len(loader), loader.num_unique_labels) == (10, 3, 3)
    assert loader.input_shape == {"input_ids": (4,), "attention_mask": (4,)}


@pytest.mark.parametrize("source", SOURCES)
def test_a_data_set_comes_batch_by_batch(source):
    check_all(HuggingFaceDataLoader(SOURCES[source](), batch_size=4))


@pytest.mark.parametrize(
    "batches",
    [
        dicts(),
        [{"labels": batch.pop("label"), **batch} for batch in dicts()],
        [(batch, batch.pop("label")) for batch in dicts()],
        [[batch, batch.pop("label")] for batch in dicts()],
        [{k: v.tolist() for k, v in batch.items()} for batch in dicts()],
    ],
    ids=["label", "labels", "Fortuna's pairs", "lists for pairs", "lists of numbers"],
)
def test_batches_of_columns(batches):
    check_all(HuggingFaceDataLoader(batches))
    check_all(HuggingFaceDataLoader(batches, 3, 10))
    check_all(HuggingFaceDataLoader.from_callable_iterable(lambda: iter(batches)))


@pytest.mark.parametrize("source", WITH_ROWS)
def test_shuffling_draws_an_order_for_each_epoch(source):
    loader = HuggingFaceDataLoader(SOURCES[source](), batch_size=4, shuffle=True, seed=1)
    first, second = (np.concatenate([x["input_ids"] for x, _ in loader.epoch(n)]) for n in (0, 1))
    order = np.random.default_rng((1, 0)).permutation(10)
    np.testing.assert_array_equal(first, IDS[order])
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.concatenate([y for _, y in loader.in_order()]), LABELS)
    inputs, targets = loader.to_inputs_loader(), loader.to_targets_loader()
    np.testing.assert_array_equal(np.concatenate(list(targets.epoch(0))), LABELS[order])
    found = np.concatenate([x["input_ids"] for x in inputs.epoch(0)])
    np.testing.assert_array_equal(found, IDS[order])


def test_columns_are_chosen_by_name():
    loader = HuggingFaceDataLoader(dicts(), inputs=["input_ids"])
    assert loader.input_shape == {"input_ids": (4,)}
    loader = HuggingFaceDataLoader(dicts(), inputs="input_ids", targets="label")
    np.testing.assert_array_equal(loader.to_array_inputs(), IDS)
    scores = HuggingFaceDataLoader(dicts(score=LABELS / 2), inputs="input_ids", targets="score")
    np.testing.assert_array_equal(scores.to_array_targets(), LABELS / 2)


@pytest.mark.parametrize("form", ["no column", "none in a pair", "a data set"])
def test_batches_without_targets_have_inputs(form):
    if form == "a data set":
        loader = HuggingFaceDataLoader(Rows({"input_ids": IDS}), batch_size=4)
    else:
        batches = [{"input_ids": batch["input_ids"]} for batch in dicts()]
        pairs = [(batch, None) for batch in batches]
        loader = HuggingFaceDataLoader(batches if form == "no column" else pairs)
    np.testing.assert_array_equal(loader.to_inputs_loader().to_array_inputs()["input_ids"], IDS)
    with pytest.raises(DataError, match=r"no targets.*to_inputs_loader\(\)"):
        list(loader)


def test_parts_of_a_loader_are_loaders_of_columns():
    loader = HuggingFaceDataLoader(Rows(COLUMNS), batch_size=4)
    first, second = loader.split(6)
    assert (first.size, second.size) == (6, 4) and isinstance(first, HuggingFaceDataLoader)
    np.testing.assert_array_equal(second.to_array_targets(), LABELS[6:])
    np.testing.assert_array_equal(second.to_inputs_loader().to_array_inputs()["input_ids"], IDS[6:])
    assert loader.chop(4).size == 8
    assert loader.sample(0, 7).size == 7


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: HuggingFaceDataLoader(Rows(COLUMNS)), "give batch_size"),
        (lambda: HuggingFaceDataLoader(Rows(COLUMNS), batch_size=0), "batch_size must be"),
        (lambda: HuggingFaceDataLoader(dicts(), batch_size=4), "leave batch_size out"),
        (lambda: HuggingFaceDataLoader(dicts(), shuffle=True), "leave shuffle out"),
        (lambda: HuggingFaceDataLoader(Stream(COLUMNS), batch_size=4, shuffle=True), "one order"),
        (lambda: HuggingFaceDataLoader({"train": Rows(COLUMNS)}), "of train; give one"),
        (lambda: HuggingFaceDataLoader(Rows(COLUMNS), batch_size=4, num_inputs=9), "has 10 points"),
        (lambda: HuggingFaceDataLoader(Rows(COLUMNS), batch_size=4, targets="y"), "targets names"),
        (lambda: HuggingFaceDataLoader(Rows(COLUMNS), batch_size=4, inputs=["x"]), "inputs names"),
        (lambda: HuggingFaceDataLoader(dicts(), inputs=3), "inputs is 3"),
        (lambda: HuggingFaceDataLoader(dicts(), targets=["label"]), "name of a column"),
        (lambda: HuggingFaceDataLoader(IDS), "ndarray"),
        (lambda: hoarfrost.data.DataLoader(Rows(COLUMNS)), r"HuggingFaceDataLoader\(dataset"),
        (lambda: hoarfrost.data.InputsLoader(Rows(COLUMNS)), r"to_inputs_loader\(\)"),
    ],
)
def test_what_is_wrong_is_said_at_once(given, message):
    with pytest.raises(InvalidArgumentError, match=message):
        given()


@pytest.mark.parametrize(
    ("batches", "options", "message"),
    [
        (dicts(), {"num_inputs": 9}, "gave 10 points"),
        (dicts(), {"targets": "y"}, "no column 'y'"),
        (dicts(), {"inputs": ["x"]}, "no column 'x' that inputs names"),
        (dicts(text=np.array(["a"] * 10)), {}, r"'text'\].*column of text"),
        (dicts(text=["a"] * 10), {}, "column of text"),
        ([{"input_ids": [[1], [1, 2]], "label": [0, 1]}], {}, "unequal length; pad"),
        ([(batch, LABELS[:4]) for batch in dicts()], {"targets": "label"}, "leave targets out"),
        ([1, 2], {}, "type int"),
    ],
)
def test_what_is_wrong_with_a_batch_is_said(batches, options, message):
    with pytest.raises(DataError, match=message):
        list(HuggingFaceDataLoader(batches, **options))


def test_rows_of_unequal_length_in_a_real_data_set():
    uneven = pytest.importorskip("datasets").Dataset.from_dict(
        {"x": [[1], [1, 2]], "label": [0, 1]}
    )
    with pytest.raises(DataError, match="unequal length"):
        list(HuggingFaceDataLoader(uneven, batch_size=2))
    with pytest.raises(InvalidArgumentError, match="HuggingFaceDataLoader"):
        DataLoader(uneven)


def test_a_batch_that_is_a_dict_is_told_where_to_go():
    with pytest.raises(DataError, match="HuggingFaceDataLoader"):
        list(DataLoader(dicts()))


# --- in use --------------------------------------------------------------------------------------


def network(params, inputs):
    """Embedded tokens, their masked mean, and a head."""
    hidden = jnp.tanh(params["embedding"][inputs["input_ids"]])
    weights = inputs["attention_mask"][:, :, None].astype(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1) @ params["head"]


PARAMS = {
    "embedding": RNG.normal(size=(9, 5)).astype(np.float32),
    "head": RNG.normal(size=(5, 3)).astype(np.float32),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("selected", ["head", "all"])
def test_token_ids_with_masks_give_the_posterior_of_the_arrays(source, selected):
    chosen = None if selected == "all" else lambda path, _: path[0] == "head"
    loader = HuggingFaceDataLoader(SOURCES[source](), batch_size=4)
    inputs = {"input_ids": IDS, "attention_mask": MASK}
    found, wanted = (
        hoarfrost.fit_laplace(network, PARAMS, data, trainable=chosen, progress=False)
        for data in (loader, DataLoader.from_array_data((inputs, LABELS), batch_size=4))
    )
    np.testing.assert_array_equal(found.precision(), wanted.precision())
    predicted = found.predict(loader.to_inputs_loader())
    arrays = InputsLoader.from_array_inputs(inputs, batch_size=4)
    np.testing.assert_array_equal(predicted, wanted.predict(arrays))


def test_tuples_of_inputs():
    def of_tuple(params, inputs):
        return network(params, {"input_ids": inputs[0], "attention_mask": inputs[1]})

    arrays = [((IDS[:4], MASK[:4]), LABELS[:4]), ((IDS[4:], MASK[4:]), LABELS[4:])]
    dict_batches = [({"input_ids": x[0], "attention_mask": x[1]}, y) for x, y in arrays]
    found = hoarfrost.fit_laplace(of_tuple, PARAMS, arrays, progress=False)
    wanted = hoarfrost.fit_laplace(network, PARAMS, dict_batches, progress=False)
    np.testing.assert_array_equal(found.precision(), wanted.precision())
    np.testing.assert_array_equal(
        found.predict((IDS, MASK)), wanted.predict({"input_ids": IDS, "attention_mask": MASK})
    )
