"""Loaders of Grain, PyTorch and TensorFlow, given as they are: the posterior is that of the arrays.

Tests of a library that is not installed are skipped.
"""

from __future__ import annotations

import sys

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn

import hoarfrost
from hoarfrost.data import DataLoader, HuggingFaceDataLoader, InputsLoader
from hoarfrost.errors import DataError
from hoarfrost.prob_model import FitConfig, FitMonitor, FitOptimizer, ProbClassifier

# What these libraries say of themselves.
pytestmark = [
    pytest.mark.filterwarnings("default::DeprecationWarning"),
    pytest.mark.filterwarnings("default::FutureWarning"),
    pytest.mark.filterwarnings("default::ResourceWarning"),
]

RNG = np.random.default_rng(5)
X = RNG.normal(size=(22, 3)).astype(np.float32)
MORE = RNG.integers(0, 5, (22, 2))
Y = np.arange(22) % 3
SIZE = 8


class Points:
    """A source of points by their number, as Grain's and PyTorch's."""

    def __init__(self, form):
        self.form = form

    def __len__(self):
        return len(Y)

    def __getitem__(self, i):
        return point(self.form, i)


def point(form, i):
    inputs = {"array": X[i], "dict": {"a": X[i], "b": MORE[i]}, "tuple": (X[i], MORE[i])}
    return inputs[form], Y[i]


def whole(form):
    return {"array": X, "dict": {"a": X, "b": MORE}, "tuple": (X, MORE)}[form]


def grain_map(form):
    grain = pytest.importorskip("grain")
    return grain.MapDataset.source(Points(form)).batch(SIZE)


def grain_iter(form):
    return grain_map(form).to_iter_dataset()


def grain_loader(form):
    grain = pytest.importorskip("grain")
    sampler = grain.samplers.IndexSampler(
        len(Y), shuffle=False, num_epochs=1, shard_options=grain.sharding.NoSharding()
    )
    batch = grain.transforms.Batch(SIZE)
    return grain.DataLoader(data_source=Points(form), sampler=sampler, operations=[batch])


def torch_loader(form):
    torch = pytest.importorskip("torch")
    return torch.utils.data.DataLoader(Points(form), batch_size=SIZE)


def torch_stream(form):
    """A loader of a stream: it has a length, which it refuses."""
    torch = pytest.importorskip("torch")

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return (point(form, i) for i in range(len(Y)))

    return torch.utils.data.DataLoader(Stream(), batch_size=SIZE)


def tensorflow(form):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((whole(form), Y)).batch(SIZE)


def tensorflow_stream(form):
    """A data set that does not know its length."""
    return tensorflow(form).filter(lambda *batch: True)


class Refusing:
    """As PyTorch's loader of a stream and tf.data, for where they are not installed."""

    def __init__(self, form):
        self.form = form

    def __len__(self):
        raise TypeError("object of type 'Stream' has no len()")

    def __iter__(self):
        batches = DataLoader.from_array_data((whole(self.form), Y), batch_size=SIZE)
        return batches.in_order()


LOADERS = {
    "grain map": grain_map,
    "grain iter": grain_iter,
    "grain loader": grain_loader,
    "torch": torch_loader,
    "torch stream": torch_stream,
    "tensorflow": tensorflow,
    "tensorflow stream": tensorflow_stream,
    "length refused": Refusing,
}


def network(params, inputs):
    parts = [x.astype(np.float32) for x in jax.tree.leaves(inputs)]
    hidden = sum(part @ w for part, w in zip(parts, params["body"], strict=False))
    return jax.numpy.tanh(hidden) @ params["head"]


PARAMS = {
    "body": [RNG.normal(size=(n, 4)).astype(np.float32) for n in (3, 2)],
    "head": RNG.normal(size=(4, 3)).astype(np.float32),
}


def head(path, value):
    return path[0] == "head"


