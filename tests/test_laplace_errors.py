"""What bad input gets: a typed error that names the argument, the value and the remedy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hoarfrost.data import DataLoader
from hoarfrost.data.checked import data_batches
from hoarfrost.errors import (
    DataError,
    InvalidArgumentError,
    MemoryLimitError,
    NonFiniteError,
    NotPositiveDefiniteError,
    SelectionError,
    ShapeError,
)
from hoarfrost.laplace import fit_laplace
from hoarfrost.laplace.structure.head import HeadCurvature


def last_only(path, _):
    return "last" in path


@pytest.fixture(params=["head", "all"])
def fit(request, small):
    """Fit `small` with some arguments replaced; by the head's way and by the general one."""
    trainable = last_only if request.param == "head" else None

    def call(loader=None, params=None, apply=None, **options):
        options = {"trainable": trainable, "progress": False, **options}
        return fit_laplace(
            apply or small.apply,
            small.params if params is None else params,
            small.loader if loader is None else loader,
            **options,
        )

    return call


def spoiled(array, value):
    array = np.array(array)
    array.flat[3] = value
    return array


def test_a_selector_that_returns_something_else(fit):
    with pytest.raises(SelectionError, match=r"trainable returned 'yes' .* 'first/b'"):
        fit(trainable=lambda path, _: "yes")


def test_a_selector_that_selects_nothing(fit):
    with pytest.raises(SelectionError, match=r"(?s)selects no parameter.*first/w.*last/b"):
        fit(trainable=lambda path, _: "lsat" in path)


def test_trainable_leaves_without_a_number(small):
    params = {**small.params, "nothing": jnp.zeros((0, 4))}
    with pytest.raises(SelectionError, match="the trainable parameters hold no number"):
        fit_laplace(
            small.apply,
            params,
            small.loader,
            trainable=lambda path, _: path == ("nothing",),
            progress=False,
        )


@pytest.mark.parametrize("label", [4, -1])
def test_a_label_out_of_range_names_the_batch(fit, small, label):
    loader = [(small.x, small.y), (small.x, spoiled(small.y, label))]
    with pytest.raises(
        InvalidArgumentError, match=rf"targets of batch 1 .* label {label}; .*0\.\.3"
    ):
        fit(loader)


def test_a_label_that_is_no_number(fit, small):
    y = spoiled(small.y.astype(np.float32), np.nan)
    with pytest.raises(NonFiniteError, match="targets of batch 0 hold nan"):
        fit([(small.x, y)])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("batch", [0, 2])
def test_inputs_that_are_not_finite_name_the_batch(fit, small, value, batch):
    loader = [(small.x, small.y)] * 3
    loader[batch] = (spoiled(small.x, value), small.y)
    with pytest.raises(NonFiniteError, match=f"inputs of batch {batch} hold a NaN or an infinity"):
        fit(loader)


def test_outputs_that_overflow_name_the_batch(fit, small):
    def overflowing(params, x):
        return jnp.exp(100 * small.apply(params, x) * jnp.abs(x[:, :1]))

    large = np.full_like(small.x, 9.0)
    params = jax.tree.map(jnp.abs, small.params)
    with pytest.raises(NonFiniteError, match="the network's outputs on batch 1 hold"):
        fit([(0 * small.x, small.y), (large, small.y)], params, overflowing)


def test_derivatives_that_are_not_finite_name_the_batch(small):
    def rooted(params, x):
        return small.apply(params, x) + jnp.sqrt(params["last"]["s"] * x[:, :1])

    params = {**small.params, "last": {**small.params["last"], "s": jnp.ones(1)}}
    loader = [(np.abs(small.x) + 1, small.y), (0 * small.x, small.y)]
    with pytest.raises(NonFiniteError, match="the network's derivatives on batch 1 hold"):
        fit_laplace(rooted, params, loader, trainable=last_only, progress=False)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_parameters_that_are_not_finite_are_named(fit, small, value):
    params = {**small.params, "first": {**small.params["first"]}}
    params["first"]["w"] = spoiled(params["first"]["w"], value)
    with pytest.raises(NonFiniteError, match="the parameter 'first/w' holds a NaN or an infinity"):
        fit(params=params)


def test_inputs_and_targets_of_different_length(fit, small):
    with pytest.raises(DataError, match=r"data_loader: .* batch 1 .*inputs has 12, targets has 11"):
        fit([(small.x, small.y), (small.x, small.y[:11])])


@pytest.mark.parametrize("loader", [[], [(np.zeros((0, 2), "f4"), np.zeros(0, int))]])
def test_an_empty_loader(fit, loader):
    with pytest.raises(DataError, match="data_loader: the data loader is empty"):
        fit(loader)


def test_a_one_shot_generator_is_called_one(fit, small):
    with pytest.raises(DataError, match=r"data_loader is a one-shot iterator \(generator\)"):
        fit(batch for batch in small.loader)


