"""Deep ensembles: what of each member is its own, against members trained one by one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from same_network import KINDS, WIDTH, Linen, arrays, function, network, plain

from hoarfrost.checks import seed_from_key
from hoarfrost.data import DataLoader
from hoarfrost.errors import (
    DataError,
    HoarfrostError,
    InvalidArgumentError,
    NonFiniteError,
    ShapeError,
)
from hoarfrost.methods import WeightPosterior, fit_ensemble
from hoarfrost.methods.ascent import climb, repeated
from hoarfrost.methods.problem import problem_of

SIZE, BATCH, CLASSES = 24, 8, 3
RNG = np.random.default_rng(9)
X = RNG.normal(size=(SIZE, WIDTH)).astype(np.float32)
Y = RNG.integers(0, CLASSES, SIZE)
PARAMS = arrays(CLASSES)
STILL, ADAM = optax.sgd(0.0), optax.adam(1e-2)
ATOL = 2e-5


def _loader(batch_size: int | None = BATCH) -> DataLoader:
    return DataLoader.from_array_data((X, Y), batch_size=batch_size)


def _fit(kind: str = "function", **options: Any) -> WeightPosterior:
    model, params = network(kind, PARAMS)
    given = {
        "ensemble_size": 3,
        "n_epochs": 2,
        "optimizer": ADAM,
        "init": "given",
        "progress": False,
        **options,
    }
    return fit_ensemble(model, params, given.pop("loader", None) or _loader(), **given)


def _members(posterior: WeightPosterior) -> list[np.ndarray]:
    """Leaves, leading axis of members."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(posterior.distribution.listed.trainable)]


def _apart(posterior: WeightPosterior) -> bool:
    """Whether no two members have a leaf in common."""
    return all(len(np.unique(leaf, axis=0)) == len(leaf) for leaf in _members(posterior))


# --- where members start -------------------------------------------------------------------------


def test_linen_members_start_at_draws_of_the_modules_initialisers() -> None:
    posterior = _fit("linen", init="anew", optimizer=STILL, ensemble_size=40)
    drawn = plain(posterior.distribution.listed.trainable)
    assert len(np.unique(drawn["body"]["kernel"], axis=0)) == 40
    # Flax's: kernels of variance 1 / width, cut at two standard deviations; biases zero.
    for layer in ("body", "head"):
        kernel = drawn[layer]["kernel"].astype(np.float64)
        count, width = kernel.size, kernel.shape[1]
        assert abs(kernel.mean()) < 4 / np.sqrt(count * width)
        assert abs(kernel.var() * width - 1) < 4 * np.sqrt(2 / count)
        assert np.abs(drawn[layer]["bias"]).max() == 0
        # Members do not correlate.
        correlation = np.corrcoef(kernel.reshape(40, -1))[np.triu_indices(40, 1)]
        assert abs(correlation.mean()) < 4 / np.sqrt(len(correlation) * kernel[0].size)


def test_frozen_parameters_are_those_that_were_given_for_all_members() -> None:
    posterior = _fit("linen", init="anew", trainable=lambda path, value: "head" in path)
    assert _apart(posterior)
    for member in range(3):
        one = jax.tree.map(lambda leaf, m=member: leaf[m], posterior.distribution.listed.trainable)
        body = plain(posterior.merge(one))["body"]
        assert all(np.array_equal(body[name], PARAMS["body"][name]) for name in body)


def test_a_function_says_where_members_start() -> None:
    keys: list[bytes] = []

    def init(key: jax.Array) -> Any:
        keys.append(np.asarray(jax.random.key_data(key)).tobytes())
        return jax.tree.map(lambda leaf: leaf + jax.random.normal(key), PARAMS)

    posterior = _fit(init=init, optimizer=STILL)
    assert len(set(keys)) == 3
    shifts = [leaf - given for leaf, given in zip(_members(posterior), _flat(), strict=True)]
    for member in range(3):
        first = np.ravel(shifts[0][member])[0]
        assert all(np.allclose(shift[member], first, atol=1e-5) for shift in shifts)


def _flat() -> list[Any]:
    return jax.tree.leaves(PARAMS)