@pytest.mark.parametrize("form", ["array", "dict", "tuple"])
@pytest.mark.parametrize("source", LOADERS)
def test_a_loader_is_taken_as_it_is(source, form):
    loader = LOADERS[source](form)
    arrays = DataLoader.from_array_data((whole(form), Y), batch_size=SIZE)
    found, wanted = (
        hoarfrost.fit_laplace(network, PARAMS, data, trainable=head, progress=False)
        for data in (loader, arrays)
    )
    assert found.num_data == 22
    np.testing.assert_array_equal(found.precision(), wanted.precision())
    assert found.log_marginal_likelihood() == wanted.log_marginal_likelihood()
    # A second pass, over the inputs alone.
    again = DataLoader(loader).to_inputs_loader()
    inputs = InputsLoader.from_array_inputs(whole(form), batch_size=SIZE)
    np.testing.assert_array_equal(found.predict(again), wanted.predict(inputs))
    assert DataLoader(loader).size == 22


@pytest.mark.parametrize("source", ["torch", "torch stream"])
def test_from_torch_data_loader(source):
    loader = DataLoader.from_torch_data_loader(LOADERS[source]("dict"))
    np.testing.assert_array_equal(loader.to_array_inputs()["b"], MORE)
    assert loader.num_unique_labels == 3


@pytest.mark.parametrize("source", ["tensorflow", "tensorflow stream"])
def test_from_tensorflow_data_loader(source):
    loader = DataLoader.from_tensorflow_data_loader(LOADERS[source]("dict"))
    np.testing.assert_array_equal(loader.to_array_inputs()["b"], MORE)
    assert loader.num_unique_labels == 3


class Net(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        parts = [nn.Dense(4)(x.astype(np.float32)) for x in jax.tree.leaves(inputs)]
        return nn.Dense(3)(nn.tanh(sum(parts)))


def trained(data):
    model = ProbClassifier(Net())
    model.train(
        data,
        fit_config=FitConfig(monitor=FitMonitor(verbose=False)),
        map_fit_config=FitConfig(
            optimizer=FitOptimizer(method=optax.adam(1e-2), n_epochs=2),
            monitor=FitMonitor(verbose=False),
        ),
    )
    return model.posterior.laplace.precision()


@pytest.mark.parametrize("source", LOADERS)
def test_a_model_trains_from_it(source):
    arrays = DataLoader.from_array_data((whole("dict"), Y), batch_size=SIZE)
    found = trained(LOADERS[source]("dict"))
    np.testing.assert_array_equal(found, trained(arrays))


# --- batches that are dicts ----------------------------------------------------------------------


def test_torch_batches_of_columns():
    torch = pytest.importorskip("torch")
    rows = [{"ids": MORE[i], "labels": Y[i]} for i in range(22)]
    loader = HuggingFaceDataLoader(torch.utils.data.DataLoader(rows, batch_size=SIZE))
    np.testing.assert_array_equal(loader.to_array_targets(), Y)
    np.testing.assert_array_equal(loader.to_array_inputs()["ids"], MORE)


def test_grain_batches_of_columns():
    grain = pytest.importorskip("grain")
    rows = [{"ids": MORE[i], "score": Y[i]} for i in range(22)]
    batches = grain.MapDataset.source(rows).batch(SIZE)
    loader = HuggingFaceDataLoader(batches, targets="score")
    np.testing.assert_array_equal(loader.to_array_targets(), Y)
    np.testing.assert_array_equal(loader.to_array_inputs()["ids"], MORE)


# --- loaders without an end ----------------------------------------------------------------------


class Endless:
    def __iter__(self):
        while True:
            yield X, Y


class OfLength(Endless):
    def __len__(self):
        return sys.maxsize


class OfCardinality(Endless):
    def cardinality(self):
        return np.int64(-1)


ENDLESS = {
    "a length": OfLength,
    "a cardinality": OfCardinality,
    "grain": lambda: pytest.importorskip("grain").MapDataset.source(Points("array")).repeat(),
    "tensorflow": lambda: tensorflow("array").repeat(),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_loader_that_never_ends_is_refused_before_the_work(kind):
    with pytest.raises(DataError, match=r"data_loader is a \w+ without an end.*repeat"):
        hoarfrost.fit_laplace(network, PARAMS, ENDLESS[kind](), progress=False)
