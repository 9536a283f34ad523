"""A Flax NNX module as a network: graph definitions that hold no array, and arrays by their paths.

Imported only where a user brings an NNX module.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import jax
from flax import nnx

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.network.base import explained, first_array
from hoarfrost.network.keyed import KeyedNetwork
from hoarfrost.network.keys import Owner, holds_arrays, key_of
from hoarfrost.network.modes import Call, is_closure, mode_arguments, takes
from hoarfrost.network.nested import by_path, nested
from hoarfrost.network.reads import Reads
from hoarfrost.network.statistics import moves
from hoarfrost.network.weakly import WeakNetwork
from hoarfrost.types import Path, Tree, join, path_of

# Under which names what is no parameter stands in `mutable`.
STATISTICS, STATE = "statistics", "state"


@dataclass(frozen=True, eq=False)
class NnxNetwork:
    """An NNX module as a pure function of pure dicts.

    ``params`` is the nested dict of its `nnx.Param` values; ``mutable`` has those of its
    `nnx.BatchStat` under "statistics" and everything else (random state, caches, arrays that are
    plain attributes) under "state", where there is any.

    Parameters
    ----------
    name : str
        What the module's class is called.
    evaluation, training : flax.nnx.GraphDef
        Of the module in evaluation and in training mode.
    kinds : mapping of path to type
        The class of the variable at each path; of an array that is a plain attribute its own.
    classes : tuple of type
        Of the modules in it, whose code a program has in it.
    call : callable, optional
        ``call(module, inputs)``, done instead of calling the module. It, or else ``__call__``, is
        told whether it trains by whichever of ``train``, ``training``, ``deterministic`` and
        ``use_running_average`` it names, and has keys in ``rngs`` (in training; else None) if it
        names that.
    """

    name: str
    evaluation: Any
    training: Any
    kinds: Mapping[Path, type]
    classes: tuple[type, ...]
    call: Call | None = None

    @functools.cached_property
    def _key(self) -> Any:
        return _graph_key(self.evaluation), _graph_key(self.training), key_of(self.call)

    @functools.cached_property
    def _hash(self) -> int:
        return hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NnxNetwork):
            return NotImplemented
        return self is other or (self._hash == other._hash and self._key == other._key)

    @functools.cached_property
    def owner(self) -> Owner | None:
        """None, as graph definitions hold no arrays; but settings of a module or `call` may."""
        return Owner() if holds_arrays(self._key) or is_closure(self.call) else None

    @property
    def unowned(self) -> NnxNetwork:
        """The network with what it reads, by a weak reference where it may hold arrays."""
        held = self._twin if self.owner is None else self._weakly
        return cast(NnxNetwork, KeyedNetwork(held, self._reads))

    @functools.cached_property
    def _reads(self) -> Reads:
        return Reads((*self.classes, self.call))

    @functools.cached_property
    def _twin(self) -> NnxNetwork:
        # Of its own, as a program must not keep what `_reads` has in sight.
        twin = dataclasses.replace(self)
        twin.__dict__.update(_key=self._key, _hash=self._hash)
        return twin

    @functools.cached_property
    def _weakly(self) -> NnxNetwork:
        return cast(NnxNetwork, WeakNetwork(self))

    @functools.cached_property
    def param_kinds(self) -> dict[Path, type]:
        """The class of each parameter, by its path."""
        return {path: kind for path, kind in self.kinds.items() if issubclass(kind, nnx.Param)}

    @functools.cached_property
    def statistics(self) -> tuple[Path, ...]:
        """The paths of the running statistics."""
        return tuple(p for p, kind in self.kinds.items() if issubclass(kind, nnx.BatchStat))

    def evaluate(self, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
        """Outputs in evaluation mode, shape ``(batch, ...)``."""
        module = nnx.merge(self.evaluation, nested(_values(params, mutable)))
        with explained(self.name, params, inputs):
            outputs = self._called(module, inputs, None)
        return first_array(outputs, self.name)

    def train(
        self, params: Tree, mutable: Tree, inputs: Tree, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        """Outputs in training mode, and the new collections.

        Every random stream of the module has a key made of `key` in this pass. Its own keys come
        out as they went in, as does what it sows; its counters go on.
        """
        values = _values(params, mutable)
        streams = sorted((p for p, k in self.kinds.items() if issubclass(k, nnx.RngKey)), key=str)
        # Sown values grow from call to call.
        sown = (p for p, k in self.kinds.items() if issubclass(k, nnx.Intermediate))
        stays = {*streams, *sown}
        for index, path in enumerate(streams):
            values[path] = _key_like(values[path], jax.random.fold_in(key, index))
        module = nnx.merge(self.training, nested(values))
        with explained(self.name, params, inputs):
            outputs = self._called(module, inputs, jax.random.fold_in(key, len(streams)))
        after = by_path(nnx.to_pure_dict(nnx.state(module)))
        moved = {
            name: nested(
                {p: old if p in stays else after.get(p, old) for p, old in by_path(tree).items()}
            )
            for name, tree in mutable.items()
        }
        return first_array(outputs, self.name), moved

    def idle_in_training(self, params: Tree, mutable: Tree, inputs: Tree) -> tuple[str, ...]:
        """Nothing: what cannot be switched was said when the network was made."""
        return ()

    def split(self, variables: Tree) -> tuple[Tree, Tree]:
        """The nested dict of all values as ``(params, mutable)``; random state may be missing."""
        values = self.with_missing_state(by_path(variables))
        groups: dict[str, dict[Path, Any]] = {"params": {}, STATISTICS: {}, STATE: {}}
        for path in self.kinds:
            name = STATISTICS if path in self.statistics else STATE
            groups["params" if path in self.param_kinds else name][path] = values[path]
        params = nested(groups.pop("params"))
        return params, {name: nested(found) for name, found in groups.items() if found}

    def join(self, params: Tree, mutable: Tree) -> Tree:
        """The parameters, with the statistics of `mutable` beside them."""
        found = by_path(mutable.get(STATISTICS, {}))
        return nested({**by_path(params), **found}) if found else params

    def moving(self, trainable: Mapping[Path, bool], mutable: Tree) -> tuple[bool, ...]:
        """Which leaves training updates, in tree order: statistics by `statistics.moves`.

        All other state moves as the module moves it.
        """
        paths = [path_of(p) for p, _ in jax.tree_util.tree_flatten_with_path(mutable)[0]]
        return tuple(p[0] != STATISTICS or moves(p[1:-1], trainable) for p in paths)

    def with_missing_state(self, values: Mapping[Path, Any]) -> dict[Path, Any]:
        """The values with random state where there is none: training draws its own.

        Raises
        ------
        InvalidArgumentError
            If anything else is missing.
        """
        missing = [path for path in self.kinds if path not in values]
        lacking = [p for p in missing if not issubclass(self.kinds[p], nnx.RngState)]
        if lacking:
            raise InvalidArgumentError(
                f"{self.name} has no values at {', '.join(map(join, lacking[:5]))}"
                f"{' and elsewhere' if len(lacking) > 5 else ''}, as it was made by nnx.eval_shape "
                "or is a constructor; give params that hold them, a module with values, or, to "
                "train a new one, a function that makes it of rngs"
            )
        made = {p: _new_random_state(self.kinds[p]) for p in missing}
        return {**values, **made}

    def _called(self, module: Any, inputs: Tree, key: jax.Array | None) -> Any:
        function = type(module).__call__ if self.call is None else self.call
        arguments = mode_arguments(function, key is not None, any_keyword=False)
        if takes(function, "rngs"):
            arguments["rngs"] = None if key is None else nnx.Rngs(key)
        return function(module, inputs, **arguments)


def _values(params: Tree, mutable: Tree) -> dict[Path, Any]:
    """All values of a module by their paths in it."""
    values = by_path(params)
    for tree in mutable.values():
        values.update(by_path(tree))
    return values


def _graph_key(graph: Any) -> Any:
    """A graph definition, or a stand-in where an attribute (a dict, say) has no hash."""
    try:
        hash(graph)
    except TypeError:
        return key_of(graph)
    return graph


def _key_like(old: jax.Array, key: jax.Array) -> jax.Array:
    """Keys made of `key`, of the kind and shape of others."""
    seed = jax.random.bits(key, (), "uint32")
    new = jax.random.key(seed, impl=jax.random.key_impl(old))
    return jax.random.split(new, old.shape) if old.shape else new


def _new_random_state(kind: type) -> jax.Array:
    state = jax.random.key(0) if issubclass(kind, nnx.RngKey) else jax.numpy.zeros((), "uint32")
    made: jax.Array = state
    return made