def test_something_that_is_no_loader(fit):
    with pytest.raises(
        InvalidArgumentError, match="data_loader is a int, which cannot be iterated"
    ):
        fit(3)


@pytest.mark.parametrize("batch", [np.zeros((3, 2)), (1, 2, 3)])
def test_batches_that_are_no_pairs(fit, batch):
    with pytest.raises(
        DataError, match=r"data_loader: batch 0 must be a tuple \(inputs, targets\)"
    ):
        fit([batch])


def test_inputs_that_change_their_shape(fit, small):
    wide = np.concatenate([small.x, small.x], axis=1)
    with pytest.raises(
        DataError, match=r"inputs of batch 1 of data_loader have shape \[\(4,\)\] beyond"
    ):
        fit([(small.x, small.y), (wide, small.y)])


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (
            {"a": np.zeros((12, 2)), "b": np.zeros((11, 2))},
            ShapeError,
            r"different length \[11, 12",
        ),
        (
            np.full((12, 2), "a"),
            InvalidArgumentError,
            "inputs of batch 0 of data_loader have dtype <U1",
        ),
        (np.float32(1.0), ShapeError, "axis 0 must run over the points"),
        ({}, DataError, "inputs of batch 0 hold no array"),
    ],
    ids=["uneven tree", "text", "scalar", "no array"],
)
def test_inputs_that_are_no_arrays_over_points(fit, small, inputs, error, message):
    with pytest.raises(error, match=message):
        fit([(inputs, small.y)])


def test_outputs_that_do_not_fit_the_likelihood(fit, small):
    def single(params, x):
        return small.apply(params, x)[:, :1]

    with pytest.raises(
        ShapeError, match=r"outputs have shape \(12, 1\); the categorical likelihood"
    ):
        fit(apply=single)
    with pytest.raises(ShapeError, match=r"outputs have shape \(12,\)"):
        fit(apply=lambda params, x: small.apply(params, x)[:, 0])


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, np.float32(-2)])
def test_a_prior_precision_that_is_not_positive(fit, value):
    with pytest.raises(
        InvalidArgumentError, match=f"prior_precision is {float(value)}; every prior precision must"
    ):
        fit(prior_precision=value)
    with pytest.raises(InvalidArgumentError, match="prior_precision is"):
        fit().with_prior_precision(value)
    with pytest.raises(InvalidArgumentError, match="prior_precision is"):
        fit().log_marginal_likelihood(value)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("strong", InvalidArgumentError, "prior_precision is 'strong'; give a positive number"),
        (True, InvalidArgumentError, "prior_precision is True; give a positive number"),
        ({"last": {"w": 1.0}}, InvalidArgumentError, r"missing: last/b; not trainable: none"),
        (
            {"last": {"w": 1.0, "b": 1.0}, "first": 1.0},
            InvalidArgumentError,
            "missing: none; not trainable: first",
        ),
        (
            {"last": {"w": 1.0, "b": -3.0}},
            InvalidArgumentError,
            "prior_precision at 'last/b' is -3.0",
        ),
        (
            {"last": {"w": np.ones((4, 3)), "b": 1.0}},
            ShapeError,
            r"prior_precision at 'last/w' has shape \(4, 3\); .* shape \(3, 4\)",
        ),
        (
            {"last": {"w": "x", "b": 1.0}},
            InvalidArgumentError,
            "prior_precision at 'last/w' is 'x'",
        ),
        (np.ones(16), InvalidArgumentError, "tree with the trainable leaves last/b, last/w"),
    ],
)
def test_a_prior_precision_that_does_not_fit_the_tree(small, value, error, message):
    with pytest.raises(error, match=message):
        fit_laplace(
            small.apply,
            small.params,
            small.loader,
            trainable=last_only,
            prior_precision=value,
            progress=False,
        )


def test_a_posterior_that_does_not_fit_in_memory(fit):
    with pytest.raises(MemoryLimitError) as caught:
        fit(memory_budget=1000)
    message = str(caught.value)
    assert f"P = {caught.value.args[0].split('P = ')[1].split(' ')[0]} parameters" in message
    assert "there are 1000 B" in message
    assert "what would fit: hessian_structure='diag'" in message
    assert caught.value.bytes_needed > 1000
    assert caught.value.bytes_available == 1000


def test_memory_for_nothing_at_all(fit):
    with pytest.raises(MemoryLimitError, match="no structure would fit: train fewer parameters"):
        fit(memory_budget=10, hessian_structure="auto")


def test_auto_says_once_that_it_fell_back(fit):
    with pytest.warns(UserWarning, match="hessian_structure='auto' uses 'diag'") as caught:
        posterior = fit(memory_budget=1000, hessian_structure="auto")
    assert len(caught) == 1
    assert posterior.hessian_structure == "diag"
    assert fit(hessian_structure="auto").hessian_structure == "full"


