"""Loaders: what each constructor and method gives, and what bad data is told."""

import itertools
import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest

from hoarfrost.data import DataLoader, InputsLoader, TargetsLoader
from hoarfrost.errors import DataError, InvalidArgumentError

X = np.arange(14.0).reshape(7, 2)
Y = np.array([0, 1, 2, 0, 1, 2, 5])
BATCHES = [(X[:3], Y[:3]), (X[3:6], Y[3:6]), (X[6:], Y[6:])]


def arrays(**options):
    return DataLoader.from_array_data((X, Y), **options)


def streamed():
    return DataLoader.from_callable_iterable(lambda: iter(BATCHES))


def targets_of(batches):
    return [targets.tolist() for _, targets in batches]


def labels_of(batches):
    return [label for targets in targets_of(batches) for label in targets]


def prefetch_threads():
    return [thread for thread in threading.enumerate() if thread.name == "hoarfrost-prefetch"]


# --- what the constructors give ------------------------------------------------------------------


@pytest.mark.parametrize(
    "loader",
    [
        arrays(batch_size=3),
        arrays(batch_size=3, prefetch=True),
        streamed(),
        DataLoader.from_iterable(BATCHES),
        DataLoader(BATCHES),
    ],
    ids=["arrays", "prefetch", "callable", "iterable", "constructor"],
)
def test_every_constructor_gives_the_same_batches_again_and_again(loader):
    for _ in range(2):
        batches = list(loader)
        assert targets_of(batches) == [[0, 1, 2], [0, 1, 2], [5]]
        np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), X)
    assert len(loader) == 3
    assert loader.size == 7
    assert loader.num_unique_labels == 4
    assert loader.input_shape == (2,)
    np.testing.assert_array_equal(loader.to_array_inputs(), X)
    np.testing.assert_array_equal(loader.to_array_targets(), Y)
    inputs, targets = loader.to_array_data()
    np.testing.assert_array_equal(inputs, X)
    np.testing.assert_array_equal(targets, Y)


def test_without_batch_size_the_arrays_themselves_come():
    ((inputs, targets),) = list(arrays())
    assert inputs is X
    assert targets is Y


def test_unshuffled_batches_are_views():
    inputs, _ = next(iter(arrays(batch_size=3)))
    assert np.shares_memory(inputs, X)


def test_jax_arrays_stay_jax_arrays():
    loader = DataLoader.from_array_data((jnp.asarray(X), jnp.asarray(Y)), 4, shuffle=True)
    inputs, targets = next(iter(loader))
    assert isinstance(inputs, type(jnp.asarray(X)))
    assert isinstance(targets, type(jnp.asarray(Y)))
    assert isinstance(loader.to_array_inputs(), np.ndarray)


def test_trees_of_inputs():
    data = {"left": X, "right": {"deep": X[:, :1]}}
    loader = DataLoader.from_array_data((data, Y), batch_size=4, shuffle=True)
    assert loader.input_shape == {"left": (2,), "right": {"deep": (1,)}}
    for inputs, targets in loader:
        np.testing.assert_array_equal(inputs["left"][:, :1], inputs["right"]["deep"])
        np.testing.assert_array_equal(Y[(inputs["left"][:, 0] / 2).astype(int)], targets)
    np.testing.assert_array_equal(loader.to_array_inputs()["right"]["deep"], X[:, :1])
    first, second = DataLoader.from_iterable([({"a": X}, Y)]).split(2)
    assert first.to_array_inputs()["a"].shape == (2, 2)
    assert second.size == 5


class Tensor:
    """Stands for a tensor of another library."""

    def __init__(self, array):
        self.array = array

    def numpy(self):
        return self.array


