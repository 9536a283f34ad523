"""The maximum a posteriori: a point mass."""

from __future__ import annotations

from typing import Any, Literal, Unpack

import optax

from hoarfrost.checks import check_key
from hoarfrost.methods.ascent import check_climb, climb, repeated, weights_of
from hoarfrost.methods.draws import Listed
from hoarfrost.methods.epochs import UNWATCHED, Monitoring
from hoarfrost.methods.posterior import WeightPosterior, posterior_on
from hoarfrost.methods.prior_tuning import PriorSchedule, PriorTuning, prior_tuning_of, tunable
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
    tune_prior: Literal["evidence"] | None = None,
    structure: Literal["layerwise", "scalar", "weights_biases"] = "layerwise",
    hessian_structure: str = "kron",
    every: int = 10,
    burn_in: int = 10,
    tune_noise: bool = True,
    **options: Unpack[ProblemOptions],
) -> WeightPosterior:
    """Train the trainable parameters to the maximum of the log joint density.

    With ``tune_prior="evidence"`` the prior is learnt on the way: between epochs its precisions,
    and the noise of a Gaussian likelihood, become those of the largest Laplace evidence, from the
    curvature of the trainable parameters where they stand. No data are held out.

    Parameters
    ----------
    model, params, data_loader, **options
        As in `hoarfrost.methods.problem.problem_of`. Training starts from `params`.
    optimizer : optax.GradientTransformation, optional
        ``optax.adam(1e-3)`` by default. The same object means the same compiled program. Its state
        goes on where the prior changes.
    n_epochs : int
        Passes over the data.
    seed : int or jax.Array
        Of batches and dropout.
    tune_prior : "evidence" or None
        Whether the prior is learnt; None leaves it as it is given. `prior_precision`, a number or
        one a leaf, is then where training begins.
    structure : {"layerwise", "scalar", "weights_biases"}
        Which parameters share a prior precision: those of a layer, all, or the leaves of two axes
        or more and the others; as in `hoarfrost.Laplace.optimize_prior_precision`.
    hessian_structure : {"kron", "diag", "full"}
        Of the curvature, as in `hoarfrost.fit_laplace`. "diag" leaves out that parameters covary,
        and may switch off whole layers; "full" takes memory of order P^2 and work of order P^3.
    every, burn_in : int
        The prior is set after `burn_in` epochs and after each `every` epochs more, but not after
        the last one.
    tune_noise : bool
        Whether the noise of a Gaussian likelihood is learnt, too.

    Returns
    -------
    WeightPosterior
        One listed value. ``posterior.merge()`` gives the trained parameters. Of a prior that was
        learnt the status has, at T stops: "prior_epochs" ``(T,)``, the epochs that were done;
        "evidence" ``(T,)``, the log marginal likelihood that was reached; "prior_precision"
        ``(T, L)`` for the L trainable leaves, of which "prior_leaves" names the paths; of a
        Gaussian likelihood "noise_std" ``(T,)`` or ``(T, C)``. `posterior.likelihood` has the last.

    Raises
    ------
    InvalidArgumentError, SelectionError, ShapeError, NonFiniteError, DataError
        If an argument or the data cannot be used; if training leaves the finite numbers.
    StructureError, MemoryLimitError
        If the curvature cannot have its structure or does not fit, before the first step.

    Notes
    -----
    A stop costs one pass of curvature over the data, with what is frozen run once. Nothing is drawn
    there: the same arguments give the same bits. A run cannot be broken off and gone on with. One
    that begins at `posterior.merge()` with `learnt_prior` goes on with the prior, but with a new
    state of the optimiser. "loss" is of the prior of its epoch.

    References
    ----------
    MacKay (1992), A practical Bayesian framework for backpropagation networks.
    Immer, Bauer, Fortuin, Ratsch and Khan (2021), Scalable marginal likelihood estimation for model
    selection in deep learning.

    Examples
    --------
    The Laplace posterior under the prior that was learnt:

    >>> import jax.numpy as jnp, numpy as np, hoarfrost
    >>> from hoarfrost.methods import fit_map, learnt_prior
    >>> x = np.linspace(-1, 1, 20, dtype=np.float32)[:, None]
    >>> loader, start = [(x, 2 * x)], {"w": jnp.ones((1, 1))}
    >>> model = lambda params, inputs: inputs @ params["w"]
    >>> map = fit_map(model, start, loader, likelihood="gaussian", tune_prior="evidence",
    ...               progress=False)
    >>> posterior = hoarfrost.fit_laplace(
    ...     model, map.merge(), loader, likelihood=map.likelihood, hessian_structure="kron",
    ...     prior_precision=learnt_prior(map), progress=False)
    >>> posterior.noise_std < 1
    True
    """
    check_climb(optimizer, n_epochs)
    tuning = prior_tuning_of(
        tune_prior,
        n_epochs,
        structure=structure,
        hessian_structure=hessian_structure,
        every=every,
        burn_in=burn_in,
        tune_noise=tune_noise,
    )
    key = check_key(seed, "seed")
    problem = problem_of(model, params, data_loader, **options)
    if tuning is not None:
        problem = tunable(problem, options.get("prior_precision", 1.0), tuning)
    return map_on(problem, optimizer=optimizer, n_epochs=n_epochs, seed=key, tuning=tuning)


def map_on(
    problem: Problem,
    *,
    optimizer: optax.GradientTransformation | None = None,
    n_epochs: int = 100,
    seed: Any = 0,
    monitoring: Monitoring = UNWATCHED,
    tuning: PriorTuning | None = None,
) -> WeightPosterior:
    """`fit_map` for a problem that exists already, and is `tunable` where there is `tuning`."""
    schedule = None if tuning is None else PriorSchedule(tuning, tuning.epochs(n_epochs))
    trained = climb(
        problem,
        repeated(problem, 1),
        optimizer=optimizer,
        n_epochs=n_epochs,
        seed=seed,
        description="MAP",
        monitoring=monitoring,
        revise=schedule,
    )
    problem, status = trained.problem, trained.status
    if schedule is not None:
        status = {**status, **schedule.status(problem)}
    return posterior_on(problem, "map", Listed(weights_of(trained.state)), status)
