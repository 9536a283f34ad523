"""A Flax Linen module as a network: the only file of the core that knows Linen."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from hoarfrost.errors import InvalidArgumentError, MixedPointsError, ShapeError
from hoarfrost.fork import check_not_forked
from hoarfrost.network.base import explained, first_array
from hoarfrost.network.keyed import KeyedNetwork
from hoarfrost.network.keys import Owner, changeable, holds_arrays, key_of
from hoarfrost.network.modes import Call, is_closure, mode_arguments
from hoarfrost.network.reads import Reads
from hoarfrost.network.statistics import moves
from hoarfrost.network.weakly import WeakNetwork
from hoarfrost.types import Path, Tree, path_of


@dataclass(frozen=True, eq=False)
class LinenNetwork:
    """A Linen module as a pure function.

    Parameters
    ----------
    module : flax.linen.Module
        The module; its ``__call__`` is told whether it trains by whichever of ``train``,
        ``training``, ``deterministic`` and ``use_running_average`` it takes (``train`` where it
        takes ``**kwargs``). Of a tuple that it returns, the first item is used.
    bare : bool
        Whether ``params`` is the module's "params" tree itself; otherwise it is
        ``{"params": tree}``.
    call : callable, optional
        ``call(module, inputs)``, done with the bound module instead of calling it; it is told
        whether it trains by whichever of those arguments it names.
    """

    module: nn.Module
    bare: bool = False
    call: Call | None = None

    @functools.cached_property
    def _key(self) -> Any:
        return key_of(self.module), self.bare, key_of(self.call)

    @functools.cached_property
    def _hash(self) -> int:
        return hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LinenNetwork):
            return NotImplemented
        return self is other or (self._hash == other._hash and self._key == other._key)

    @functools.cached_property
    def changeable(self) -> bool:
        """Whether the module has attributes that can be changed in place."""
        return changeable(self.module)

    @functools.cached_property
    def owner(self) -> Owner | None:
        """None, as a module describes layers; but one may have arrays for attributes.

        So may a `call` that is a closure.
        """
        return Owner() if holds_arrays(self._key) or is_closure(self.call) else None

    @property
    def unowned(self) -> LinenNetwork:
        """The network with what it reads, by a weak reference where its module has arrays."""
        held = self._twin if self.owner is None else self._weakly
        return cast(LinenNetwork, KeyedNetwork(held, self._reads))

    @functools.cached_property
    def _reads(self) -> Reads:
        return Reads(self.module if self.call is None else (self.module, self.call))

    @functools.cached_property
    def _twin(self) -> LinenNetwork:
        # Of its own, as a program must not keep what `_reads` has in sight.
        twin = LinenNetwork(self.module, self.bare, self.call)
        twin.__dict__.update(_key=self._key, _hash=self._hash)
        return twin

    @functools.cached_property
    def _weakly(self) -> LinenNetwork:
        return cast(LinenNetwork, WeakNetwork(self))

    def evaluate(self, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
        """Outputs in evaluation mode, shape ``(batch, ...)``."""
        with _explained(self.module, params, inputs):
            outputs = self._apply()(self._variables(params, mutable), inputs, **self._mode(False))
        return first_array(outputs, type(self.module).__name__)

    def train(
        self, params: Tree, mutable: Tree, inputs: Tree, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        """Outputs in training mode, and the new collections.

        Dropout is drawn from `key`, and every other random stream from a key made of it.
        """
        variables, mode = self._variables(params, mutable), self._mode(True)
        # Flax takes the "params" stream for each that has no key of its own.
        rngs = {"dropout": key, "params": jax.random.fold_in(key, 1)}
        with _explained(self.module, params, inputs):
            if not mutable:
                outputs = self._apply()(variables, inputs, rngs=rngs, **mode)
                return first_array(outputs, type(self.module).__name__), mutable
            outputs, updated = self._apply(list(mutable))(variables, inputs, rngs=rngs, **mode)
        # The containers that came in go out, so that a loop over steps compiles once.
        updated = jax.tree.unflatten(jax.tree.structure(mutable), jax.tree.leaves(updated))
        return first_array(outputs, type(self.module).__name__), updated

    def idle_in_training(self, params: Tree, mutable: Tree, inputs: Tree) -> tuple[str, ...]:
        """Layers that stay in evaluation mode in training, as nothing tells the module's mode.

        Dropout that does not act and BatchNorm that does not move, by their paths; empty where the
        module's ``__call__`` takes a flag. Traced from shapes, never run.
        """
        if self._mode(True):
            return ()
        # Of JAX, so that nothing that is looked at can change the user's own.
        inputs = jax.tree.map(jnp.asarray, inputs)
        found: list[str] = []

        def look(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            if context.method_name == "__call__" and _is_idle(context.module, args, kwargs):
                found.append("/".join(context.module.path) or type(context.module).__name__)
            return call(*args, **kwargs)

        def run(statistics: Tree, key: jax.Array) -> Tree:
            with nn.intercept_methods(look):
                return self.train(params, {**mutable, **statistics}, inputs, key)[1]

        statistics = {name: tree for name, tree in mutable.items() if name == "batch_stats"}
        before = self._reads.version()
        program = jax.make_jaxpr(run)(statistics, jax.random.PRNGKey(0)).jaxpr
        self._reads.settle(before)
        unmoved = set(map(id, program.invars)) & set(map(id, program.outvars))
        if not found and statistics and len(unmoved) >= len(jax.tree.leaves(statistics)):
            # Layers of the user's own, whose statistics come out as they went in.
            found.append("batch_stats")
        return tuple(dict.fromkeys(found))

    def split(self, variables: Tree) -> tuple[Tree, Tree]:
        """Variables ``{"params": ..., "batch_stats": ...}`` as ``(params, mutable)``."""
        if self.bare:
            return variables, {}
        if "params" not in variables:
            raise InvalidArgumentError(
                f"the model {type(self.module).__name__} has no parameters: its variables hold "
                f"{', '.join(variables) or 'nothing'}"
            )
        params = {"params": variables["params"]}
        return params, {name: tree for name, tree in variables.items() if name != "params"}

    def join(self, params: Tree, mutable: Tree) -> Tree:
        """The variables again."""
        return {**params, **mutable} if mutable else params

    def moving(self, trainable: Mapping[Path, bool], mutable: Tree) -> tuple[bool, ...]:
        """Which statistics training updates, in tree order, by `statistics.moves`."""
        leaves = jax.tree_util.tree_flatten_with_path(mutable)[0]
        # Modules' collections stand beside "params": the same path, but for the first entry.
        owners = {path if self.bare else path[1:]: chosen for path, chosen in trainable.items()}
        return tuple(moves(path_of(key_path)[1:-1], owners) for key_path, _ in leaves)

    def init(self, rngs: dict[str, jax.Array], inputs: Tree) -> dict[str, Tree]:
        """New variables; ``__call__``, or `call`, is done once in evaluation mode."""
        made = self.module.init if self.call is None else nn.init(self.call, self.module)
        variables: dict[str, Tree] = made(rngs, inputs, **self._mode(False))
        return variables

    def _apply(self, mutable: Any = False) -> Callable[..., Any]:
        if self.call is None:
            return functools.partial(self.module.apply, mutable=mutable)
        applied: Callable[..., Any] = nn.apply(self.call, self.module, mutable=mutable)
        return applied

    def _mode(self, train: bool) -> dict[str, Any]:
        """The arguments that tell the module, or `call`, whether it trains."""
        if self.call is not None:
            return mode_arguments(self.call, train, any_keyword=False)
        # A Sequential takes any keyword, only to hand it to its first layer, which need not take
        # it.
        if isinstance(self.module, nn.Sequential):
            return {}
        return mode_arguments(type(self.module).__call__, train, any_keyword=True)

    def _variables(self, params: Tree, mutable: Tree) -> dict[str, Tree]:
        return {**mutable, **({"params": params} if self.bare else params)}


def init_linen(
    module: nn.Module,
    inputs: Tree,
    params_key: jax.Array,
    dropout_key: jax.Array,
    call: Call | None = None,
) -> dict[str, Tree]:
    """Initial variables of a Linen module, compiled once for each module and shape.

    Parameters
    ----------
    module : flax.linen.Module
        The module to initialise.
    inputs : array or tree of arrays
        A batch of inputs, of which only the shapes beyond axis 0 and the dtypes are used: the
        module sees one point of zeros. A tuple of ints stands for the shape of one point.
    params_key, dropout_key : jax.Array
        Keys of the "params" and "dropout" streams.
    call : callable, optional
        As in `LinenNetwork`.

    Returns
    -------
    dict
        ``{"params": ..., ...}``, every collection of the module.
    """
    check_not_forked("initialisation")
    if isinstance(inputs, tuple) and all(isinstance(size, int) for size in inputs):
        leaves, structure = [(inputs, "float32")], jax.tree.structure(0)
    else:
        arrays, structure = jax.tree.flatten(inputs)
        dtypes = [jax.dtypes.canonicalize_dtype(x.dtype.newbyteorder("=")) for x in arrays]
        leaves = [(x.shape[1:], str(dtype)) for x, dtype in zip(arrays, dtypes, strict=True)]
    network = LinenNetwork(module, call=call)
    keyed = KeyedNetwork(network._twin, network._reads)
    return dict(_init(keyed, structure, tuple(leaves), params_key, dropout_key))


def _is_idle(layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a layer that has a training mode is in evaluation mode in this call."""
    if isinstance(layer, nn.BatchNorm):
        flag, acts, second = "use_running_average", True, args[1:2]
    elif isinstance(layer, nn.Dropout):
        flag, acts, second = "deterministic", layer.rate > 0, args[1:2]
    elif isinstance(layer, nn.MultiHeadDotProductAttention):
        flag, acts, second = "deterministic", layer.dropout_rate > 0, ()
    else:
        return False
    given = kwargs.get(flag, second[0] if second else None)
    own = getattr(layer, flag)
    return bool(acts and (own if given is None else given))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _init(
    network: KeyedNetwork,
    structure: Any,
    points: tuple[tuple[tuple[int, ...], str], ...],
    params_key: jax.Array,
    dropout_key: jax.Array,
) -> Tree:
    inputs = jax.tree.unflatten(structure, [jnp.zeros((1, *s), d) for s, d in points])
    with _explained(network.module, {}, inputs):
        variables: Tree = network.init({"params": params_key, "dropout": dropout_key}, inputs)
    network.settle()
    return variables


