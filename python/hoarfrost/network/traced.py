"""What is seen of a network in its traced program: which one it is, and what training changes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import numpy as np
from jax.interpreters import partial_eval

from hoarfrost.fork import check_not_forked
from hoarfrost.network.base import Network
from hoarfrost.types import Path, Tree

# Where a function lies in memory is no part of what it computes.
_ADDRESS = re.compile(r"0x[0-9a-f]+")


def fingerprint(
    network: Network, params: Tree, mutable: Tree, point: Tree, trainable: Sequence[bool]
) -> str:
    """A hash of all that a layer's inputs depend on, beside the network's own inputs.

    That is the program of the network in evaluation mode, with what it holds, and those of its
    frozen parameters and other variables that it reads; but not the names of the leaves, nor the
    numbers of the trainable ones.

    Parameters
    ----------
    network, params, mutable
        As `hoarfrost.network.as_network` gives them.
    point : tree of jax.ShapeDtypeStruct
        One example, leading axis 1.
    trainable : sequence of bool
        Whether each leaf of `params` is trainable, in tree order.
    """
    check_not_forked("the network")
    leaves, structure = jax.tree.flatten((params, mutable))
    found = hashlib.sha256()

    def run(arrays: list[jax.Array], point: Tree) -> jax.Array:
        params, mutable = jax.tree.unflatten(structure, arrays)
        return network.evaluate(params, mutable, point)

    text, used, constants = _program(run, leaves, point)
    found.update(text.encode())
    found.update(repr(tuple(map(bool, trainable))).encode())
    chosen = [*trainable, *(False for _ in leaves[len(trainable) :])]
    for leaf, read, trains in zip(leaves, used, chosen, strict=False):
        if read and not trains:
            _add(found, leaf)
    for constant in constants:
        _add(found, constant)
    return found.hexdigest()


def draws_in_training(network: Network, params: Tree, mutable: Tree, point: Tree) -> bool:
    """Whether outputs in training mode depend on the key: dropout, say."""
    check_not_forked("the network")
    leaves, structure = jax.tree.flatten((params, mutable))

    def trains(arrays: list[jax.Array], inputs: tuple[Tree, jax.Array]) -> jax.Array:
        params, mutable = jax.tree.unflatten(structure, arrays)
        return network.train(params, mutable, *inputs)[0]

    return _program(trains, leaves, (point, jax.random.PRNGKey(0)))[1][-1]


def training_changes(
    network: Network, params: Tree, mutable: Tree, point: Tree, trainable: Mapping[Path, bool]
) -> str | None:
    """Why outputs in training mode are not those in evaluation mode; None where they are.

    Parameters
    ----------
    network, params, mutable, point
        As for `fingerprint`.
    trainable : mapping of path to bool
        Whether each parameter is trained, by its path.
    """
    check_not_forked("the network")
    leaves, structure = jax.tree.flatten((params, mutable))
    key = jax.random.PRNGKey(0)
    first_mutable = len(jax.tree.leaves(params))

    def trains(arrays: list[jax.Array], inputs: tuple[Tree, jax.Array]) -> jax.Array:
        params, mutable = jax.tree.unflatten(structure, arrays)
        return network.train(params, mutable, *inputs)[0]

    def evaluates(arrays: list[jax.Array], inputs: tuple[Tree, jax.Array]) -> jax.Array:
        params, mutable = jax.tree.unflatten(structure, arrays)
        return network.evaluate(params, mutable, inputs[0])

    def moves(arrays: list[jax.Array], inputs: tuple[Tree, jax.Array]) -> list[jax.Array]:
        params, mutable = jax.tree.unflatten(structure, arrays)
        after = network.train(params, mutable, *inputs)[1]
        return jax.tree.leaves(after)

    text, used, constants = _program(trains, leaves, (point, key))
    if used[-1]:
        return "the network draws random numbers in training (dropout, say)"
    known, _, others = _program(evaluates, leaves, (point, key))
    same = len(constants) == len(others) and all(map(_equal, constants, others))
    if text != known or not same:
        return "the network computes something else in training than in evaluation (BatchNorm, say)"
    if leaves[first_mutable:]:
        moved = network.moving(trainable, mutable)
        program = jax.make_jaxpr(moves)(list(map(form_of, leaves)), (point, key)).jaxpr
        before = program.invars[first_mutable : len(leaves)]
        for one, old, new in zip(moved, before, program.outvars, strict=True):
            if one and old is not new:
                return "training moves statistics of the network, or another state of it"
    return None


def _program(run: Any, leaves: list[Any], inputs: Tree) -> tuple[str, list[bool], list[Any]]:
    """A program as text, whether it reads each of its arguments, and the constants in it."""
    closed = jax.make_jaxpr(run)(list(map(form_of, leaves)), inputs)
    jaxpr, used = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return _ADDRESS.sub("", str(jaxpr)), list(used), list(closed.consts)


def form_of(leaf: Any) -> Any:
    """The shape and dtype of an array, wherever it lies."""
    dtype, form = leaf.dtype, cast(Any, jax.ShapeDtypeStruct)
    if not jax.numpy.issubdtype(dtype, jax.dtypes.prng_key):
        dtype = jax.dtypes.canonicalize_dtype(dtype)
    return form(leaf.shape, dtype)


def _add(found: Any, array: Any) -> None:
    if jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    array = np.ascontiguousarray(array, jax.dtypes.canonicalize_dtype(array.dtype))
    found.update(f"{array.dtype.name}{array.shape}".encode())
    found.update(array.reshape(-1).view(np.uint8).data)


def _equal(one: Any, other: Any) -> bool:
    first, second = hashlib.sha256(), hashlib.sha256()
    _add(first, one)
    _add(second, other)
    return first.digest() == second.digest()