@pytest.mark.parametrize("name", ["from_torch_data_loader", "from_tensorflow_data_loader"])
def test_tensors_become_numpy_arrays(name):
    batches = [[{"a": Tensor(x)}, Tensor(y)] for x, y in BATCHES]
    loader = getattr(DataLoader, name)(batches)
    inputs, targets = next(iter(loader))
    assert isinstance(inputs["a"], np.ndarray)
    assert isinstance(targets, np.ndarray)
    assert loader.size == 7


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        # The i-th batches of all loaders in one, as Fortuna joins them.
        ("interpose", [[4, 4, 4, 9, 9], [4, 4, 4], [4]]),
        ("concatenate", [[4, 4, 4], [4, 4, 4], [4], [9, 9]]),
    ],
)
@pytest.mark.parametrize("kind", ["arrays", "streams", "jax", "tree"])
def test_from_inputs_loaders(how, expected, kind):
    parts = [[X[:3], X[3:6], X[6:]], [X[:2] + 100]]
    if kind == "arrays":
        inputs = [InputsLoader.from_array_inputs(X, 3), InputsLoader.from_array_inputs(X[:2] + 100)]
    elif kind == "streams":
        inputs = [InputsLoader.from_iterable(part) for part in parts]
    else:
        wrap = jnp.asarray if kind == "jax" else lambda x: {"a": x}
        inputs = [InputsLoader.from_iterable([wrap(x) for x in part]) for part in parts]
    loader = DataLoader.from_inputs_loaders(inputs, [4, 9], how)
    for _ in range(2):
        batches = list(loader)
        assert targets_of(batches) == expected
        for x, targets in batches:
            x = x["a"] if kind == "tree" else x
            np.testing.assert_array_equal(np.asarray(x)[:, 0] >= 100, targets == 9)
    assert (len(loader), loader.size, loader.num_unique_labels) == (len(expected), 9, 2)
    found = loader.to_array_inputs()
    found = found["a"] if kind == "tree" else found
    assert sorted(found[:, 0]) == sorted([*X[:, 0], *(X[:2, 0] + 100)])


# --- order ---------------------------------------------------------------------------------------


def test_each_epoch_has_its_own_order_which_is_a_function_of_seed_and_epoch():
    one, other = arrays(batch_size=3, shuffle=True), arrays(batch_size=3, shuffle=True)
    epochs = [targets_of(one) for _ in range(4)]
    assert all(a != b for a, b in itertools.combinations(epochs, 2))
    assert all(sorted(labels_of(one.epoch(n))) == sorted(Y.tolist()) for n in range(4))
    assert targets_of(other.epoch(3)) == epochs[3]
    assert targets_of(other.epoch(0)) == epochs[0]
    assert targets_of(arrays(batch_size=3, shuffle=True, seed=1)) != epochs[0]


def test_shuffling_without_batch_size_shuffles():
    loader = arrays(shuffle=True)
    first, second = targets_of(loader), targets_of(loader)
    assert len(first) == 1
    assert first != [Y.tolist()]
    assert first != second


def test_looking_does_not_advance_the_order():
    loader = arrays(batch_size=3, shuffle=True)
    expected = targets_of(loader.epoch(0))
    assert (loader.size, len(loader), loader.num_unique_labels) == (7, 3, 4)
    assert loader.input_shape == (2,)
    loader.to_array_data()
    list(loader.in_order())
    list(loader.epoch(5))
    loader.split(2), loader.sample(0, 3), list(loader.to_inputs_loader())
    assert targets_of(loader) == expected


def test_pairs_stay_together_and_parts_taken_apart_line_up():
    loader = arrays(batch_size=3, shuffle=True)
    for inputs, targets in loader:
        np.testing.assert_array_equal(Y[(inputs[:, 0] / 2).astype(int)], targets)
    for inputs_loader in (loader.to_inputs_loader(), InputsLoader.from_data_loader(loader)):
        np.testing.assert_array_equal(np.concatenate(list(inputs_loader.in_order())), X)
        np.testing.assert_array_equal(inputs_loader.to_array_inputs(), X)
    for targets_loader in (loader.to_targets_loader(), TargetsLoader.from_data_loader(loader)):
        assert isinstance(targets_loader, TargetsLoader)
        np.testing.assert_array_equal(np.concatenate(list(targets_loader.in_order())), Y)
        np.testing.assert_array_equal(targets_loader.to_array_targets(), Y)
    np.testing.assert_array_equal(loader.to_array_targets(), Y)
    assert targets_of(loader.in_order()) == [[0, 1, 2], [0, 1, 2], [5]]