def test_an_nnx_constructor_draws_members_anew() -> None:
    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.head(x)

    options: dict[str, Any] = {"ensemble_size": 3, "n_epochs": 1, "optimizer": STILL}
    module = Net(nnx.Rngs(0))
    with pytest.raises(InvalidArgumentError, match=r"init is 'anew', but model is an NNX module"):
        fit_ensemble(module, None, _loader(), progress=False, **options)
    posterior = fit_ensemble(
        module,
        None,
        _loader(),
        init=lambda key: nnx.state(Net(nnx.Rngs(key)), nnx.Param),
        progress=False,
        **options,
    )
    kernels = next(leaf for leaf in _members(posterior) if leaf.ndim == 3)
    assert len(np.unique(kernels, axis=0)) == 3


# --- the order of the data, and which ------------------------------------------------------------


def test_members_from_one_start_differ_by_the_order_of_their_data_alone() -> None:
    assert _apart(_fit())
    whole = _fit(loader=_loader(None), optimizer=optax.sgd(1e-2))
    for leaf in _members(whole):
        # All data at each step: but for the order in which they are added up, no difference.
        np.testing.assert_allclose(leaf, np.broadcast_to(leaf[0], leaf.shape), rtol=0, atol=1e-6)


def test_a_member_does_not_depend_on_how_many_there_are() -> None:
    few, many = (_members(_fit(ensemble_size=size)) for size in (2, 5))
    for one, other in zip(few, many, strict=True):
        np.testing.assert_allclose(one, other[:2], rtol=0, atol=ATOL)


@pytest.mark.parametrize("bootstrap", [False, True])
def test_members_are_those_that_gradient_descent_gives_one_by_one(bootstrap: bool) -> None:
    """A line through the origin, by hand in float64, over the orders that the seed sets."""
    x, y = X[:, :1], X[:, 1:2]
    rate, prior, noise, seed = 1e-3, 0.7, 0.5, 4
    from hoarfrost.likelihood import Gaussian

    posterior = fit_ensemble(
        lambda params, x: x * params["w"],
        {"w": jnp.ones(1)},
        DataLoader.from_array_data((x, y), batch_size=BATCH),
        likelihood=Gaussian(noise_std=noise),
        prior_precision=prior,
        ensemble_size=3,
        n_epochs=3,
        optimizer=optax.sgd(rate),
        init="given",
        bootstrap=bootstrap,
        seed=seed,
        progress=False,
    )
    (found,) = _members(posterior)
    data_seed = seed_from_key(jax.random.PRNGKey(seed))
    chosen = np.tile(np.arange(SIZE), (3, 1))
    if bootstrap:
        chosen = np.random.default_rng((data_seed, 2**31)).integers(
            0, SIZE, (3, SIZE), dtype=np.int32
        )
    for member in range(3):
        w = 1.0
        for epoch in range(3):
            order = np.random.default_rng((data_seed, member, epoch)).permutation(SIZE)
            for rows in chosen[member][order].reshape(-1, BATCH):
                a, b = x[rows, 0].astype(np.float64), y[rows, 0].astype(np.float64)
                gradient = SIZE / BATCH * np.sum(a * (b - a * w)) / noise**2 - prior * w
                w += rate * gradient
        np.testing.assert_allclose(found[member, 0], w, rtol=1e-5)


def test_a_bootstrap_of_a_stream_is_an_error_that_says_what_to_give() -> None:
    stream = DataLoader.from_callable_iterable(lambda: iter([(X[:8], Y[:8])] * 2))
    with pytest.raises(DataError, match=r"bootstrap is True.*from_array_data"):
        _fit(loader=stream, bootstrap=True)


# --- statistics ----------------------------------------------------------------------------------


class Normed(nn.Module):  # type: ignore[misc]
    """A layer with BatchNorm, and a head."""

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = nn.Dense(4, name="body")(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.8, name="norm")(x)
        return nn.Dense(CLASSES, name="head")(x)


