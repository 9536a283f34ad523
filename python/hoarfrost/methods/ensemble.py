"""Deep ensembles."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hoarfrost.checks import check_count, check_key, check_switch, shown
from hoarfrost.data.accepted import as_data_loader
from hoarfrost.data.checked import data_batches
from hoarfrost.data.features import origin_of
from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.methods.ascent import climb, member_batches, repeated, weights_of
from hoarfrost.methods.draws import Draws, Listed
from hoarfrost.methods.epochs import UNWATCHED, Monitoring
from hoarfrost.methods.posterior import WeightPosterior, posterior_on
from hoarfrost.methods.problem import Problem, ProblemOptions, problem_of
from hoarfrost.methods.side_by_side import gathered, groups_of
from hoarfrost.network import GivenModule, as_network, given_module
from hoarfrost.types import Array, Tree

Init = Literal["anew", "given"] | Callable[[jax.Array], Tree]


def fit_ensemble(
    model: Any,
    params: Tree,
    data_loader: Any,
    *,
    ensemble_size: int = 5,
    optimizer: optax.GradientTransformation | None = None,
    n_epochs: int = 100,
    init: Init = "anew",
    bootstrap: bool = False,
    seed: Any = 0,
    **options: Unpack[ProblemOptions],
) -> WeightPosterior:
    """Train members side by side, which differ in where they start and in the order of the data.

    Each comes to a maximum of the log joint density; where there is one alone, as in a last layer,
    they spread little (not at all without noise in their training), whatever the data leave open.

    Parameters
    ----------
    model, params, data_loader, **options
        As in `hoarfrost.methods.problem.problem_of`. Frozen parameters are those of `params`, held
        once for all members.
    ensemble_size : int
        How many members there are.
    optimizer : optax.GradientTransformation, optional
        ``optax.adam(1e-3)`` by default. The same object means the same compiled program.
    n_epochs : int
        Passes of each member over the data.
    init : {"anew", "given"} or callable (key) -> params
        Where the trainable parameters of a member start: drawn by the module's initialisers (of
        Linen, or of a function that makes an NNX module of rngs), at `params`, or where a function
        says, which gives all parameters in the form of `params`.
    bootstrap : bool
        Whether each member trains on as many points drawn with replacement.
    seed : int or jax.Array
        Of initial values, batches and dropout.

    Returns
    -------
    WeightPosterior
        The members, listed; each with its own running statistics where it trains some.

    Raises
    ------
    InvalidArgumentError, SelectionError, ShapeError, NonFiniteError, DataError
        If an argument or the data cannot be used; if training leaves the finite numbers.

    References
    ----------
    Lakshminarayanan, Pritzel and Blundell (2017), Simple and scalable predictive uncertainty
    estimation using deep ensembles.
    """
    size = check_count("ensemble_size", ensemble_size, 1)
    key = check_key(seed, "seed")
    initial = _initial(model, init, data_loader, options.get("call"))
    problem = problem_of(model, params, data_loader, **options)
    begin = None if initial is None else functools.partial(members_from, problem, initial, key)
    return ensemble_on(
        problem,
        ensemble_size=size,
        optimizer=optimizer,
        n_epochs=n_epochs,
        begin=begin,
        bootstrap=bootstrap,
        seed=seed,
    )


def ensemble_on(
    problem: Problem,
    *,
    ensemble_size: int = 5,
    optimizer: optax.GradientTransformation | None = None,
    n_epochs: int = 100,
    begin: Callable[[range], Draws] | None = None,
    bootstrap: bool = False,
    seed: Any = 0,
    monitoring: Monitoring = UNWATCHED,
) -> WeightPosterior:
    """`fit_ensemble` for a problem that exists already; `begin` says where members start.

    Members that take much beside what is frozen train in groups, one after the other, unless they
    are watched: metrics are means over all of them.
    """
    check_switch("bootstrap", bootstrap)
    size = check_count("ensemble_size", ensemble_size, 1)
    groups = groups_of(problem, size) if monitoring is UNWATCHED else [range(size)]
    batches = member_batches(problem, check_key(seed, "seed"), size, bootstrap=bootstrap)
    statuses: list[dict[str, Array]] = []

    def members() -> Iterator[Tree]:
        for group in groups:
            trained = climb(
                problem,
                repeated(problem, len(group)) if begin is None else begin(group),
                optimizer=optimizer,
                n_epochs=n_epochs,
                seed=seed,
                description="Ensemble",
                batches=batches.part(group),
                monitoring=monitoring,
            )
            statuses.append(trained.status)
            weights = weights_of(trained.state)
            del trained
            yield jax.device_get((weights.trainable, weights.statistics))

    distribution = Listed(Draws(*gathered(members(), groups)))
    weights = np.asarray([len(group) for group in groups]) / size
    status = jax.tree.map(lambda *values: np.tensordot(weights, values, 1), *statuses)
    return posterior_on(problem, "deep_ensemble", distribution, status)


def members_from(
    problem: Problem, initial: Callable[[jax.Array], Tree], key: jax.Array, members: range
) -> Draws:
    """Where members start: the trainable leaves of a draw for each, with given statistics."""
    own = problem.whole.partition
    drawn = []
    for member in members:
        # Steps draw from keys folded with the member alone.
        made = initial(jax.random.fold_in(jax.random.fold_in(key, member), np.uint32(2**32 - 2)))
        trainable = own.split(made)[0]
        _check_like(problem.whole.trainable, trainable)
        drawn.append(trainable)
    begin = repeated(problem, len(members))
    stacked = jax.tree.map(
        lambda like, *leaves: jnp.stack([jnp.asarray(leaf, like.dtype) for leaf in leaves]),
        problem.whole.trainable,
        *drawn,
    )
    return replace(begin, trainable=stacked)


def _check_like(like: Tree, drawn: Tree) -> None:
    shapes = [jax.tree.map(np.shape, tree) for tree in (like, drawn)]
    if shapes[0] != shapes[1]:
        raise ShapeError(
            f"init gives trainable parameters of shapes {shown(shapes[1])}, and those of params "
            f"have {shown(shapes[0])}; it must give parameters like params"
        )


def _initial(
    model: Any, init: Any, data_loader: Any, call: Any
) -> Callable[[jax.Array], Tree] | None:
    """What draws parameters from a key; None where members start at those given."""
    if callable(init):
        return lambda key: as_network(model, init(key), call)[1]
    if init == "given":
        return None
    if init != "anew":
        raise InvalidArgumentError(
            f"init is {shown(init)}; give 'anew', 'given', or a function of a key that gives "
            "parameters"
        )
    try:
        module = given_module(model, call)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            "init is 'anew', but model is a function, whose parameters nothing draws; give init= a "
            "function of a key that gives parameters like params, or init='given'"
        ) from error
    if not module.starts_anew:
        raise InvalidArgumentError(
            "init is 'anew', but model is an NNX module, which does not say how it was made; give "
            "init=lambda key: nnx.state(Net(nnx.Rngs(key))), or init='given'"
        )
    loader = as_data_loader(data_loader, "data_loader")
    origin = origin_of(loader)
    if origin is not None:
        inputs = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), origin.point)
    else:
        inputs = next(data_batches(loader, masks=True)).inputs
    return lambda key: _of_module(module, inputs, key)


def _of_module(module: GivenModule, inputs: Tree, key: jax.Array) -> Tree:
    first, second = jax.random.split(key)
    return module.network.split(module.variables(inputs, first, second))[0]
