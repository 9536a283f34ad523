"""Loaders that shuffle by themselves: what belongs together comes from one pass."""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest
from doors import (
    BATCH,
    DRAWN,
    KEY,
    X,
    Y,
    Z,
    classifier,
    data_of,
    epochs,
    inputs_of,
    models,
    of_data,
    of_inputs,
    targets_for,
    trained,
)

from hoarfrost.data import DataLoader, InputsLoader, TargetsLoader
from hoarfrost.errors import DataError
from hoarfrost.prob_model import CalibConfig, CalibMonitor, CalibOptimizer

INPUTS, DATA = of_inputs(), of_data()


class Shuffling:
    """Stands for another library's loader that draws a new order at each pass."""

    def __init__(self, *arrays, wrap=lambda array: array):
        self.arrays, self.wrap, self.passes = arrays, wrap, 0

    def __iter__(self):
        self.passes += 1
        order = np.random.default_rng(self.passes).permutation(len(self.arrays[0]))
        for start in range(0, len(order), BATCH):
            parts = [self.wrap(array[order[start : start + BATCH]]) for array in self.arrays]
            yield parts if len(parts) > 1 else parts[0]


class Tensor:
    def __init__(self, array):
        self.array = array

    def numpy(self):
        return self.array


def forms(*arrays):
    """The same source, as each constructor takes it."""
    return {
        "raw": Shuffling(*arrays),
        "iterable": DataLoader.from_iterable(Shuffling(*arrays)),
        "callable": DataLoader.from_callable_iterable(Shuffling(*arrays).__iter__),
        "torch": DataLoader.from_torch_data_loader(Shuffling(*arrays, wrap=Tensor)),
        "tensorflow": DataLoader.from_tensorflow_data_loader(Shuffling(*arrays, wrap=Tensor)),
        "transformed": DataLoader.from_iterable(Shuffling(*arrays)).to_transformed_data_loader(
            lambda x, y, status: (x, y, status)
        ),
    }


# Steps of the optimiser see other batches, which changes where they lead, not what is joined.
STEPS = {"train calibration": 0.1, "calibrate": 0.1}


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("form", forms(X, Y))
def test_what_joins_inputs_with_targets(name, form):
    kind, call = DATA[name]
    targets = targets_for(kind)
    found = call(forms(X, targets)[form])
    expected = call(data_of(X, targets))
    rtol = STEPS.get(name, 2e-4)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        # Points come in another order; each has the number that it has in any.
        a, b = (np.sort(np.atleast_1d(np.asarray(x, float))) for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-5)


@pytest.mark.parametrize(
    "name", [n for n in INPUTS if n.split()[0].split(".")[-1] not in DRAWN and "joint" not in n]
)
def test_what_takes_inputs_alone(name):
    def rows(found):
        if isinstance(found, str):
            return found
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(found)]
        if any(leaf.dtype == object for leaf in leaves):
            return sorted(map(str, leaves[0]))
        return [np.sort(leaf.astype(float), axis=None) for leaf in leaves]

    found = rows(INPUTS[name](InputsLoader.from_iterable(Shuffling(X))))
    expected = rows(INPUTS[name](inputs_of(X)))
    if isinstance(found, str) or isinstance(found[0], str):
        assert found == expected
        return
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("model", ["map", "laplace", "regressor"])
def test_targets_that_are_drawn_stand_beside_their_outputs(model):
    predictive = getattr(models(), model).predictive
    loader = InputsLoader.from_iterable(Shuffling(X))
    targets, aux = predictive.sample(loader, 40, return_aux=["outputs"], rng=KEY)
    outputs = np.asarray(aux["outputs"])
    if model == "regressor":
        # In units of their own standard deviation, standard normal: of other points they are not.
        scores = (np.asarray(targets)[..., 0] - outputs[..., 0]) / np.exp(outputs[..., 1] / 2)
        assert abs(scores.std() - 1) < 5 / np.sqrt(2 * scores.size)
        for i in range(len(X)):
            assert abs(scores[:, i].mean()) < 5 / np.sqrt(40)
    else:
        # With the labels that belong to them the outputs are as probable as under the model.
        log_p = outputs - np.log(np.exp(outputs).sum(axis=-1, keepdims=True))
        taken = np.take_along_axis(log_p, np.asarray(targets)[..., None], axis=-1)[..., 0]
        p = np.exp(log_p)
        expected = np.sum(p * log_p, axis=-1)
        spread = np.sqrt(np.sum(np.sum(p * log_p**2, axis=-1) - expected**2))
        assert abs(np.sum(taken - expected)) < 5 * spread
    # And what one pass gives in order is what it gave before, bit for bit.
    same, _ = predictive.sample(inputs_of(X), 40, return_aux=["outputs"], rng=KEY)
    np.testing.assert_array_equal(same, predictive.sample(inputs_of(X), 40, rng=KEY))