def test_each_member_has_the_running_statistics_of_its_own_layers() -> None:
    """Where no parameter moves: averages of the moments of all data under the member's layer."""
    variables = Normed().init(jax.random.key(1), X[:1])
    posterior = fit_ensemble(
        Normed(),
        variables,
        _loader(None),
        ensemble_size=3,
        n_epochs=2,
        optimizer=STILL,
        progress=False,
    )
    samples = posterior.weight_samples()
    means, variances = samples.own
    for member in range(3):
        layer = jax.tree.map(lambda leaf, m=member: np.asarray(leaf[m]), samples.trainable)
        body = layer["params"]["body"]
        hidden = X.astype(np.float64) @ body["kernel"] + body["bias"]
        left = 0.8**2
        np.testing.assert_allclose(means[member], (1 - left) * hidden.mean(axis=0), atol=1e-6)
        expected = left + (1 - left) * hidden.var(axis=0)
        np.testing.assert_allclose(variances[member], expected, rtol=1e-5)


# --- the same numbers ----------------------------------------------------------------------------


def test_linen_nnx_and_a_function_give_the_same_numbers() -> None:
    found = [plain(_fit(kind).distribution.listed.trainable) for kind in KINDS]
    for other in found[1:]:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=ATOL), other, found[0]
        )


def test_the_frozen_part_may_run_once_or_at_each_step() -> None:
    once, each = (
        _fit(trainable=lambda path, value: "head" in path, cache_features=cache)
        for cache in (True, False)
    )
    for one, other in zip(_members(once), _members(each), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=ATOL)


def test_same_seed_same_bits_and_another_seed_others() -> None:
    options: dict[str, Any] = {"kind": "linen", "init": "anew", "bootstrap": True}
    once, again, other = (_members(_fit(seed=seed, **options)) for seed in (3, 3, 4))
    assert all(map(np.array_equal, once, again))
    assert not any(map(np.array_equal, once, other))


def test_members_in_groups_are_those_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    from hoarfrost.methods import ensemble

    options: dict[str, Any] = {"kind": "linen", "init": "anew", "ensemble_size": 5}
    whole = _fit(**options)
    monkeypatch.setattr(ensemble, "groups_of", lambda *_: [range(0, 2), range(2, 4), range(4, 5)])
    parts = _fit(**options)
    for one, other in zip(_members(whole), _members(parts), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=ATOL)
    np.testing.assert_allclose(whole.status["loss"], parts.status["loss"], rtol=1e-5)


def test_a_start_at_what_was_given_is_that_of_map() -> None:
    problem = problem_of(function, PARAMS, _loader(), progress=False)
    trained = climb(
        problem, repeated(problem, 1), optimizer=ADAM, n_epochs=2, seed=0, description="one"
    )
    for one, other in zip(jax.tree.leaves(trained.state.trainable), _members(_fit()), strict=True):
        np.testing.assert_allclose(one[0], other[0], rtol=0, atol=ATOL)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"ensemble_size": 0}, InvalidArgumentError, "ensemble_size is 0; give a whole number"),
        ({"ensemble_size": 2.5}, InvalidArgumentError, r"ensemble_size is 2\.5"),
        ({"n_epochs": 0}, InvalidArgumentError, "n_epochs is 0"),
        ({"optimizer": 3}, InvalidArgumentError, "optimizer is 3"),
        ({"bootstrap": 1}, InvalidArgumentError, "bootstrap must be True or False, but it is 1"),
        ({"seed": "one"}, InvalidArgumentError, "seed is 'one'"),
        ({"init": "new"}, InvalidArgumentError, "init is 'new'; give 'anew'"),
        ({"init": "anew"}, InvalidArgumentError, "init is 'anew', but model is a function"),
        ({"init": lambda key: arrays(2)}, ShapeError, "init gives parameters of shapes"),
        ({"init": lambda key: {}}, HoarfrostError, "init gives"),
        ({"init": lambda key: 3}, HoarfrostError, "init gives 3"),
        ({"init": lambda key: {**PARAMS, "more": PARAMS["head"]}}, ShapeError, "init gives"),
        (
            {"init": lambda key: jax.tree.map(lambda leaf: leaf * jnp.nan, PARAMS)},
            NonFiniteError,
            "init gives trainable parameters that are NaN",
        ),
    ],
)
def test_what_cannot_be_used_is_named_with_its_value(
    options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        _fit(**options)


def test_errors_of_arguments_come_before_the_data_are_read() -> None:
    for options in ({"n_epochs": 0}, {"optimizer": 3}, {"bootstrap": 2}, {"ensemble_size": 0}):
        with pytest.raises(InvalidArgumentError, match=next(iter(options))):
            fit_ensemble(Linen(CLASSES), {}, None, **options)
