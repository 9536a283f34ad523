"""What is given in place of a loader, and loaders whose batches do not fit together."""

from __future__ import annotations

import re

import jax.numpy as jnp
import numpy as np
import pytest
from doors import X, Y, data_of, inputs_of, models, of_data, of_inputs, same, targets_for

from hoarfrost.data import DataLoader, InputsLoader, TargetsLoader
from hoarfrost.errors import DataError, HoarfrostError, InvalidArgumentError, ShapeError

INPUTS, DATA = of_inputs(), of_data()
FRONT = [name for name in INPUTS if not name.startswith("Laplace.") and name != "plan"]
CORE = [name for name in INPUTS if name not in FRONT]


def used_up():
    iterator = iter([(X, Y)])
    next(iterator)
    return iterator


class NoArrays:
    """Something whose batches are no arrays."""

    def __iter__(self):
        yield {"x"}, {"y"}


# In place of a loader of pairs.
NO_PAIRS = {
    "inputs loader": lambda y: inputs_of(X),
    "targets loader": lambda y: TargetsLoader.from_array_targets(y),
    "array": lambda y: X,
    "device array": lambda y: jnp.asarray(X),
    "pair of arrays": lambda y: (X, y),
    "ragged pair": lambda y: (X, y[:5]),
    "dict": lambda y: {"inputs": X, "targets": y},
    "text": lambda y: "data.csv",
    "bytes": lambda y: b"data",
    "set": lambda y: {1, 2},
    "class": lambda y: list,
    "number": lambda y: 3,
    "function": lambda y: lambda: [(X, y)],
    "generator": lambda y: (batch for batch in [(X, y)]),
    "used up iterator": lambda y: used_up(),
    "list of arrays": lambda y: [X, y],
    "list of triples": lambda y: [(X, y, y)],
    "list of numbers": lambda y: [1, 2],
    "empty list": lambda y: [],
    "no points": lambda y: [(X[:0], y[:0])],
    "no points in arrays": lambda y: DataLoader.from_array_data((X[:0], y[:0])),
    "fewer targets": lambda y: [(X, y), (X, y[:5])],
    "fewer inputs": lambda y: [(X[:5], y)],
    "uneven tree": lambda y: [({"a": X, "b": X[:5]}, y)],
    "no arrays": lambda y: NoArrays(),
    "targets in a dict": lambda y: [(X, {"y": y})],
    "targets without an axis": lambda y: [(X, y[0])],
    "ragged targets": lambda y: [(X, [[0], [1, 2]])],
    "targets of three axes": lambda y: [(X, y.reshape(-1, 1, 1))],
    "nothing": lambda y: [(None, None)],
}
# In place of a loader of inputs; the second holds of the front only.
NO_INPUTS = {
    "data loader": lambda: data_of(X, Y),
    "targets loader": lambda: TargetsLoader.from_array_targets(Y),
    "text": lambda: "data.csv",
    "number": lambda: 3,
    "nothing": lambda: None,
    "function": lambda: lambda: [X],
    "generator": lambda: (x for x in [X]),
    "used up iterator": lambda: used_up(),
    "list of numbers": lambda: [1, 2],
    "empty loader": lambda: InputsLoader.from_iterable([]),
    "no points in arrays": lambda: InputsLoader.from_array_inputs(X[:0]),
    "no arrays": lambda: [{"x"}],
}
NO_INPUTS_OF_THE_FRONT = {
    "array": lambda: X,
    "device array": lambda: jnp.asarray(X),
    "dict": lambda: {"a": X},
    "empty list": lambda: [],
    "uneven tree": lambda: [{"a": X, "b": X[:5]}],
}


def refused(call, given):
    """A typed error, with the argument's name and what to give."""
    with pytest.raises(HoarfrostError) as info:
        call(given)
    assert isinstance(info.value, InvalidArgumentError | DataError | ShapeError)
    assert re.search(r"loader|inputs|targets", str(info.value)), info.value
    return str(info.value)


@pytest.mark.parametrize("kind", NO_PAIRS)
@pytest.mark.parametrize("name", DATA)
def test_no_loader_of_pairs(name, kind):
    targets, call = DATA[name]
    message = refused(call, NO_PAIRS[kind](targets_for(targets)))
    if kind not in ("targets of three axes",):
        assert re.search(r"\w*data_loader", message), message


@pytest.mark.parametrize("kind", {**NO_INPUTS, **NO_INPUTS_OF_THE_FRONT})
@pytest.mark.parametrize("name", FRONT)
def test_no_loader_of_inputs(name, kind):
    message = refused(INPUTS[name], {**NO_INPUTS, **NO_INPUTS_OF_THE_FRONT}[kind]())
    assert "inputs_loader" in message


