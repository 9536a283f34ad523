"""What a function, a module or a likelihood reads beside its arguments.

A compiled program has all of that in it as constants, so it is part of what programs are told apart
by: globals and the cells of closures, defaults, attributes of objects and of classes, the contents
of lists, dicts and NumPy arrays, and what the functions read that are named there. JAX arrays are
told apart by identity, since nobody can change them; NumPy arrays by their numbers. Libraries are
taken for fixed.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from operator import is_
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any

import jax
import numpy as np

# Top-level packages whose globals and objects nobody changes between two calls.
_LIBRARIES = frozenset(sys.stdlib_module_names) | {
    *("chex", "einops", "flax", "hoarfrost", "jax", "jaxlib", "ml_dtypes", "numpy", "optax"),
    *("orbax", "scipy", "typing_extensions"),
    # Where networks from elsewhere come from; hoarfrost.examples.networks has a recipe for each.
    *("absl", "equinox", "functorch", "haiku", "jaxtyping", "jmp", "keras", "optree", "tabulate"),
    *("tensorflow", "torch", "torchax", "torchvision", "transformers", "tree"),
}

# What a class holds that says nothing of what its methods compute.
_OF_A_CLASS = frozenset(
    {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__qualname__"}
    | {"__dataclass_fields__", "__dataclass_params__", "__match_args__", "__abstractmethods__"}
    | {"_abc_impl", "__parameters__", "__orig_bases__", "__static_attributes__"}
    | {"__firstlineno__", "__slotnames__"}
)
_ATOMS = (bool, int, str, bytes, complex, type(None), type(Ellipsis), range, np.dtype)
_MISSING = object()

# Of an array that are copied at once, to be hashed.
_BYTES = 2**24

# Of what is read, in short. Keys hold names, numbers and digests, never an array.
_VERSIONS: dict[Any, int] = {}
_SETTLED: dict[int, int] = {}

_TOKENS: dict[int, tuple[Callable[[], Any], int]] = {}


class Reads:
    """What an object reads, looked at again whenever `key` is asked for.

    Parameters
    ----------
    value : object
        A function, a module, or anything else.
    skip : collection of str
        Attributes of `value` itself that are left out.
    """

    def __init__(self, value: Any, skip: frozenset[str] = frozenset()) -> None:
        self._value = value
        self._skip = skip
        self._walk: _Walk | None = None
        self._found = 0

    def version(self) -> int:
        """A number that is the same where all that is read is the same."""
        if self._walk is None or not self._walk.unchanged():
            self._walk = _Walk(self._value, self._skip)
            self._found = _VERSIONS.setdefault(self._walk.key, len(_VERSIONS))
        return _SETTLED.get(self._found, self._found)

    def __reduce__(self) -> Any:
        # A copy, also one in another process, looks for itself.
        return Reads, (self._value, self._skip)

    def settle(self, version: int) -> None:
        """Take what is read now for what it was at this version.

        Called when a program was traced: what tracing itself changes (a counter, a cache) would
        otherwise be traced for again and again.
        """
        if self.version() != version:
            _SETTLED[self._found] = version


class _Walk:
    """One walk through all that is read, and how to tell that another would find the same."""

    def __init__(self, value: Any, skip: frozenset[str]) -> None:
        self._parts: list[Any] = []
        self._checks: list[Callable[[], bool]] = []
        # The objects themselves, so that no identity is used twice during the walk.
        self._seen: dict[int, tuple[int, Any]] = {}
        self._modules: set[tuple[int, tuple[str, ...]]] = set()
        self._look(value, skip)
        self.key = tuple(self._parts)
        self._seen, self._parts = {}, []

    def unchanged(self) -> bool:
        """Whether everything that was read is as it was."""
        return all(check() for check in self._checks)

    def _look(self, value: Any, skip: frozenset[str] = frozenset()) -> None:
        if isinstance(value, _ATOMS) and type(value) in _ATOMS:
            self._parts.append((type(value).__name__, value))
            return
        if type(value) is float:
            # A NaN is not equal to itself.
            self._parts.append(("float", value.hex()))
            return
        if id(value) in self._seen:
            self._parts.append(("seen", self._seen[id(value)][0]))
            return
        self._seen[id(value)] = (len(self._seen), value)
        if isinstance(value, np.ndarray | np.generic):
            self._array(value)
        elif isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, MethodType):
            self._parts.append("method")
            self._look(value.__func__)
            self._look(value.__self__, skip)
        elif isinstance(value, functools.partial):
            self._parts.append("partial")
            self._dict(value.__dict__)
            for part in (value.func, value.args, value.keywords):
                self._look(part)
        elif isinstance(value, staticmethod | classmethod):
            self._parts.append(type(value).__name__)
            self._look(value.__func__)
        elif isinstance(value, property):
            self._parts.append("property")
            self._look(value.fget)
        elif isinstance(value, ModuleType | BuiltinFunctionType):
            self._parts.append(_token(value))
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, list | tuple):
            self._sequence(value)
        elif isinstance(value, set | frozenset):
            self._set(value)
        elif isinstance(value, dict):
            self._parts.append((type(value).__name__, len(value)))
            self._dict(value)
        else:
            self._object(value, skip)

    def _array(self, value: Any) -> None:
        if value.dtype.hasobject:
            self._parts.append(("objects", value.shape))
            self._look(value.tolist())
            return
        found = _digest(value)
        self._parts.append(found)
        if isinstance(value, np.ndarray):
            self._checks.append(lambda: _digest(value) == found)

    def _function(self, function: FunctionType) -> None:
        code, defaults, keywords = (
            function.__code__,
            function.__defaults__,
            function.__kwdefaults__,
        )
        # A code object is compared by its value: a function that is defined again is the same.
        self._parts.append(("function", code))
        library = _is_library(function.__globals__.get("__name__"))
        if library and not function.__closure__:
            return
        self._checks.append(lambda: function.__code__ is code and function.__defaults__ is defaults)
        self._look(defaults)
        self._look(keywords)
        for cell in function.__closure__ or ():
            self._cell(cell)
        if function.__dict__:
            self._dict(function.__dict__)
        if not library:
            self._names(function.__globals__, tuple(dict.fromkeys(_names(code))))

    def _cell(self, cell: Any) -> None:
        def contents() -> Any:
            try:
                return cell.cell_contents
            except ValueError:
                return _MISSING

        found = contents()
        self._checks.append(lambda: contents() is found)
        self._parts.append("cell")
        if found is not _MISSING:
            self._look(found)

    def _names(self, space: dict[str, Any], names: tuple[str, ...]) -> None:
        """The globals that a function names, and what it names of a module among them."""
        for name in names:
            value = space.get(name, _MISSING)
            if value is _MISSING:
                value = sys.modules.get(name, _MISSING)
                if not isinstance(value, ModuleType) or _is_library(value.__name__):
                    continue
            elif isinstance(value, ModuleType) and _is_library(value.__name__):
                continue
            else:
                self._checks.append(_same(space, name, value))
            self._parts.append(name)
            self._look(value)
            if isinstance(value, ModuleType) and value.__dict__ is not space:
                self._module(value, names)

    def _module(self, module: ModuleType, names: tuple[str, ...]) -> None:
        # Modules may name one another in a ring.
        if not _is_library(module.__name__) and (id(module), names) not in self._modules:
            self._modules.add((id(module), names))
            self._names(module.__dict__, names)

    def _class(self, cls: type) -> None:
        self._parts.append(_token(cls))
        if _is_library(cls.__module__):
            return
        found = {name: value for name, value in vars(cls).items() if name not in _OF_A_CLASS}

        def same() -> bool:
            now = vars(cls)
            return all(now.get(name, _MISSING) is value for name, value in found.items())

        self._checks.append(same)
        for name, value in found.items():
            self._parts.append(name)
            self._look(value)
        for base in cls.__bases__:
            self._look(base)

    def _sequence(self, value: list[Any] | tuple[Any, ...]) -> None:
        self._parts.append((type(value).__name__, len(value)))
        if isinstance(value, list):
            found = list(value)
            self._checks.append(lambda: len(value) == len(found) and all(map(is_, value, found)))
        for item in value:
            self._look(item)

    def _set(self, value: set[Any] | frozenset[Any]) -> None:
        found = frozenset(value)
        self._checks.append(lambda: found == value)
        self._parts.append((type(value).__name__, len(value)))
        for item in sorted(value, key=repr):
            self._look(item)

    def _dict(self, value: Mapping[Any, Any], skip: frozenset[str] = frozenset()) -> None:
        found = {name: item for name, item in value.items() if name not in skip}

        def same() -> bool:
            now = [(name, item) for name, item in value.items() if name not in skip]
            return len(now) == len(found) and all(
                found.get(name, _MISSING) is item for name, item in now
            )

        self._checks.append(same)
        for name, item in found.items():
            self._look(name)
            self._look(item)

    def _object(self, value: Any, skip: frozenset[str]) -> None:
        """Any other object: its class, and its attributes where a user may have made them."""
        cls = type(value)
        library = _is_library(cls.__module__)
        if isinstance(value, jax.Array):
            self._parts.append(_token(value))
        elif dataclasses.is_dataclass(value) and (library or _is_flax(cls)):
            # Flax keeps where a module sits, and what it has at hand, beside its fields.
            self._parts.append(_token(cls))
            names = [f.name for f in dataclasses.fields(value) if f.name != "parent"]
            attributes = {name: getattr(value, name, None) for name in names}
            for name, item in attributes.items():
                self._checks.append(_same_attribute(value, name, item))
                self._parts.append(name)
                self._look(item)
            self._look(cls)
        elif isinstance(value, SimpleNamespace) or (not library and hasattr(value, "__dict__")):
            self._look(cls)
            self._dict(vars(value), skip)
            self._slots(value)
        elif not library:
            self._look(cls)
            self._slots(value)
            if not any("__slots__" in vars(base) for base in cls.__mro__[:-1]):
                self._parts.append(_token(value))
        elif isinstance(value, Mapping):
            self._parts.append(cls.__name__)
            self._dict(value)
        elif hasattr(value, "__wrapped__"):
            self._parts.append(_token(value))
            self._look(value.__wrapped__)
        else:
            self._parts.append(_token(value))

    def _slots(self, value: Any) -> None:
        for base in type(value).__mro__:
            slots = vars(base).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name in ("__dict__", "__weakref__"):
                    continue
                item = getattr(value, name, _MISSING)
                self._checks.append(_same_attribute(value, name, item))
                self._parts.append(name)
                if item is not _MISSING:
                    self._look(item)


def _same(space: dict[str, Any], name: str, value: Any) -> Callable[[], bool]:
    return lambda: space.get(name, _MISSING) is value


def _same_attribute(owner: Any, name: str, value: Any) -> Callable[[], bool]:
    return lambda: getattr(owner, name, _MISSING) is value


def _names(code: CodeType) -> Iterator[str]:
    """Names of globals and attributes in a function, and in those that are written inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _is_library(module: Any) -> bool:
    return isinstance(module, str) and module.partition(".")[0] in _LIBRARIES