def test_a_likelihood_draws_targets_beside_their_outputs():
    """The model says what it knows of each input: an output tells which point it is of."""
    model = models().regressor
    params = model.posterior.state.get().params
    loader = Shuffling(X)
    targets, aux = model.likelihood.sample(
        400, params, InputsLoader.from_iterable(loader), return_aux=["outputs"], rng=KEY
    )
    outputs = np.asarray(aux["outputs"])
    scores = (np.asarray(targets)[..., 0] - outputs[:, 0]) / np.exp(outputs[:, 1] / 2)
    assert outputs.shape == (len(X), 2)
    assert np.abs(scores.mean(axis=0)).max() < 5 / np.sqrt(400)
    assert loader.passes == 1


def test_calibration_finds_the_temperature_of_the_data():
    """All points in one batch: the steps are those of the unshuffled data, but for rounding."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).astype(np.float32)
    y = ((x[:, 0] > 0) ^ (rng.random(200) < 0.2)).astype(np.int32)

    class InOneBatch(Shuffling):
        def __iter__(self):
            batches = list(super().__iter__())
            yield tuple(np.concatenate(part) for part in zip(*batches, strict=True))

    config = CalibConfig(
        optimizer=CalibOptimizer(method=optax.adam(0.1), n_epochs=40),
        monitor=CalibMonitor(verbose=False),
    )
    found = []
    for loader in (InOneBatch(x, y), DataLoader.from_array_data((x, y))):
        model = trained(classifier(False), data_of(X, Y), False)
        model.calibrate(loader, calib_config=config)
        params = model.posterior.state.get().calib_params["output_calibrator"]["params"]
        found.append(float(params["log_temp"][0]))
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_training_sees_pairs_that_belong_together():
    """Targets are a function of the inputs here: what training fits can only be that function."""
    x = np.linspace(-2, 2, 40, dtype=np.float32)[:, None].repeat(3, axis=1)
    labels = (x[:, 0] > 0).astype(np.int32)
    model = classifier(False)
    status = model.train(Shuffling(x, labels), fit_config=epochs(60))
    assert status["fit_status"]["loss"][-1] < status["fit_status"]["loss"][0]
    log_prob = model.predictive.log_prob(Shuffling(x, labels), rng=1)
    assert np.mean(np.exp(np.asarray(log_prob))) > 0.8


# --- parts ---------------------------------------------------------------------------------------


def taken_apart(loader):
    return loader.to_inputs_loader(), loader.to_targets_loader()


@pytest.mark.parametrize(
    "apart",
    [
        taken_apart,
        lambda loader: (
            InputsLoader.from_data_loader(loader),
            TargetsLoader.from_data_loader(loader),
        ),
        lambda loader: taken_apart(loader.chop(2)),
        lambda loader: (loader.to_targets_loader(), loader.to_inputs_loader()),
        lambda loader: (loader.to_targets_loader(), loader.to_targets_loader()),
        lambda loader: (loader.to_inputs_loader(), loader.to_inputs_loader()),
    ],
)
@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("targets", [Y, Z], ids=["classes", "numbers"])
def test_parts_that_would_not_line_up_are_refused(apart, in_order, targets):
    def gone_over(part):
        return list(part.in_order() if in_order else part)

    first, second = apart(DataLoader.from_iterable(Shuffling(X, targets)))
    gone_over(first)
    with pytest.raises(DataError, match=r"shuffles by itself.*from_array_data"):
        gone_over(second)
    # Taken from one pass they are what they were.
    whole = DataLoader.from_array_data(
        DataLoader.from_iterable(Shuffling(X, targets)).to_array_data(), batch_size=7, shuffle=True
    )
    first, second = apart(whole)
    gone_over(first), gone_over(second)


def test_arrays_of_parts_that_would_not_line_up():
    loader = DataLoader.from_iterable(Shuffling(X, Y))
    inputs, targets = loader.to_array_data()
    rows = [int(np.flatnonzero((x == X).all(axis=1))[0]) for x in inputs]
    np.testing.assert_array_equal(targets, Y[rows])
    assert loader.to_array_inputs().shape == X.shape
    with pytest.raises(DataError, match="shuffles by itself"):
        loader.to_array_targets()


def test_the_parts_of_a_split_have_no_point_in_common():
    first, second = DataLoader.from_iterable(Shuffling(X, Z)).split(9)
    list(first.in_order())
    with pytest.raises(DataError, match="shuffles by itself"):
        list(second.in_order())
    inputs, targets = DataLoader.from_iterable(Shuffling(X, Z)).sample(0, 30).to_array_data()
    rows = [int(np.flatnonzero((x == X).all(axis=1))[0]) for x in inputs]
    np.testing.assert_array_equal(targets, Z[rows])


def test_inputs_that_are_changed_at_random_keep_their_order():
    rng = np.random.default_rng(0)

    def augmented():
        for start in range(0, 24, BATCH):
            x = X[start : start + BATCH]
            yield x + rng.normal(size=x.shape).astype("f4"), Y[start : start + BATCH]

    loader = DataLoader.from_callable_iterable(augmented)
    inputs, targets = taken_apart(loader)
    for _ in range(2):
        assert inputs.to_array_inputs().shape == X.shape
        np.testing.assert_array_equal(targets.to_array_targets(), Y)
    assert [part.size for part in loader.split(5)] == [5, 19]


# --- loaders made from one another ---------------------------------------------------------------

CHAINS = {
    "itself": lambda loader: loader,
    "split": lambda loader: loader.split(15)[0],
    "sample": lambda loader: loader.sample(1, 30),
    "chop": lambda loader: loader.chop(3),
    "transformed": lambda loader: loader.to_transformed_data_loader(lambda x, y, s: (x, y, s)),
    "given to a constructor": DataLoader,
}


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("prefetch", [False, True])
def test_loaders_made_from_one_another_share_the_order_of_an_epoch(chain, prefetch):
    points = np.arange(40)
    data = (points[:, None], points)
    made = DataLoader.from_array_data(data, 7, shuffle=True, prefetch=prefetch, seed=3)
    loader = CHAINS[chain](made)
    inputs, targets = taken_apart(loader)
    orders = []
    for epoch in (0, 1, 2, 1):
        pairs = list(loader.epoch(epoch))
        for pair, x, y in zip(pairs, inputs.epoch(epoch), targets.epoch(epoch), strict=True):
            np.testing.assert_array_equal(pair[0], x)
            np.testing.assert_array_equal(pair[1], y)
        orders.append(np.concatenate([y for _, y in pairs]).tolist())
    assert orders[1] == orders[3]
    assert orders[0] != orders[1] != orders[2]
    # By hand, as code for Fortuna does it: the k-th pass over each is epoch k - 1.
    for _ in range(2):
        together = [y.tolist() for _, y in loader]
        assert together == [y.tolist() for y in targets]
        assert together == [x[:, 0].tolist() for x in inputs]
    # What functions give is in the order of `to_array_targets`.
    np.testing.assert_array_equal(inputs.to_array_inputs()[:, 0], loader.to_array_targets())
    np.testing.assert_array_equal(
        np.concatenate(list(inputs.in_order()))[:, 0], targets.to_array_targets()
    )
