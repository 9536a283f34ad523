"""Where parameters and batches are put: where JAX puts them, or on several devices.

The only file that names a sharding. Parameters are whole on each device, a batch is split along
axis 0. What is computed is the same for one device and for several: JAX splits a program by where
its arguments lie, so that sums over a batch, and the statistics of a BatchNorm, are those of the
whole batch.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from hoarfrost.checks import LARGEST_COUNT, is_whole, plain, shown
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.fork import check_not_forked
from hoarfrost.types import Tree

COUNT = "-1 (all local devices), 0 (the CPU) or a number of devices"


@dataclass(frozen=True)
class Devices:
    """Devices that share the points of a batch; hashable, so that a program can be told of them.

    Attributes
    ----------
    chosen : tuple of jax.Device
        () leaves everything where it is, or where JAX puts it.
    """

    chosen: tuple[Any, ...] = ()

    @property
    def count(self) -> int:
        """How many of them share a batch."""
        return max(1, len(self.chosen))

    def rows(self, size: int) -> int:
        """The least number of rows from `size` on that all devices have the same share of."""
        return -(-size // self.count) * self.count

    def dividing(self, size: int) -> Devices:
        """As many of them as share `size` rows evenly, for a batch that must not be padded."""
        most = next(n for n in range(self.count, 0, -1) if size % n == 0)
        return Devices(self.chosen[:most])

    def whole(self, tree: Tree) -> Tree:
        """The arrays of a tree on each device; numbers that are none stay as they are."""
        if not self.chosen:
            return tree
        return jax.tree.map(lambda leaf: _put(leaf, _sharding(self.chosen, None)), tree)

    def split(self, tree: Tree) -> Tree:
        """The arrays of a tree with each device's share of axis 0; whole where it has no share."""
        if not self.chosen:
            return tree

        def one(leaf: Any) -> Any:
            if self.count == 1 and isinstance(leaf, np.ndarray):
                return leaf  # a program takes it to where its parameters are
            even = np.ndim(leaf) > 0 and np.shape(leaf)[0] % self.count == 0
            return _put(leaf, _sharding(self.chosen, 0 if even else None))

        return jax.tree.map(one, tree)

    def kept_whole(self, tree: Tree) -> Tree:
        """`whole`, for what a program gives: the next run finds it where this one did."""
        if self.count == 1:
            return tree
        constrained: Any = jax.lax.with_sharding_constraint
        return constrained(tree, _sharding(self.chosen, None))

    def alone(self, tree: Tree) -> Tree:
        """The arrays of a tree on the first device only, where one reads them again."""
        return Devices(self.chosen[:1]).whole(tree)


ANYWHERE = Devices()


def check_device_count(name: str, value: Any) -> None:
    """Raise `InvalidArgumentError` unless `value` is -1, 0 or a number; asks no device."""
    if not is_whole(value, -1) or value > LARGEST_COUNT:
        raise InvalidArgumentError(f"{name} must be {COUNT}, but it is {shown(value)}")


def choose_devices(value: Any, name: str = "devices") -> Devices:
    """The devices that an argument stands for.

    Parameters
    ----------
    value : int, sequence of jax.Device or None
        None: wherever things are. -1: all local devices of JAX's default backend. 0: the CPU, one
        device. n: the first n local devices.
    name : str
        The argument's, for the text of errors.

    Raises
    ------
    InvalidArgumentError
        If it is none of these, or there are fewer devices; if a sequence is empty, names a device
        twice or one of another process, or mixes platforms; within a block of `jax.set_mesh`, which
        decides for itself.
    """
    if value is None:
        return ANYWHERE
    if isinstance(value, list | tuple):
        return _outside_of_a_mesh(_listed(tuple(value), name), name)
    value = plain(value)
    if not is_whole(value, -1) or value > LARGEST_COUNT:
        raise InvalidArgumentError(
            f"{name} must be {COUNT}, a list of jax devices or None, but it is {shown(value)}"
        )
    check_not_forked(f"the argument {name}")
    local = jax.local_devices()
    if value > len(local):
        there = "is 1 local device" if len(local) == 1 else f"are {len(local)} local devices"
        raise InvalidArgumentError(
            f"{name} is {value}, but there {there} ({local[0].platform}); give at most "
            f"{len(local)}, or -1 for all"
        )
    chosen = local if value < 0 else local[:value]
    if value == 0:
        chosen = _cpus(name)[:1]
    # Where there is one device of any platform, everything is there already.
    alone = len(local) == 1 and local[0].platform == "cpu"
    return ANYWHERE if alone else _outside_of_a_mesh(Devices(tuple(chosen)), name)


def _outside_of_a_mesh(devices: Devices, name: str) -> Devices:
    if not jax.sharding.get_abstract_mesh().empty:
        raise InvalidArgumentError(
            f"{name} is given within a block of jax.set_mesh, by which arrays are put elsewhere; "
            "call this outside of that block"
        )
    return devices


def _cpus(name: str) -> list[Any]:
    try:
        return jax.local_devices(backend="cpu")
    except RuntimeError as error:
        raise InvalidArgumentError(
            f"{name} is 0, the CPU, which JAX was told not to use (JAX_PLATFORMS); add cpu there, "
            "or give -1"
        ) from error


def _listed(chosen: tuple[Any, ...], name: str) -> Devices:
    check_not_forked(f"the argument {name}")
    if not chosen or not all(isinstance(device, jax.Device) for device in chosen):
        raise InvalidArgumentError(
            f"{name} is {shown(chosen)}; give at least one device of jax.local_devices()"
        )
    if len(set(chosen)) < len(chosen):
        raise InvalidArgumentError(f"{name} is {shown(chosen)}; give each device once")
    if any(device.process_index != jax.process_index() for device in chosen):
        raise InvalidArgumentError(
            f"{name} is {shown(chosen)}, with devices of another process; give those of "
            "jax.local_devices()"
        )
    if len({device.platform for device in chosen}) > 1:
        raise InvalidArgumentError(f"{name} is {shown(chosen)}; give devices of one platform")
    return Devices(chosen)


def _put(leaf: Any, sharding: Sharding) -> Any:
    if isinstance(leaf, np.ndarray):
        # Its owner may write into it before the transfer is over, and after that, too.
        leaf = leaf.copy()
    return jax.device_put(leaf, sharding) if isinstance(leaf, np.ndarray | jax.Array) else leaf


@functools.lru_cache(maxsize=64)
def _sharding(chosen: tuple[Any, ...], axis: int | None) -> Sharding:
    if len(chosen) == 1:
        return SingleDeviceSharding(chosen[0])
    axes: Any = PartitionSpec
    return NamedSharding(_mesh(chosen), axes() if axis is None else axes("points"))


@functools.lru_cache(maxsize=64)
def _mesh(chosen: tuple[Any, ...]) -> Mesh:
    return Mesh(np.asarray(chosen), ("points",))