def _is_flax(cls: type) -> bool:
    return any(base.__module__.partition(".")[0] == "flax" for base in cls.__mro__)


def _digest(array: Any) -> tuple[Any, ...]:
    numbers = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    parts = range(0, len(numbers), _BYTES)
    # Of bytes Python's own hash has 64 bits, and is made several times as fast as any of hashlib.
    hashes = tuple(hash(numbers[start : start + _BYTES].tobytes()) for start in parts)
    return str(array.dtype), array.shape, hashes


def _token(value: Any) -> tuple[str, int]:
    """A number that no other object has had, without keeping the object where that can be."""
    known = _TOKENS.get(id(value))
    if known is not None and known[0]() is value:
        return "object", known[1]
    _TOKENS_MADE[0] += 1
    try:
        reference: Callable[[], Any] = weakref.ref(value, functools.partial(_forget, id(value)))
    except TypeError:
        # It cannot be referred to weakly: a function of the library, or the like.
        def reference() -> Any:
            return value

    _TOKENS[id(value)] = (reference, _TOKENS_MADE[0])
    return "object", _TOKENS_MADE[0]


_TOKENS_MADE = [0]


def _forget(identity: int, reference: Any) -> None:
    known = _TOKENS.get(identity)
    if known is not None and known[0] is reference:
        del _TOKENS[identity]