def test_sizes_of_arrays_are_known_without_iterating():
    class Watched(np.ndarray):
        def __getitem__(self, rows):
            raise AssertionError("the data were read")

    loader = DataLoader.from_array_data((X.view(Watched), Y.view(Watched)), batch_size=2)
    assert (loader.size, len(loader)) == (7, 4)
    assert loader.chop(2).size == 6


def test_sizes_of_iterables_are_counted_once():
    passes = []

    def batches():
        passes.append(1)
        return iter(BATCHES)

    loader = DataLoader.from_callable_iterable(batches)
    assert (loader.size, len(loader), loader.size) == (7, 3, 7)
    assert len(passes) == 1
    assert (loader.num_unique_labels, loader.num_unique_labels) == (4, 4)
    assert len(passes) == 2
    assert DataLoader(BATCHES, num_unique_labels=11).num_unique_labels == 11


# --- parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: arrays(batch_size=3), streamed], ids=["arrays", "stream"])
def test_split_in_order(make):
    first, second = make().split(4)
    np.testing.assert_array_equal(first.to_array_targets(), Y[:4])
    np.testing.assert_array_equal(second.to_array_targets(), Y[4:])
    np.testing.assert_array_equal(np.concatenate([x for x, _ in second]), X[4:])
    assert (first.size, second.size) == (4, 3)


@pytest.mark.parametrize("make", [lambda: arrays(batch_size=3), streamed], ids=["arrays", "stream"])
def test_split_on_a_batch_edge(make):
    first, second = make().split(3)
    assert targets_of(first) == [[0, 1, 2]]
    assert labels_of(second) == [0, 1, 2, 5]


def test_split_of_a_shuffled_loader_is_random_fixed_and_reshuffled():
    points = np.arange(40)
    loader = DataLoader.from_array_data((points, points), batch_size=8, shuffle=True)
    first, second = loader.split(25)
    chosen = set(first.to_array_targets().tolist())
    assert chosen != set(range(25))
    assert chosen.isdisjoint(second.to_array_targets().tolist())
    orders = [labels_of(first) for _ in range(3)]
    assert all(set(order) == chosen for order in orders)
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize("make", [lambda: arrays(batch_size=3), streamed], ids=["arrays", "stream"])
def test_chop_makes_the_divisor_divide(make):
    loader = make().chop(2)
    assert targets_of(loader) == [[0, 1], [0, 1]]
    assert (len(loader), loader.size) == (2, 4)
    np.testing.assert_array_equal(next(iter(loader))[0], X[:2])


@pytest.mark.parametrize("make", [lambda: arrays(batch_size=3), streamed], ids=["arrays", "stream"])
def test_sample_draws_as_many_points_as_asked(make):
    loader = make()
    drawn = loader.sample(0, 50)
    assert (drawn.size, len(drawn)) == (50, 17)
    inputs, targets = drawn.to_array_data()
    np.testing.assert_array_equal(Y[(inputs[:, 0] / 2).astype(int)], targets)
    np.testing.assert_array_equal(drawn.to_array_inputs(), make().sample(0, 50).to_array_inputs())
    assert (drawn.to_array_inputs() != make().sample(1, 50).to_array_inputs()).any()
    whole = loader.sample(3, 7, replace=False)
    assert sorted(whole.to_array_inputs()[:, 0]) == X[:, 0].tolist()
    np.testing.assert_array_equal(
        drawn.to_array_inputs(), arrays(batch_size=3).sample(0, 50).to_array_inputs()
    )


def test_sample_is_uniform():
    counts = np.bincount(
        arrays().sample(0, 70_000).to_array_inputs()[:, 0].astype(int) // 2, minlength=7
    )
    # 10,000 expected each with a standard deviation of 93.
    assert np.abs(counts - 10_000).max() < 5 * 93


def test_transformation_and_its_status():
    def transform(inputs, targets, status):
        return inputs + status, targets, status + 1

    loader = arrays(batch_size=3).to_transformed_data_loader(transform, status=10)
    for _ in range(2):  # the status starts anew each epoch
        shifts = np.concatenate([x[:, 0] for x, _ in loader]) - X[:, 0]
        assert shifts.tolist() == [10, 10, 10, 11, 11, 11, 12]
    shuffled = arrays(batch_size=3, shuffle=True)
    assert targets_of(
        shuffled.to_transformed_data_loader(lambda x, y, s: (x, y, s)).epoch(2)
    ) == targets_of(shuffled.epoch(2))


