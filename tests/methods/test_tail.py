"""A network cut where what is trained comes in: the parts are the whole, wherever the cut is."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from versions import enable_x64

from hoarfrost.curvature.feature_pass import point_of
from hoarfrost.errors import ShapeError, StructureError
from hoarfrost.model.transformer import TransformerEncoder
from hoarfrost.network import NetworkProgram, as_network
from hoarfrost.network.tail import PointForm, TailNetwork, kept_outputs
from hoarfrost.types import Tree, path_of

RNG = np.random.default_rng(3)
B = 5


def normal(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return (RNG.standard_normal(shape) / np.sqrt(shape[0])).astype(dtype)


class Block(nn.Module):
    """Convolutions and a residual block with normalisation, then a layer."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.relu(nn.Conv(8, (3, 3), name="first")(x))
        y = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = nn.relu(x + nn.Conv(8, (3, 3), name="block")(nn.relu(y)))
        return nn.Dense(3, name="head")(x.mean((1, 2)))


class Adapted(nnx.Module):
    """Two layers, with an adapter of the second."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(4, 16, rngs=rngs)
        self.second = nnx.LoRALinear(16, 3, lora_rank=2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.second(nnx.gelu(self.first(x)))


def layers(params: Tree, x: jax.Array) -> jax.Array:
    h = jnp.tanh(x @ params["a"])
    return jax.nn.relu(jax.jit(jnp.dot)(h, params["b"])) @ params["c"]


def of_pairs(params: Tree, inputs: Tree) -> jax.Array:
    """Numbers and labels, of which the labels come in late, too."""
    table = params["a"][inputs["label"]]
    h = jnp.tanh(table + inputs["x"] @ params["b"])
    return h @ params["c"] + jax.nn.one_hot(inputs["label"], 3)


def sizes(dtype: Any = np.float32) -> Tree:
    return {
        "a": normal(4, 16, dtype=dtype),
        "b": normal(16, 8, dtype=dtype),
        "c": normal(8, 3, dtype=dtype),
    }


def case(name: str) -> tuple[Any, Tree, Tree, tuple[str, ...]]:
    """Model, parameters, inputs, and what of a path makes a leaf trainable."""
    x = normal(B, 4)
    if name == "two layers":
        return layers, sizes(), x, ("b", "c")
    if name == "a layer in between":
        return layers, sizes(), x, ("b",)
    if name == "half precision":
        return layers, sizes(jnp.bfloat16), x.astype(jnp.bfloat16), ("b", "c")
    if name == "several inputs":
        params = {"a": normal(6, 8), "b": normal(4, 8), "c": normal(8, 3)}
        return of_pairs, params, {"x": x, "label": RNG.integers(0, 6, B)}, ("c",)
    if name == "block":
        images = normal(B, 6, 6, 2)
        return Block(), Block().init(jax.random.PRNGKey(0), images), images, ("block", "norm")
    if name == "adapter":
        return Adapted(nnx.Rngs(0)), None, x, ("lora_a", "lora_b")
    ids = RNG.integers(1, 20, (B, 7))
    ids[:, 5:] = 0
    model = TransformerEncoder(
        output_dim=3,
        vocab_size=20,
        max_length=7,
        width=16,
        depth=2,
        num_heads=2,
        pad_id=0,
    )
    variables = model.init(jax.random.PRNGKey(0), ids)
    return model, variables, ids, ("output_subnet", "block_1")


CASES = (
    *("two layers", "a layer in between", "half precision", "several inputs", "block"),
    *("adapter", "tokens"),
)


def mask_of(params: Tree, chosen: tuple[str, ...]) -> tuple[bool, ...]:
    paths = [path_of(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    return tuple(not set(path).isdisjoint(chosen) for path in paths)


def tail_of(model: Any, params: Tree, inputs: Tree, chosen: tuple[str, ...]) -> Any:
    network, params, mutable = as_network(model, params)
    # Some leaves begin at zero, and with them gradients of others.
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf) + jnp.asarray(0.1, leaf.dtype), params)
    mask = mask_of(params, chosen)
    assert any(mask) and not all(mask)
    return network, TailNetwork(network, mask, PointForm.of(point_of(inputs))), params, mutable


def assert_same(one: Any, other: Any, eps: float) -> None:
    one, other = (np.asarray(a).astype(np.float64) for a in (one, other))
    assert one.shape == other.shape
    # Sums of at most a few hundred products.
    np.testing.assert_allclose(one, other, rtol=0, atol=256 * eps * max(1.0, np.abs(one).max()))


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_are_those_of_the_network(name: str) -> None:
    network, tail, params, mutable = tail_of(*case(name)[:3], chosen=case(name)[3])
    inputs = case(name)[2]
    kept = kept_outputs(tail, params, mutable, inputs)
    assert all(leaf.shape[0] == B for leaf in kept)
    eps = float(jnp.finfo(jax.tree.leaves(params)[0].dtype).eps)
    weights = normal(3)

    def loss(network: Any, inputs: Tree) -> Callable[[Tree], jax.Array]:
        return lambda params: jnp.sum(network.evaluate(params, mutable, inputs) @ weights)

    outputs = network.evaluate(params, mutable, inputs)
    assert_same(tail.evaluate(params, mutable, kept), outputs, eps)
    whole, own = (jax.grad(loss(*pair))(params) for pair in ((network, inputs), (tail, kept)))
    found = zip(tail.trainable, jax.tree.leaves(whole), jax.tree.leaves(own), strict=True)
    for one, other in ((one, other) for trains, one, other in found if trains):
        assert np.abs(np.asarray(one).astype(float)).max() > 0
        assert_same(other, one, eps)


def test_the_parts_are_as_exact_in_float64() -> None:
    with enable_x64(True):
        params, x = sizes(np.float64), normal(B, 4, dtype=np.float64)
        network, tail, params, mutable = tail_of(layers, params, x, ("b", "c"))
        kept = kept_outputs(tail, params, mutable, x)
        assert kept[0].dtype == jnp.float64
        eps = float(np.finfo(np.float64).eps)
        assert_same(tail.evaluate(params, {}, kept), network.evaluate(params, {}, x), eps)


def test_only_what_depends_on_inputs_and_nothing_trained_is_kept() -> None:
    _, tail, params, mutable = tail_of(layers, sizes(), normal(B, 4), ("b", "c"))
    found = tail.cut(params, mutable)
    assert [form.shape for form in found.kept] == [(1, 16)]
    assert (found.saved, found.kept_bytes) == (4 * 16, 64)

    def spread(params: Tree, x: jax.Array) -> jax.Array:
        h = jnp.broadcast_to((x @ params["a"]).sum(1)[:, None], (len(x), 50))
        return (h * params["w"]) @ params["c"]

    params = {"a": normal(4, 3), "c": normal(50, 2), "w": normal(50)}
    _, tail, params, mutable = tail_of(spread, params, normal(B, 4), ("w",))
    (form,) = tail.cut(params, mutable).kept
    assert form.shape in ((1,), (1, 1))  # and not fifty copies of it


def test_a_derivative_of_a_users_own_stays() -> None:
    @jax.custom_vjp
    def doubled(x: jax.Array) -> jax.Array:
        return x

    doubled.defvjp(lambda x: (x, None), lambda _, g: (2 * g,))

    def apply(params: Tree, x: jax.Array) -> jax.Array:
        return jax.jit(lambda h, w: doubled(h @ w))(jnp.tanh(x @ params["a"]), params["b"])

    params, x = {"a": normal(4, 8), "b": normal(8, 3)}, normal(B, 4)
    network, tail, params, mutable = tail_of(apply, params, x, ("b",))
    kept = kept_outputs(tail, params, mutable, x)
    one = jax.grad(lambda p: network.evaluate(p, {}, x).sum())(params)["b"]
    other = jax.grad(lambda p: tail.evaluate(p, {}, kept).sum())(params)["b"]
    assert_same(other, one, np.finfo(np.float32).eps)


def test_what_the_code_reads_is_read_again() -> None:
    held = {"scale": 1.0}

    def apply(params: Tree, x: jax.Array) -> jax.Array:
        return held["scale"] * (jnp.tanh(x @ params["a"]) @ params["b"])

    params, x = {"a": normal(4, 8), "b": normal(8, 3)}, normal(B, 4)
    network, tail, params, mutable = tail_of(apply, params, x, ("b",))
    program = NetworkProgram(lambda network, *arguments: network.evaluate(*arguments))
    kept = kept_outputs(tail, params, mutable, x)
    before = np.asarray(program(tail, params, mutable, kept))
    held["scale"] = 2.0
    again = TailNetwork(network, tail.trainable, tail.point)
    np.testing.assert_array_equal(program(again, params, mutable, kept), 2 * before)


def test_a_program_is_traced_once_for_equal_tails_and_goes_with_a_closure() -> None:
    traced = []
    table = jnp.ones((4, 8))

    def apply(params: Tree, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ table) @ params["a"] @ params["b"]

    def evaluate(network: Any, *arguments: Tree) -> jax.Array:
        traced.append(1)
        return network.evaluate(*arguments)

    program = NetworkProgram(evaluate)
    params, x = {"a": normal(8, 4), "b": normal(4, 3)}, normal(B, 4)
    for _ in range(2):
        _, tail, arrays, mutable = tail_of(apply, params, x, ("b",))
        kept = kept_outputs(tail, arrays, mutable, x)
        program(tail, arrays, mutable, kept)
    assert len(traced) == 1
    gone = weakref.ref(apply)
    del apply, tail, _
    gc.collect()
    assert gone() is None


def first_layer(params: Tree, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ params["b"]) @ params["a"]


def noisy(params: Tree, x: jax.Array) -> jax.Array:
    h = x @ params["a"]
    jax.debug.callback(lambda _: None, h)
    return h @ params["b"]


def beside(params: Tree, x: jax.Array) -> jax.Array:
    return x @ params["a"] @ jnp.ones((16, 3)) + 0 * x[:, :1]


@pytest.mark.parametrize(
    ("apply", "params", "message"),
    [
        (first_layer, {"b": normal(4, 8), "a": normal(8, 3)}, "nothing is computed before"),
        (noisy, {"a": normal(4, 8), "b": normal(8, 3)}, "side effects"),
        (beside, {"a": normal(4, 16), "b": normal(2)}, "do not depend on both"),
    ],
)
def test_where_there_is_no_cut_the_reason_is_given(apply: Any, params: Tree, message: str) -> None:
    x = normal(B, 4)
    _, tail, arrays, mutable = tail_of(apply, params, x, ("b",))
    assert message in tail.cut(arrays, mutable)
    with pytest.raises(StructureError, match=message):
        kept_outputs(tail, arrays, mutable, x)


def test_inputs_of_another_shape_are_an_error() -> None:
    _, tail, params, mutable = tail_of(layers, sizes(), normal(B, 4), ("b", "c"))
    with pytest.raises(ShapeError, match=r"gives has \[\(1, 16\)\]"):
        tail.evaluate(params, mutable, (normal(B, 16),))
