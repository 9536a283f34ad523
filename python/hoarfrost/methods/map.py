"""The maximum a posteriori: a point mass."""

from __future__ import annotations

from typing import Any, Unpack

import optax

from hoarfrost.checks import check_key
from hoarfrost.methods.ascent import check_climb, climb, repeated, weights_of
from hoarfrost.methods.draws import Listed
from hoarfrost.methods.epochs import UNWATCHED, Monitoring
from hoarfrost.methods.posterior import WeightPosterior, posterior_on
from hoarfrost.methods.problem import Problem, ProblemOptions, problem_of
from hoarfrost.types import Tree


def fit_map(
    model: Any,
    params: Tree,
    data_loader: Any,
    *,
    optimizer: optax.GradientTransformation | None = None,
    n_epochs: int = 100,
    seed: Any = 0,
    **options: Unpack[ProblemOptions],
) -> WeightPosterior:
    """Train the trainable parameters to the maximum of the log joint density.

    Parameters
    ----------
    model, params, data_loader, **options
        As in `hoarfrost.methods.problem.problem_of`. Training starts from `params`.
    optimizer : optax.GradientTransformation, optional
        ``optax.adam(1e-3)`` by default. The same object means the same compiled program.
    n_epochs : int
        Passes over the data.
    seed : int or jax.Array
        Of batches and dropout.

    Returns
    -------
    WeightPosterior
        One listed value. ``posterior.merge()`` gives the trained parameters.

    Raises
    ------
    InvalidArgumentError, SelectionError, ShapeError, NonFiniteError, DataError
        If an argument or the data cannot be used; if training leaves the finite numbers.
    """
    check_climb(optimizer, n_epochs)
    key = check_key(seed, "seed")
    problem = problem_of(model, params, data_loader, **options)
    return map_on(problem, optimizer=optimizer, n_epochs=n_epochs, seed=key)


def map_on(
    problem: Problem,
    *,
    optimizer: optax.GradientTransformation | None = None,
    n_epochs: int = 100,
    seed: Any = 0,
    monitoring: Monitoring = UNWATCHED,
) -> WeightPosterior:
    """`fit_map` for a problem that exists already."""
    trained = climb(
        problem,
        repeated(problem, 1),
        optimizer=optimizer,
        n_epochs=n_epochs,
        seed=seed,
        description="MAP",
        monitoring=monitoring,
    )
    return posterior_on(problem, "map", Listed(weights_of(trained.state)), trained.status)