@pytest.mark.parametrize("fit", ["head"], indirect=True)
def test_another_prior_precision_without_the_curvature(fit):
    # That of other parameters comes back from the factor: tests/test_recovered_curvature.py.
    posterior = fit(keep_curvature=False)
    with pytest.raises(InvalidArgumentError, match="fit again with keep_curvature=True"):
        posterior.with_prior_precision(2.0)
    with pytest.raises(InvalidArgumentError, match="the curvature was not kept"):
        posterior.log_marginal_likelihood(2.0)
    assert np.isfinite(posterior.log_marginal_likelihood())


def test_a_matrix_that_is_not_positive_definite(small):
    """Multiples of one feature, a curvature of 1e17 and hardly any prior: rounding decides."""
    factors = np.array([[1, 3, 7, 1 / 3, 0.1, 0.7]])
    x = (1e8 * small.x[:, :1] * factors).astype(np.float32)
    with pytest.raises(
        NotPositiveDefiniteError, match="give a prior_precision of at least"
    ) as caught:
        fit_laplace(
            lambda params, inputs: inputs @ params["w"],
            {"w": jnp.zeros((6, 4))},
            [(x, small.y)],
            prior_precision=1e-12,
            progress=False,
        )
    assert 1e-12 < caught.value.least_prior_precision < 1e8
    assert 0 < caught.value.pivot < 24
    assert isinstance(caught.value, np.linalg.LinAlgError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"hessian_structure": "blocks"},
            "hessian_structure is 'blocks'; give 'full', 'dual', 'kron', 'diag' or 'auto'",
        ),
        ({"keep_curvature": "maybe"}, "keep_curvature is 'maybe'; give True, False or 'auto'"),
        ({"memory_budget": -1}, "memory_budget is -1; give a positive whole number of bytes"),
        ({"memory_budget": 1.5}, "memory_budget is 1.5"),
        ({"likelihood": "weibull"}, "likelihood is 'weibull'"),
        ({"apply": 3}, "model is 3"),
    ],
)
def test_arguments_that_are_not_choices(fit, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        fit(**options)


def test_arguments_are_checked_before_the_data_are_touched(fit):
    class Untouchable:
        def __iter__(self):
            raise AssertionError("the data were touched")

    for options in ({"prior_precision": -1.0}, {"hessian_structure": "x"}, {"likelihood": "y"}):
        with pytest.raises(InvalidArgumentError):
            fit(Untouchable(), **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, x: p.predict(x, link="logit"), "link is 'logit'; give one of 'probit', 'mc'"),
        (lambda p, x: p.predict(x, "mc", n_samples=0), "n_samples is 0; give a whole number"),
        (lambda p, x: p.predict(x, "mc", seed=-1), "seed is -1; give a whole number"),
        (lambda p, x: p.predict(x, "mc", seed=0.5), "seed is 0.5"),
        (lambda p, x: p.sample(2**64, 1), "seed is 18446744073709551616; give .* below"),
        (lambda p, x: p.sample(0, 2.0), "n_samples is 2.0; give a whole number of at least 1"),
        (lambda p, x: p.sample("a", 2), "seed is 'a'; give a whole number of at least 0"),
    ],
)
def test_arguments_of_the_members(fit, small, call, message):
    with pytest.raises(InvalidArgumentError, match=message):
        call(fit(), small.x)


def test_predicting_for_bad_inputs(fit, small):
    posterior = fit()
    with pytest.raises(InvalidArgumentError, match=r"give loader\.to_inputs_loader\(\)"):
        posterior.predict(DataLoader.from_iterable(small.loader))
    with pytest.raises(DataError, match="inputs are empty"):
        posterior.predict(small.x[:0])
    with pytest.raises(NonFiniteError, match="inputs of batch 0 hold a NaN or an infinity"):
        posterior.functional_variance(spoiled(small.x, np.nan))
    with pytest.raises(SelectionError, match=r"the trainable tree has no leaf at '\w+/b'"):
        posterior.merge({"last": {}})


def test_the_sum_so_far_stays_valid_when_a_batch_is_refused(small):
    """Pieces before a bad batch are in the curvature, the bad one is not, and more can follow."""
    posterior = fit_laplace(
        small.apply, small.params, small.loader, trainable=last_only, progress=False
    )
    linearised = posterior.linearised
    from hoarfrost.curvature.stream import stream

    curvature = HeadCurvature.empty(linearised.setting())
    bad = [(small.x[:6], small.y[:6]), (spoiled(small.x[:6], np.nan), small.y[:6])]
    with pytest.raises(NonFiniteError, match="batch 1"):
        for piece in stream(linearised.head, data_batches(bad), 6):
            curvature.add(piece.outputs, piece.block)
    for piece in stream(linearised.head, data_batches([(small.x[6:], small.y[6:])]), 6):
        curvature.add(piece.outputs, piece.block)
    got = curvature.factor(np.ones(16)).precision()
    np.testing.assert_allclose(got, posterior.precision(), rtol=1e-5, atol=1e-6)


def test_a_one_shot_iterator_behind_our_own_loader(small):
    with pytest.raises(DataError, match="one"):
        DataLoader.from_iterable(batch for batch in small.loader)
