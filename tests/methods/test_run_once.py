"""The frozen part runs once for each datum, is held once, and stays as it is.

Its layers tell the host which rows they see, each row by a number of its own.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from hoarfrost.data import DataLoader
from hoarfrost.methods import (
    WeightPosterior,
    fit_advi,
    fit_ensemble,
    fit_ivon,
    fit_map,
    fit_sngp,
    fit_swag,
    sample_cyclical_sgld,
    sample_sghmc,
)
from hoarfrost.methods.chain_run import ChainRun

SIZE, BATCH, WIDTH, HIDDEN = 20, 4, 6, 7
RNG = np.random.default_rng(6)
X = RNG.normal(size=(SIZE, WIDTH)).astype(np.float32)
# What a row is told by.
X[:, 0] = np.arange(SIZE)
Y = RNG.integers(0, 3, SIZE)

SEEN: Counter[int] = Counter()


def _tell(ids: np.ndarray) -> np.ndarray:
    SEEN.update(np.ravel(ids).astype(int).tolist())
    return np.zeros(np.shape(ids), np.float32)


@jax.custom_jvp
def _told(ids: jax.Array) -> jax.Array:
    """Zeros, of which the host hears."""
    form = jax.ShapeDtypeStruct(ids.shape, jnp.float32)
    return jax.pure_callback(_tell, form, ids, vmap_method="expand_dims")


_told.defjvp(lambda primals, _: (_told(*primals), jnp.zeros(primals[0].shape)))


def body(params: Any, x: Any) -> Any:
    """The frozen part."""
    h = jnp.tanh((x / 10) @ params["body"]) + _told(x[:, 0])[:, None]
    return jnp.tanh(h @ params["second"])


def with_head(params: Any, x: Any) -> Any:
    """A last layer on it."""
    return body(params, x) @ params["head"]


def with_tail(params: Any, x: Any) -> Any:
    """Two layers on it, of which no Dense layer is all that is trained."""
    h = jnp.tanh(body(params, x) * params["scale"])
    return h @ params["head"]


def _params() -> dict[str, Any]:
    shapes = {"body": (WIDTH, 30), "second": (30, HIDDEN), "head": (HIDDEN, 3)}
    params = {name: RNG.normal(size=shape) / np.sqrt(shape[0]) for name, shape in shapes.items()}
    params["scale"] = np.ones(HIDDEN)
    return {name: jnp.asarray(leaf, jnp.float32) for name, leaf in params.items()}


PARAMS = _params()
TRAINED = {
    "head": (with_head, {name: PARAMS[name] for name in ("body", "second", "head")}, ("head",)),
    "tail": (with_tail, PARAMS, ("scale", "head")),
}
# Each with several steps, and members or chains where it has some.
METHODS: dict[str, tuple[Callable[..., WeightPosterior], dict[str, Any]]] = {
    "map": (fit_map, {"n_epochs": 4}),
    "swag": (fit_swag, {"n_epochs": 4, "rank": 2}),
    "advi": (fit_advi, {"n_epochs": 3, "n_loss_samples": 3}),
    "ivon": (fit_ivon, {"n_epochs": 3, "mc_samples": 2}),
    "ensemble": (fit_ensemble, {"n_epochs": 3, "ensemble_size": 5, "init": "given"}),
    "sghmc": (sample_sghmc, {"n_samples": 3, "burnin_length": 10, "num_chains": 4}),
    "cyclical sgld": (
        sample_cyclical_sgld,
        {"n_samples": 3, "cycle_length": 10, "num_cycles": 2, "num_chains": 4},
    ),
}
# The first batch is gone over a few times more, to see what the network is.
LOOKS = 10


def _seen(method: str, trained: str, cache: bool) -> Counter[int]:
    """How often each row was seen while a method ran."""
    fit, options = METHODS[method]
    model, params, chosen = TRAINED[trained]
    SEEN.clear()
    fit(
        model,
        params,
        DataLoader.from_array_data((X, Y), batch_size=BATCH),
        trainable=lambda path, value: path[0] in chosen,
        cache_features=cache,
        progress=False,
        **options,
    )
    jax.effects_barrier()
    return Counter(SEEN)


@pytest.mark.parametrize("method", METHODS)
def test_each_row_is_seen_once_however_many_steps_and_members(method: str) -> None:
    seen = _seen(method, "head", cache=True)
    assert [seen[row] for row in range(BATCH, SIZE)] == [1] * (SIZE - BATCH)
    assert max(seen.values()) <= LOOKS


@pytest.mark.parametrize("method", ["advi", "sghmc"])
def test_so_it_is_before_more_than_a_last_layer(method: str) -> None:
    seen = _seen(method, "tail", cache=True)
    assert [seen[row] for row in range(BATCH, SIZE)] == [1] * (SIZE - BATCH)
    assert max(seen.values()) <= LOOKS


def test_else_it_runs_at_every_step() -> None:
    seen = _seen("map", "head", cache=False)
    assert min(seen[row] for row in range(BATCH, SIZE)) == 4


def test_sngp_runs_it_once_in_training_and_once_for_the_posterior() -> None:
    SEEN.clear()
    fit_sngp(
        body,
        {name: PARAMS[name] for name in ("body", "second")},
        DataLoader.from_array_data((X, Y), batch_size=BATCH),
        output_dim=3,
        gp_hidden_features=16,
        trainable=lambda path, value: False,
        n_epochs=6,
        progress=False,
    )
    jax.effects_barrier()
    assert [SEEN[row] for row in range(BATCH, SIZE)] == [2] * (SIZE - BATCH)


# --- held once -----------------------------------------------------------------------------------


def _asked() -> tuple[optax.GradientTransformation, list[Any]]:
    """An optimiser that remembers the shapes of what it is given."""
    given: list[Any] = []
    inner = optax.adam(1e-2)

    def init(params: Any) -> Any:
        given.append(("init", jax.tree.map(jnp.shape, params)))
        return inner.init(params)

    def update(gradient: Any, state: Any, params: Any = None) -> Any:
        given.append(("update", jax.tree.map(jnp.shape, gradient)))
        return inner.update(gradient, state, params)

    return optax.GradientTransformation(init, update), given


@pytest.mark.parametrize("cache", [True, False])
def test_no_gradient_and_no_state_of_an_optimiser_for_what_is_frozen(cache: bool) -> None:
    optimizer, given = _asked()
    model, params, _ = TRAINED["head"]
    fit_map(
        model,
        params,
        DataLoader.from_array_data((X, Y)),
        trainable=lambda path, value: path == ("head",),
        optimizer=optimizer,
        n_epochs=2,
        cache_features=cache,
        progress=False,
    )
    assert {kind for kind, _ in given} == {"init", "update"}
    assert all(jax.tree.leaves(tree) == [HIDDEN, 3] for _, tree in given)


def plain(params: Any, x: Any) -> Any:
    """A wide frozen layer and a head."""
    return jnp.tanh(x @ params["wide"]) @ params["head"]


@pytest.mark.parametrize("cache", [True, False])
def test_members_hold_the_frozen_parameters_once(cache: bool) -> None:
    width = 20_000
    params = {
        "wide": jnp.asarray(RNG.normal(size=(WIDTH, width)), jnp.float32),
        "head": jnp.zeros((width, 1)),
    }

    def copies() -> int:
        return sum(leaf.shape[-2:] == (WIDTH, width) for leaf in jax.live_arrays())

    most: list[int] = []
    states = ChainRun.states

    def watched(self: Any, *arguments: Any) -> Any:
        # Between blocks of steps, where the arguments and results of a program are there.
        for found in states(self, *arguments):
            most.append(copies())
            yield found

    gc.collect()
    before = copies()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ChainRun, "states", watched)
        posterior = sample_sghmc(
            plain,
            params,
            DataLoader.from_array_data((X, Y[:, None].astype(np.float32))),
            likelihood="poisson",
            trainable=lambda path, value: path == ("head",),
            n_samples=3,
            burnin_length=0,
            step_schedule=1e-9,
            num_chains=8,
            cache_features=cache,
            progress=False,
        )
    assert before == 1 and set(most) == {1}
    # The posterior holds the heads, and the arrays that were given.
    assert posterior.nbytes == 8 * 3 * width * 4
    (frozen,) = jax.tree.leaves(posterior.subset.frozen)
    assert frozen.unsafe_buffer_pointer() == params["wide"].unsafe_buffer_pointer()


# --- statistics ----------------------------------------------------------------------------------


class Normed(nn.Module):  # type: ignore[misc]
    """Two layers with BatchNorm, and a head."""

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        for name in ("first", "last"):
            x = nn.Dense(5, name=f"{name}_dense")(x)
            x = nn.BatchNorm(use_running_average=not train, momentum=0.5, name=f"{name}_norm")(x)
            x = jnp.tanh(x)
        return nn.Dense(3, name="head")(x)


STATISTICS = {
    "swag": lambda *given, **options: fit_swag(*given, n_epochs=4, rank=2, **options),
    "ensemble": lambda *given, **options: fit_ensemble(
        *given, n_epochs=2, ensemble_size=2, **options
    ),
    "sghmc": lambda *given, **options: sample_sghmc(
        *given, n_samples=2, burnin_length=4, step_schedule=1e-4, **options
    ),
}


@pytest.mark.parametrize("method", STATISTICS)
def test_statistics_of_frozen_layers_do_not_move_and_those_of_trained_ones_do(method: str) -> None:
    variables = Normed().init(jax.random.key(0), X[:1])
    before = jax.tree.map(np.array, variables)
    posterior = STATISTICS[method](
        Normed(),
        variables,
        DataLoader.from_array_data((X, Y), batch_size=BATCH),
        trainable=lambda path, value: any(
            name.startswith("last") or name == "head" for name in path
        ),
        progress=False,
    )
    samples = posterior.weight_samples()
    own = dict(
        zip(
            [jax.tree_util.keystr(path) for path, _ in _paths(samples.mutable)],
            _owned(samples),
            strict=True,
        )
    )
    for name, values in own.items():
        given = before["batch_stats"]["first_norm" if "first_norm" in name else "last_norm"]
        start = given["mean" if "mean" in name else "var"]
        if "first_norm" in name:
            np.testing.assert_array_equal(values, np.broadcast_to(start, values.shape))
        else:
            assert np.abs(values - start).min() > 1e-4
    merged = posterior.merge()
    for layer in ("first_dense", "first_norm"):
        for name, leaf in merged["params"][layer].items():
            np.testing.assert_array_equal(leaf, before["params"][layer][name])
    # Nor are those that were given written over.
    jax.tree.map(np.testing.assert_array_equal, variables, before)


def _paths(tree: Any) -> Any:
    return jax.tree_util.tree_flatten_with_path(tree)[0]


def _owned(samples: Any) -> list[np.ndarray]:
    """Leaves of the collections under each draw, ``(S, ...)``, or those that all share."""
    own = iter(samples.own)
    marks = samples.owned or (False,) * len(_paths(samples.mutable))
    leaves = [leaf for _, leaf in _paths(samples.mutable)]
    return [
        np.asarray(next(own)) if mark else np.asarray(leaf)[None]
        for mark, leaf in zip(marks, leaves, strict=True)
    ]
