"""By what networks are told to be the same."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Mapping
from typing import Any, TypeVar

from hoarfrost.network.base import Network

Known = TypeVar("Known", bound=Network)

_INTERNED: weakref.WeakKeyDictionary[Any, weakref.ref[Any]] = weakref.WeakKeyDictionary()


class _Itself:
    """A value without a hash: the same as itself alone."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.value is other.value


def key_of(value: Any) -> Any:
    """A hashable stand-in: modules by their class and attributes, containers by their contents.

    A Flax module is a dataclass, as are settings that it may hold.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # Where a module sits is no part of what it computes.
        names = [field.name for field in dataclasses.fields(value) if field.name != "parent"]
        attributes = ((name, key_of(getattr(value, name, None))) for name in names)
        return (type(value), *attributes)
    if isinstance(value, list | tuple):
        return (type(value), *map(key_of, value))
    if isinstance(value, Mapping):
        return (type(value), *((name, key_of(item)) for name, item in value.items()))
    try:
        hash(value)
    except TypeError:
        return _Itself(value)
    return value


def identity_of(function: Any) -> Any:
    """`key_of` a function, or of an object that is called; one that may change is itself alone."""
    settings = getattr(function, "__dataclass_params__", None)
    if settings is not None and not isinstance(function, type) and not settings.frozen:
        return _Itself(function)
    return key_of(function)


def holds_arrays(key: Any) -> bool:
    """Whether a key of `key_of` stands for something without a hash, as arrays are."""
    return isinstance(key, _Itself) or (isinstance(key, tuple) and any(map(holds_arrays, key)))


def changeable(value: Any) -> bool:
    """Whether the attributes of a module may be changed in place: dicts, lists but of layers."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.name != "parent"]
        return any(changeable(getattr(value, name, None)) for name in names)
    if isinstance(value, list):
        return any(changeable(item) or not callable(item) for item in value)
    if isinstance(value, tuple):
        return any(map(changeable, value))
    return isinstance(value, dict | set)


class Owner:
    """What programs are kept for: it lives as long as the network that has it."""


def interned(network: Known) -> Known:
    """The network that is there already and equal to this one, where there is one.

    One with attributes that can be changed in place stays itself: an equal one may become another.
    """
    if getattr(network, "changeable", False):
        return network
    known = _INTERNED.get(network)
    found = None if known is None else known()
    if found is None:
        _INTERNED[network] = weakref.ref(network)
        return network
    same: Known = found
    return same