@pytest.mark.parametrize("kind", NO_INPUTS)
@pytest.mark.parametrize("name", CORE)
def test_no_inputs(name, kind):
    assert "inputs" in refused(INPUTS[name], NO_INPUTS[kind]())


def test_what_can_be_gone_over_again_is_a_loader():
    """The same rule for the front and for Laplace: lists of pairs, of lists of targets too."""
    expected = data_of(X, Y)
    halves = [(X[:10], Y[:10].tolist()), [X[10:20], Y[10:20]], (X[20:], tuple(Y[20:]))]
    for call in (DATA["Laplace.log_prob"][1], DATA["map.predictive.log_prob"][1]):
        for given in (halves, tuple(halves), DataLoader(expected)):
            same(call(given), call(expected))
    inputs = [X[:10], jnp.asarray(X[10:20]), X[20:]]
    for given in (inputs, tuple(inputs), InputsLoader(inputs), InputsLoader(inputs_of(X))):
        found = models().map.predictive.mean(given)
        same(found, models().map.predictive.mean(inputs_of(X)))


LOADERS = {
    "DataLoader": data_of(X, Y),
    "InputsLoader": inputs_of(X),
    "TargetsLoader": TargetsLoader.from_array_targets(Y),
}
CLASSES = {"DataLoader": DataLoader, "InputsLoader": InputsLoader, "TargetsLoader": TargetsLoader}
WRONG = {
    "array": X,
    "device array": jnp.asarray(X),
    "dict": {"a": X},
    "text": "abc",
    "bytes": b"abc",
    "number": 1.5,
    "nothing": None,
    "function": lambda: [X],
}


@pytest.mark.parametrize("given", [*LOADERS, *WRONG])
@pytest.mark.parametrize("made", CLASSES)
def test_constructors(made, given):
    cls, value = CLASSES[made], {**LOADERS, **WRONG}[given]
    for make in (cls, cls.from_iterable):
        if made == given:
            loader = make(value)
            same(list(loader.in_order()), list(value.in_order()))
            continue
        with pytest.raises(InvalidArgumentError, match=r"iterable is a .*; give "):
            make(value)
    if made == "DataLoader":
        return
    if given == "DataLoader":
        assert cls.from_data_loader(value).size == 24
        return
    with pytest.raises(InvalidArgumentError, match=r"data_loader is a .*; give "):
        cls.from_data_loader(value)


@pytest.mark.parametrize("make", [InputsLoader.from_data_loader, TargetsLoader.from_data_loader])
def test_iterables_of_pairs_in_place_of_a_data_loader(make):
    assert make([(X, Y), (X[:3], Y[:3])]).size == 27
    with pytest.raises(DataError, match="one-shot"):
        make(batch for batch in [(X, Y)])
    with pytest.raises(DataError, match="batch 0 must be a tuple"):
        list(make([X]))


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (inputs_of(X), [1], "inputs_loaders is a InputsLoader; give a list"),
        (X, [1], "inputs_loaders and targets must have the same length"),
        ([X], [1], r"inputs_loaders\[0\] is a ndarray; give"),
        ([inputs_of(X), data_of(X, Y)], [0, 1], r"inputs_loaders\[1\] is a DataLoader"),
        ([inputs_of(X), LOADERS["TargetsLoader"]], [0, 1], r"inputs_loaders\[1\] is a Targets"),
        ({0: inputs_of(X)}, [0], "inputs_loaders is a dict"),
        ("a", [0], "inputs_loaders is a str"),
        ([inputs_of(X)], 0, "targets is a int"),
        ([inputs_of(X)], "0", "targets is a str"),
        ([inputs_of(X)], ["0"], "targets are .*one number for each"),
        ([inputs_of(X)], [None], "targets are .*one number for each"),
        ([inputs_of(X)], [1j], "targets are .*one number for each"),
        ([inputs_of(X)], [[0, 1]], "targets are .*one number for each"),
        ([inputs_of(X), inputs_of(X)], [[0], [0, 1]], "targets are .*one number for each"),
        ([], [], "same length, at least 1"),
        ([inputs_of(X)], [], "same length, at least 1"),
    ],
)
def test_from_inputs_loaders_of_something_else(inputs, targets, message):
    with pytest.raises((DataError, InvalidArgumentError), match=message):
        DataLoader.from_inputs_loaders(inputs, targets)