@contextlib.contextmanager
def _explained(module: nn.Module, params: Tree, inputs: Tree) -> Iterator[None]:
    """Flax's complaint about parameters that do not fit, as an error of ours that says what to do.

    It is raised while a program is traced, so the guard costs nothing where things fit.
    """
    try:
        with explained(type(module).__name__, params, inputs):
            yield
    except flax.errors.InvalidRngError as error:
        raise InvalidArgumentError(
            f"{type(module).__name__} draws random numbers in evaluation mode: dropout that "
            "nothing turns off, or a random stream of its own. Let __call__ take train, and hand "
            "that on, as in nn.Dropout(rate, deterministic=not train). Flax says: "
            f"{error}"
        ) from error
    except flax.errors.ModifyScopeVariableError as error:
        raise MixedPointsError(
            f"{type(module).__name__} updates statistics of the batch in evaluation mode, where "
            "outputs for a point must not depend on the others: a curvature is a sum over points. "
            "Let __call__ take train, and hand that on, as in "
            f"nn.BatchNorm(use_running_average=not train). Flax says: {error}"
        ) from error
    except (
        flax.errors.ScopeParamShapeError,
        flax.errors.ScopeParamNotFoundError,
        flax.errors.ScopeCollectionNotFound,
    ) as error:
        shapes = ", ".join(str(np.shape(leaf)) for leaf in jax.tree.leaves(inputs))
        raise ShapeError(
            f"{type(module).__name__} cannot take inputs of shape {shapes} with the parameters "
            "that it was given: axis 0 must run over the points and the others be those that the "
            "parameters were made for, and all variables (also 'batch_stats' and the like) must be "
            f"given. Flax says: {error}"
        ) from error
