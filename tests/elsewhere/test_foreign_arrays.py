"""Tensors of other libraries as batches: what they hold, or a typed error."""

from __future__ import annotations

from collections import UserDict

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import hoarfrost
from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.errors import DataError, InvalidArgumentError

X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
Y = np.array([0, 1, 2, 0, 1, 2])
PARAMS = {"w": np.ones((3, 3), np.float32)}


def linear(params, inputs):
    return inputs.astype(jnp.float32) @ params["w"]


class ByArray:
    """Says by `__array__` what it holds."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype)


class WithGradient(ByArray):
    """As PyTorch's tensor that requires gradients."""

    requires_grad = True

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    def detach(self):
        return ByArray(self.array)


class ByDlpack:
    """As PyTorch's bfloat16, which NumPy does not have."""

    def __init__(self, array):
        self.array = jnp.asarray(array, jnp.bfloat16)

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Got unsupported ScalarType BFloat16")

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class Elsewhere(ByArray):
    """As a tensor on an accelerator that JAX does not have."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


def tensor(change):
    def make():
        torch = pytest.importorskip("torch")
        return change(torch.from_numpy(X.copy()))

    return make


HALF = X.astype(ml_dtypes.bfloat16)
WORKS = {
    "__array__": (lambda: ByArray(X), X),
    "gradient": (lambda: WithGradient(X), X),
    "DLPack": (lambda: ByDlpack(X), HALF),
    "torch": (tensor(lambda t: t), X),
    "torch gradient": (tensor(lambda t: t.requires_grad_()), X),
    "torch bfloat16": (tensor(lambda t: t.bfloat16()), HALF),
    "torch bfloat16 gradient": (tensor(lambda t: t.bfloat16().requires_grad_()), HALF),
    "torch float16": (tensor(lambda t: t.half()), X.astype(np.float16)),
    "torch float64": (tensor(lambda t: t.double()), X.astype(np.float64)),
    "torch int64": (tensor(lambda t: t.long()), X.astype(np.int64)),
    "torch bool": (tensor(lambda t: t > 0), X > 0),
    "torch transposed": (tensor(lambda t: t.T.contiguous().T), X),
}
FAILS = {
    "elsewhere": (lambda: Elsewhere(X), DataError, "cuda:0.*memory of the host"),
    "torch sparse": (tensor(lambda t: t.to_sparse()), DataError, "cannot be read as an array"),
    "torch meta": (tensor(lambda t: t.to("meta")), DataError, "cannot be read as an array"),
    "torch complex": (tensor(lambda t: t + 1j), InvalidArgumentError, "real numbers"),
}


@pytest.mark.parametrize("form", WORKS)
def test_a_batch_may_be_a_tensor(form):
    make, array = WORKS[form]
    found, wanted = (
        hoarfrost.fit_laplace(linear, PARAMS, [(x, Y)], progress=False) for x in (make(), array)
    )
    np.testing.assert_array_equal(found.precision(), wanted.precision())
    np.testing.assert_array_equal(found.predict(make()), wanted.predict(array))
    ((inputs, _),) = list(DataLoader([(make(), Y)]))
    assert inputs.dtype == array.dtype and type(inputs) is np.ndarray
    np.testing.assert_array_equal(inputs, array)


@pytest.mark.parametrize("form", FAILS)
def test_a_tensor_that_cannot_be_read_is_a_typed_error(form):
    make, error, message = FAILS[form]
    with pytest.raises(error, match=message):
        hoarfrost.fit_laplace(linear, PARAMS, [(make(), Y)], progress=False)


def test_targets_may_be_tensors():
    wanted = hoarfrost.fit_laplace(linear, PARAMS, [(X, Y)], progress=False)
    found = hoarfrost.fit_laplace(linear, PARAMS, [(X, ByArray(Y))], progress=False)
    np.testing.assert_array_equal(found.precision(), wanted.precision())


def test_a_tensor_that_is_written_again_changes_no_batch():
    tensor = ByDlpack(X)
    (inputs,) = list(InputsLoader([tensor]))
    assert not np.shares_memory(inputs, np.asarray(tensor.array))


@pytest.mark.parametrize("nested", [False, True])
def test_a_tokenizers_output_is_a_dict(nested):
    batch = UserDict({"x": X, "y": UserDict({"z": ByArray(X)}) if nested else X})
    ((inputs, _),) = list(DataLoader([(batch, Y)]))
    assert type(inputs) is dict and (type(inputs["y"]) is dict) == nested
    np.testing.assert_array_equal(inputs["y"]["z"] if nested else inputs["y"], X)


def test_transformers_batch_encoding_is_a_dict():
    transformers = pytest.importorskip("transformers")
    (inputs,) = list(InputsLoader([transformers.BatchEncoding({"input_ids": X})]))
    np.testing.assert_array_equal(inputs["input_ids"], X)