def test_targets_of_inputs_loaders_as_arrays():
    for targets in (np.array([3, 4]), jnp.asarray([3, 4]), (3, 4)):
        loader = DataLoader.from_inputs_loaders([inputs_of(X), inputs_of(X)], targets)
        assert loader.num_unique_labels == 2
        assert sorted(set(loader.to_array_targets().tolist())) == [3, 4]


def test_batches_that_cannot_be_joined():
    wide = InputsLoader.from_array_inputs(np.concatenate([X, X], axis=1))
    with pytest.raises(DataError, match=r"cannot be joined: .*\(3,\).*\(6,\)"):
        list(DataLoader.from_inputs_loaders([InputsLoader([X]), wide], [0, 1]))
    for loader in (
        InputsLoader.from_iterable([X, X[:, :1]]),
        InputsLoader.from_iterable([X, {"a": X}]),
    ):
        with pytest.raises(DataError, match="cannot be joined"):
            loader.to_array_inputs()


# --- transformations -----------------------------------------------------------------------------

STATUSES = {
    "list": ([], lambda status: status.append(1) or len(status)),
    "dict": ({"n": 0}, lambda status: status.update(n=status["n"] + 1) or status["n"]),
    "array": (np.zeros(1), lambda status: status.__iadd__(1)[0]),
    "generator": (np.random.default_rng(4), lambda status: status.random()),
}


@pytest.mark.parametrize("kind", STATUSES)
@pytest.mark.parametrize("source", ["arrays", "list"])
def test_a_status_changed_in_place_does_not_leak(kind, source):
    status, change = STATUSES[kind]
    seen = []

    def transform(inputs, targets, current):
        seen.append(float(change(current)))
        return inputs + np.float32(seen[-1]), targets, current

    loader = data_of(X, Y)
    loader = loader if source == "arrays" else DataLoader.from_iterable(list(loader))
    made = loader.to_transformed_data_loader(transform, status)
    expected = list(made.in_order())
    of_a_pass = tuple(seen)
    # Nothing that looks moves it either.
    assert (made.size, len(made), made.input_shape, made.num_unique_labels) == (24, 3, (3,), 3)
    half, _ = made.split(11)
    half.to_array_data(), made.to_array_targets()
    for _ in range(2):
        seen.clear()
        same(list(made.in_order()), expected)
        assert tuple(seen) == of_a_pass
    # And what was given is the caller's own.
    change(status)
    same(list(made.in_order()), expected)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_batch_for_which_none_is_returned_is_left_out(kind):
    loader = LOADERS[kind]
    loader = CLASSES[kind].from_iterable(
        [b for b in loader] * 2 if kind == "TargetsLoader" else loader
    )
    name = {"DataLoader": "data", "InputsLoader": "inputs", "TargetsLoader": "targets"}[kind]

    def transform(*arguments):
        *batch, status = arguments
        status = status + 1
        return None if len(batch[0]) < 10 or (status == 1 and calls.append(1)) else (*batch, status)

    calls: list[int] = []
    made = getattr(loader, f"to_transformed_{name}_loader")(transform, 0)
    # The last batch of 4 points goes, and every pass is the same.
    same(list(made.in_order()), list(made.in_order()))
    assert made.size == sum(len(b[0] if kind == "DataLoader" else b) for b in made.in_order())
    assert made.size < loader.size or kind == "TargetsLoader"
    dropped = getattr(loader, f"to_transformed_{name}_loader")(lambda *_: None)
    with pytest.raises(DataError, match="the data loader is empty"):
        list(dropped.in_order())


def test_the_status_goes_on_over_batches_that_are_left_out():
    seen = []

    def transform(inputs, targets, status):
        seen.append(status)
        return None if len(seen) == 2 else (inputs, targets, status + 1)

    found = list(data_of(X, Y).to_transformed_data_loader(transform, 0).in_order())
    assert seen == [0, 1, 1]
    assert [len(x) for x, _ in found] == [10, 4]


def test_transformations_that_cannot_be():
    with pytest.raises(InvalidArgumentError, match=r"transform is a int; give a function"):
        data_of(X, Y).to_transformed_data_loader(3)
    with pytest.raises(InvalidArgumentError, match=r"status is a generator that cannot be copied"):
        data_of(X, Y).to_transformed_data_loader(lambda x, y, s: (x, y, s), (x for x in [1]))
    for wrong in (5, (X, Y), [X, Y, 0]):
        made = data_of(X, Y).to_transformed_data_loader(lambda x, y, s, wrong=wrong: wrong)
        with pytest.raises(DataError, match="transform must return the tuple"):
            list(made.in_order())