def test_loaders_of_inputs_and_of_targets():
    inputs = InputsLoader.from_array_inputs({"a": X}, batch_size=3)
    assert (len(inputs), inputs.size, inputs.input_shape) == (3, 7, {"a": (2,)})
    doubled = inputs.to_transformed_inputs_loader(lambda x, s: ({"a": 2 * x["a"]}, s))
    np.testing.assert_array_equal(doubled.to_array_inputs()["a"], 2 * X)
    targets = TargetsLoader.from_array_targets(Y, batch_size=3)
    negated = targets.to_transformed_targets_loader(lambda y, s: (-y, s))
    np.testing.assert_array_equal(negated.to_array_targets(), -Y)
    assert isinstance(targets.chop(3), TargetsLoader)
    assert [part.size for part in targets.split(2)] == [2, 5]
    assert InputsLoader.from_iterable([X, X]).sample(0, 20).size == 20
    assert TargetsLoader.from_callable_iterable(lambda: iter([Y])).to_array_targets() is not None
    shuffled = InputsLoader.from_array_inputs(X, shuffle=True)
    assert next(iter(shuffled)).tolist() != X.tolist()


# --- prefetching ---------------------------------------------------------------------------------


class Slow(np.ndarray):
    """Says when a batch of it was gathered, and by which thread."""

    gathered: list

    def __getitem__(self, rows):
        self.gathered.append(threading.current_thread().name)
        return np.asarray(super().__getitem__(rows))


def slow(points):
    array = np.arange(float(points)).view(Slow)
    array.gathered = []
    return array


def test_prefetching_gathers_ahead_in_a_thread():
    array = slow(10)
    batches = InputsLoader.from_array_inputs(array, batch_size=1, prefetch=True).epoch(0)
    assert next(batches).tolist() == [0.0]
    deadline = time.monotonic() + 10
    while len(array.gathered) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    # One consumed, two waiting in the queue, one in the thread's hands, and no more than that.
    assert array.gathered == ["hoarfrost-prefetch"] * 4
    assert np.concatenate(list(batches)).tolist() == list(range(1, 10))
    assert not prefetch_threads()


def test_prefetching_ends_with_a_consumer_that_stops_early():
    batches = arrays(batch_size=1, prefetch=True).epoch(0)
    next(batches)
    assert len(prefetch_threads()) == 1
    batches.close()
    assert not prefetch_threads()
    for _ in arrays(batch_size=1, prefetch=True):
        break
    assert not prefetch_threads()


def test_prefetching_passes_errors_on():
    class Broken(np.ndarray):
        def __getitem__(self, rows):
            if rows.start >= 2:
                raise OSError("disk gone")
            return np.asarray(super().__getitem__(rows))

    broken = np.arange(4.0).view(Broken)
    batches = InputsLoader.from_array_inputs(broken, batch_size=1, prefetch=True).epoch(0)
    assert [next(batches)[0], next(batches)[0]] == [0.0, 1.0]
    with pytest.raises(OSError, match="disk gone"):
        next(batches)
    assert not prefetch_threads()


# --- bad input -----------------------------------------------------------------------------------


def one_shot():
    yield from BATCHES


@pytest.mark.parametrize("make", [DataLoader, DataLoader.from_iterable])
def test_a_generator_is_refused_at_once(make):
    with pytest.raises(DataError, match=r"one-shot iterator \(generator\).*from_callable_iterable"):
        make(one_shot())


def test_a_function_that_returns_the_same_generator_twice():
    generator = one_shot()
    loader = DataLoader.from_callable_iterable(lambda: generator)
    assert loader.size == 7
    with pytest.raises(DataError, match="one-shot generator that is used up"):
        list(loader)


def test_a_function_that_wraps_a_used_up_iterator():
    iterator = iter(BATCHES)
    loader = DataLoader.from_callable_iterable(lambda: map(tuple, iterator))
    assert loader.size == 7
    with pytest.raises(DataError, match="an earlier one gave 3 or more"):
        list(loader)


