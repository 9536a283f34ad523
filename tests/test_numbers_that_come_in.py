"""Byte orders and kinds of numbers, at every public function that takes data."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
from doors import (
    ADAM,
    BATCH,
    X,
    Y,
    Z,
    data_of,
    inputs_of,
    models,
    of_data,
    of_inputs,
    same,
    targets_for,
)
from jax.experimental import sparse
from versions import enable_x64

from hoarfrost.calibration import (
    ClassificationTemperatureScaler,
    OutputCalibrator,
    fit_calibrator,
)
from hoarfrost.data import DataLoader, InputsLoader, TargetsLoader
from hoarfrost.data.checked import data_batches, input_batches
from hoarfrost.errors import DataError, HoarfrostError, InvalidArgumentError
from hoarfrost.prob_model.likelihood import ClassificationLikelihood

INPUTS, DATA = of_inputs(), of_data()


def swapped(array):
    """The same numbers in the other byte order."""
    found = array.astype(array.dtype.newbyteorder(">"))
    assert not found.dtype.isnative
    return found


# --- byte order ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_of_the_other_byte_order(name):
    expected = INPUTS[name](inputs_of(X))
    for loader in (
        inputs_of(swapped(X)),
        InputsLoader.from_iterable([swapped(X[i : i + BATCH]) for i in range(0, 24, BATCH)]),
    ):
        for _ in range(2):  # a compiled program is the one that misread them
            same(INPUTS[name](loader), expected)


@pytest.mark.parametrize("name", DATA)
def test_data_of_the_other_byte_order(name):
    kind, call = DATA[name]
    targets = targets_for(kind)
    expected = call(data_of(X, targets))
    same(call(data_of(swapped(X), swapped(targets))), expected)
    parts = [(swapped(X[i : i + BATCH]), swapped(targets[i : i + BATCH])) for i in (0, 10, 20)]
    same(call(DataLoader.from_iterable(parts)), expected)


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8", ">i2", ">i4", ">i8", ">u2", ">u8"])
@pytest.mark.parametrize("form", ["array", "list", "tree", "loader", "shuffled"])
def test_every_form_of_inputs_and_every_dtype_comes_out_native(dtype, form):
    x = np.arange(24).reshape(8, 3).astype(dtype)
    given, structure = x, jax.tree.structure(x)
    if form == "list":
        given = [x[:5], x[5:]]
    elif form == "tree":
        given = {"a": x, "b": [x]}
    elif form in ("loader", "shuffled"):
        given = InputsLoader.from_array_inputs(x, batch_size=3, shuffle=form == "shuffled")
    found = list(input_batches(given, structure if form == "list" else None))
    for batch in found:
        for leaf in jax.tree.leaves(batch.inputs):
            assert leaf.dtype.isnative
            assert leaf.dtype == np.dtype(dtype).newbyteorder("=")
    first = np.concatenate([jax.tree.leaves(batch.inputs)[0] for batch in found])
    np.testing.assert_array_equal(first, x)


def test_loaders_hand_out_native_arrays_and_keep_what_is_native():
    loader = DataLoader.from_array_data((swapped(X), swapped(Y)), batch_size=7, shuffle=True)
    parts = [loader, loader.chop(2), *loader.split(9), loader.sample(0, 5)]
    parts.append(loader.to_transformed_data_loader(lambda x, y, s: (swapped(x), swapped(y), s)))
    for part in parts:
        for x, y in part:
            assert x.dtype.isnative and y.dtype.isnative
    for array in (*loader.to_array_data(), loader.to_array_inputs(), loader.to_array_targets()):
        assert array.dtype.isnative
    # Nothing is copied where there is nothing to do.
    ((x, y),) = DataLoader.from_array_data((X, Y))
    assert x is X and y is Y


@pytest.mark.parametrize("name", ["mode", "variance", "std"])
def test_results_that_are_given_back_in_the_other_byte_order(name):
    predictive, loader = models().regressor.predictive, inputs_of(X)
    argument = {"mode": "means", "variance": "aleatoric_variances", "std": "variances"}[name]
    values = np.abs(X[:, :1])
    found = getattr(predictive, name)(loader, **{argument: swapped(values)}, rng=1)
    same(found, getattr(predictive, name)(loader, **{argument: values}, rng=1))


def test_parameters_drawn_for_inputs_of_the_other_byte_order():
    joint = models().map.joint
    same(joint.init(swapped(X)).params, joint.init(X).params)


def test_outputs_and_targets_of_a_calibration_in_the_other_byte_order():
    outputs = np.random.default_rng(0).normal(size=(2, 9, 3)).astype(np.float32)
    targets = np.arange(9, dtype=np.int32) % 3

    def fit(*batches):
        calibrator = OutputCalibrator(ClassificationTemperatureScaler())
        variables = calibrator.init(3, jax.random.PRNGKey(0))
        statistics = ClassificationLikelihood.calibration_statistics
        options = {"optimizer": ADAM, "n_epochs": 3, "verbose": False}
        return fit_calibrator(calibrator, variables, statistics, batches, **options).variables

    same(fit((swapped(outputs), swapped(targets))), fit((outputs, targets)))
    for bad, message in (
        ((outputs.astype(complex), targets), "outputs of batch 1 of batches have dtype"),
        ((outputs, targets.astype("U1")), "targets of batch 1 of batches have dtype"),
        ((outputs, targets[:4]), r"shape \(2, 9, 3\), and there are 4 targets"),
        ((outputs[0], targets), r"outputs of batch 1 of batches have shape \(9, 3\)"),
    ):
        with pytest.raises(HoarfrostError, match=message):
            fit((outputs, targets), bad)
    with pytest.raises(DataError, match="batches are empty"):
        fit()


# --- what is no number ---------------------------------------------------------------------------

NO_NUMBERS = {
    "complex": X.astype(np.complex64),
    "complex128": X.astype(np.complex128),
    "longdouble": X.astype(np.longdouble),
    "datetime": np.zeros(X.shape, "M8[s]"),
    "timedelta": np.zeros(X.shape, "m8[s]"),
    "text": np.full(X.shape, "a"),
    "bytes": np.full(X.shape, b"a"),
    "objects": X.astype(object),
    "structured": np.zeros(X.shape, [("a", "f4"), ("b", "i4")]),
    "void": np.zeros(X.shape, "V4"),
    "masked": np.ma.masked_array(X, X > 1),
    "csr": scipy.sparse.csr_matrix(X),
    "coo array": scipy.sparse.coo_array(X),
    "BCOO": sparse.BCOO.fromdense(X),
    "keys": jax.random.split(jax.random.key(0), (24, 3)),
}
if np.longdouble(1).dtype.itemsize == 8:
    del NO_NUMBERS["longdouble"]
ONE_EACH = ["Laplace.predict", "Laplace.functional_covariance joint", "plan"]


def as_targets(array):
    """One number a point of an array of inputs."""
    return array[:, 0] if hasattr(array, "ndim") and array.ndim == 2 else array


@pytest.mark.parametrize("kind", NO_NUMBERS)
@pytest.mark.parametrize(
    "name", [*ONE_EACH, "map.predictive.mean", "laplace.predictive.mean probit"]
)
def test_inputs_that_are_no_numbers(name, kind):
    array = NO_NUMBERS[kind]
    with pytest.raises((DataError, InvalidArgumentError), match="inputs") as info:
        INPUTS[name](InputsLoader.from_iterable([array]))
    assert "give" in str(info.value)
    if name in ONE_EACH:
        with pytest.raises((DataError, InvalidArgumentError), match="inputs of batch 0"):
            INPUTS[name](array)


@pytest.mark.parametrize("kind", NO_NUMBERS)
@pytest.mark.parametrize("name", DATA)
def test_data_that_are_no_numbers(name, kind):
    array, call = NO_NUMBERS[kind], DATA[name][1]
    for data, part in (
        ((array, targets_for(DATA[name][0])), "inputs"),
        ((X, as_targets(array)), "targets"),
    ):
        with pytest.raises((DataError, InvalidArgumentError), match=part) as info:
            call(DataLoader.from_iterable([data]))
        # The argument is named too.
        assert "loader" in str(info.value)
        assert "give" in str(info.value)


def test_masked_arrays_without_a_masked_entry_are_arrays():
    masked = np.ma.masked_array(X, X > 1e9)
    same(models().core.predict(masked), models().core.predict(X))
    loader = DataLoader.from_array_data((masked, np.ma.masked_array(Y)), batch_size=5)
    assert all(type(leaf) is np.ndarray for batch in loader for leaf in batch)
    for data in ((np.ma.masked_array(X, X > 1), Y), (X, np.ma.masked_array(Y, Y > 0))):
        with pytest.raises(DataError, match="masked entries"):
            DataLoader.from_array_data(data)
    with pytest.raises(DataError, match="masked entries"):
        TargetsLoader.from_array_targets(np.ma.masked_array(Y, Y > 0))


@pytest.mark.parametrize(
    "dtype", [bool, "i1", "u1", "i2", "f2", "f4", "f8", "i8", "u8", ml_dtypes.bfloat16]
)
def test_numbers_of_every_other_kind_are_taken(dtype):
    found = models().core.predict(np.ones((3, 3)).astype(dtype))
    np.testing.assert_allclose(found, models().core.predict(np.ones((3, 3), "f4")), rtol=1e-5)


# --- numbers that JAX cannot take ----------------------------------------------------------------

TOO_LARGE = {
    "1e39": (np.float64, 1e39, "1e\\+39"),
    "-1e300": (np.float64, -1e300, "-1e\\+300"),
    "just beyond": (np.float64, 3.41e38, "3.41e\\+38"),
    "int64": (np.int64, 2**31, str(2**31)),
    "negative int64": (np.int64, -(2**31) - 1, str(-(2**31) - 1)),
    "uint64": (np.uint64, 2**32, str(2**32)),
}


def spoiled(array, dtype, value):
    array = np.abs(array).astype(dtype)
    array[(3, *(0,) * (array.ndim - 1))] = value
    return array


@pytest.mark.parametrize("kind", TOO_LARGE)
@pytest.mark.parametrize("name", INPUTS)
def test_inputs_beyond_what_jax_computes_in(name, kind):
    dtype, value, shown = TOO_LARGE[kind]
    x = spoiled(X, dtype, value)
    where = rf"inputs of batch 0( of \w+)? hold {shown} at index \(3, 0\).*float32|int32"
    with pytest.raises(InvalidArgumentError, match=where) as info:
        INPUTS[name](inputs_of(x))
    assert "jax_enable_x64" in str(info.value)


@pytest.mark.parametrize("kind", TOO_LARGE)
@pytest.mark.parametrize("name", DATA)
def test_data_beyond_what_jax_computes_in(name, kind):
    dtype, value, shown = TOO_LARGE[kind]
    targets, call = targets_for(DATA[name][0]), DATA[name][1]
    for data, part in (
        ((spoiled(X, dtype, value), targets), "inputs"),
        ((X, spoiled(targets, dtype, value)), "targets"),
    ):
        with pytest.raises(InvalidArgumentError, match=rf"{part} of batch 0 of \w+ hold {shown}"):
            call(data_of(*data))


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint64])
def test_numbers_that_fit_are_taken_to_the_last_one(dtype):
    narrow = np.float32 if dtype is np.float64 else np.dtype(np.dtype(dtype).kind + "4")
    limits = np.finfo(narrow) if dtype is np.float64 else np.iinfo(narrow)
    x = np.array([[limits.min, limits.max, 0]], dtype)
    (batch,) = input_batches(x)
    assert batch.inputs is x
    if dtype is np.float64:
        # What rounds to zero, or down to the largest number, is no error; NaN is another one's.
        for value in (1e-320, 5e-324, float(limits.max) * (1 + 1e-8), np.nan, np.inf):
            list(input_batches(np.full((2, 3), value)))


def test_with_64_bits_nothing_is_too_large():
    with enable_x64(True):
        for dtype, value, _ in TOO_LARGE.values():
            x = spoiled(X, dtype, value)
            (batch,) = input_batches(x)
            assert batch.inputs is x
        (pair,) = data_batches([(X.astype(float), Y.astype(np.int64) + 2**40)])
        assert pair.targets.max() >= 2**40


def test_arrays_of_32_bits_are_not_gone_over(monkeypatch):
    for name in ("argmax", "argmin", "max", "min"):

        def refuse(*_, **__):
            raise AssertionError("the numbers were read")

        monkeypatch.setattr(np, name, refuse)
    for dtype in ("f4", "i4", "u4", "u1", "f2", bool):
        list(input_batches(np.ones((4, 2), dtype)))
    list(input_batches(jnp.ones((4, 2))))


def test_errors_leave_what_was_fitted(monkeypatch):
    model = models().map
    before = model.posterior.state.get()
    for x in (X.astype(float) * 1e39, X.astype(complex)):
        with pytest.raises(HoarfrostError):
            model.predictive.log_prob(data_of(x, Y))
        with pytest.raises(HoarfrostError):
            models().regressor.predictive.log_prob(data_of(x, Z))
    assert model.posterior.state.get() is before