def test_inputs_and_targets_of_different_length():
    with pytest.raises(DataError, match=r"the data .*inputs has 7, targets has 6"):
        DataLoader.from_array_data((X, Y[:6]))
    with pytest.raises(DataError, match=r"inputs\['b'\] has 5"):
        DataLoader.from_array_data(({"a": X, "b": X[:5]}, Y))
    loader = DataLoader.from_iterable([*BATCHES[:2], (X[:3], Y[:2])])
    with pytest.raises(DataError, match=r"of batch 2 .*inputs has 3, targets has 2"):
        list(loader)


@pytest.mark.parametrize(
    "use",
    [
        list,
        len,
        lambda loader: loader.size,
        lambda loader: loader.input_shape,
        lambda loader: loader.num_unique_labels,
        lambda loader: loader.sample(0, 3),
        lambda loader: list(loader.epoch(0)),
    ],
)
@pytest.mark.parametrize(
    "loader",
    [
        DataLoader.from_array_data((X[:0], Y[:0])),
        DataLoader.from_array_data((X[:0], Y[:0]), batch_size=2, shuffle=True, prefetch=True),
        DataLoader.from_iterable([]),
        DataLoader.from_iterable([(X[:0], Y[:0])]),
    ],
    ids=["arrays", "options", "list", "batch"],
)
def test_an_empty_loader(loader, use):
    with pytest.raises(DataError, match="the data loader is empty"):
        use(loader)


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True, "3"])
def test_batch_size_that_is_no_positive_integer(batch_size):
    with pytest.raises(InvalidArgumentError, match="batch_size must be a positive integer"):
        arrays(batch_size=batch_size)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: arrays(shuffle="yes"), "shuffle must be True or False, but it is 'yes'"),
        (lambda: arrays(prefetch=1), "prefetch must be True or False, but it is 1"),
        (lambda: arrays(seed=-1), "seed must be an integer of at least 0, but it is -1"),
        (lambda: arrays().split(7), "n_data must be smaller than the number of data points, 7"),
        (lambda: arrays().split(0), "n_data must be a positive integer"),
        (lambda: arrays().chop(0), "divisor must be a positive integer"),
        (lambda: arrays().epoch(-1), "n must be an integer of at least 0"),
        (lambda: arrays().sample(0, 8, replace=False), "n_samples must be at most .* 7"),
        (lambda: DataLoader.from_callable_iterable(BATCHES), "fun must be a function"),
        (
            lambda: DataLoader.from_iterable(3),
            "iterable is a int, which cannot be iterated; give a hoarf",
        ),
        (lambda: DataLoader(BATCHES, num_unique_labels=0), "num_unique_labels must be a positive"),
        (
            lambda: DataLoader.from_inputs_loaders([InputsLoader([X])], [1], how="zip"),
            "how must be 'interpose' or 'concatenate', but it is 'zip'",
        ),
        (
            lambda: DataLoader.from_inputs_loaders([InputsLoader([X])], [1, 2]),
            "inputs_loaders and targets must have the same length.* 1 and 2",
        ),
        (lambda: DataLoader.from_array_data(X), r"must be a tuple \(inputs, targets\).*ndarray"),
        (
            lambda: DataLoader.from_array_data((X, [0, 1])),
            r"targets\[0\] of the data is of type int",
        ),
        (lambda: DataLoader.from_array_data((X, np.float64(3))), "without a data axis"),
        (lambda: DataLoader.from_array_data((X, Y.astype(object))), "targets .* dtype object"),
        (lambda: DataLoader.from_array_data((None, Y)), "inputs of the data hold no array"),
        (lambda: list(DataLoader([X])), "batch 0 must be a tuple"),
        (
            lambda: list(DataLoader.from_callable_iterable(lambda: 3)),
            "it returned a value of type int",
        ),
        (
            lambda: list(arrays().to_transformed_data_loader(lambda x, y, s: (x, y))),
            r"transform must return the tuple \(inputs, targets, status\)",
        ),
        (
            lambda: list(arrays().to_transformed_data_loader(lambda x, y, s: (x[:2], y, s))),
            "inputs has 2, targets has 7",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises((DataError, InvalidArgumentError), match=message):
        call()
