"""Fitting the posterior: one pass over the data, then one factorisation."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from hoarfrost.curvature.stream import (
    Batch,
    data_batches,
    input_batches,
    num_batches,
    piece_size,
    stream,
)
from hoarfrost.errors import DataError, InvalidArgumentError, NotPositiveDefiniteError
from hoarfrost.freezing import Partition, Selector, make_partition
from hoarfrost.laplace.gaussian_head import GaussianHeadCurvature
from hoarfrost.laplace.linearised import LinearisedNetwork, linearise
from hoarfrost.laplace.noise import Residuals, sum_of_squares
from hoarfrost.laplace.plan import STRUCTURES, Keep, MemoryPlan, check_memory_budget
from hoarfrost.laplace.posterior import Laplace
from hoarfrost.laplace.prior_precision import resolve_prior_mean, resolve_prior_precision
from hoarfrost.laplace.structures import (
    Curvature,
    DenseCurvature,
    DiagonalCurvature,
    Factor,
    HeadCurvature,
)
from hoarfrost.likelihood import Gaussian, Likelihood, resolve
from hoarfrost.network import Network, as_network
from hoarfrost.progress import progress_bar

Tree = Any

# Operations from which on a factorisation takes more than a fraction of a second.
_LONG_FACTORISATION = 1e10


def fit_laplace(
    model: Any,
    params: Tree,
    data_loader: Any,
    *,
    likelihood: str | Likelihood = "categorical",
    trainable: Selector | None = None,
    hessian_structure: Literal["full", "diag", "auto"] = "full",
    prior_precision: Any = 1.0,
    prior_mean: Any = 0.0,
    keep_curvature: Keep = "auto",
    memory_budget: int | None = None,
    progress: bool = True,
) -> Laplace:
    """The Laplace posterior over the trainable parameters of a network trained anywhere.

    Parameters
    ----------
    model : flax.linen.Module or callable
        A Linen module, or a function ``apply(params, inputs) -> outputs`` of shape ``(B, C)``.
    params : tree of arrays
        For a module its variables, or its "params" alone; for a function its parameters. They are
        taken as the MAP.
    data_loader : DataLoader or iterable
        Gives batches ``(inputs, targets)`` and can be iterated again. It is gone over once.
    likelihood : {"categorical", "bernoulli", "poisson"} or Likelihood
        How targets follow from outputs: one of `hoarfrost.likelihood`, or one of your own.
    trainable : callable, optional
        ``(path, value) -> bool | "trainable" | "frozen"``; by default every parameter.
    hessian_structure : {"full", "diag", "auto"}
        The whole covariance, its precision's diagonal alone, or "full" where it fits in memory and
        else "diag" (a warning says so).
    prior_precision : number, tree of numbers or tree of arrays
        Of the Gaussian prior: one for all, one a leaf, or one a parameter.
    prior_mean : number, tree of numbers or tree of arrays
        Of the Gaussian prior, likewise. It enters the evidence; the posterior's mean is `params`.
    keep_curvature : bool or "auto"
        Whether the likelihood's curvature stays beside the factor, so that another prior precision
        needs no other pass over the data; "auto": where both fit. False gives up that of a last
        layer, or of a diagonal. The full one of other parameters is then factored in its own
        memory, half as much, and comes back from the factor when another prior or noise is asked
        for, which takes the other half for as long: the price is one more factorisation, and the
        rounding of the precision, ``P eps |H + T|``.
    memory_budget : int, optional
        Bytes that the posterior may take; by default what the machine has.
    progress : bool
        Whether a progress bar is shown.

    Returns
    -------
    Laplace
        The posterior.

    Raises
    ------
    InvalidArgumentError, SelectionError, ShapeError, NonFiniteError, DataError
        If an argument or the first batch is not usable, before any work; if a later batch is not
        (it is named).
    MemoryLimitError
        If the posterior does not fit, before anything of its size is taken.
    StructureError
        If a later batch lacks the last-layer structure of the first.
    NotPositiveDefiniteError
        If the posterior precision is not positive definite in float64.

    References
    ----------
    MacKay (1992), A practical Bayesian framework for backpropagation networks.
    Daxberger et al. (2021), Laplace redux.

    Examples
    --------
    >>> import jax.numpy as jnp, numpy as np, hoarfrost
    >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], np.float32)
    >>> loader = [(x, np.array([0, 1, 1]))]
    >>> posterior = hoarfrost.fit_laplace(
    ...     lambda params, inputs: inputs @ params["w"], {"w": jnp.zeros((2, 2))}, loader,
    ...     progress=False)
    >>> posterior.num_params, posterior.num_data
    (4, 3)
    """
    network, tree, mutable = as_network(model, params)
    partition = make_partition(tree, trainable)
    posterior = fit_network(
        network,
        tree,
        mutable,
        partition,
        data_loader,
        likelihood=likelihood,
        hessian_structure=hessian_structure,
        prior_precision=prior_precision,
        prior_mean=prior_mean,
        keep_curvature=keep_curvature,
        memory_budget=memory_budget,
        progress=progress,
    )
    # What comes out of `merge` goes where `params` came from, so it holds what `params` held.
    return posterior.with_collections(mutable)


def fit_network(
    network: Network,
    params: Tree,
    mutable: Mapping[str, Tree],
    partition: Partition,
    data_loader: Any,
    *,
    likelihood: str | Likelihood = "categorical",
    hessian_structure: str = "full",
    prior_precision: Any = 1.0,
    prior_mean: Any = 0.0,
    keep_curvature: Keep = "auto",
    memory_budget: int | None = None,
    progress: bool = True,
) -> Laplace:
    """`fit_laplace` for a network, a tree and a partition that exist already."""
    likelihood = resolve(likelihood)
    _check_choices(hessian_structure, keep_curvature)
    check_memory_budget(memory_budget)
    trainable = partition.split(params)[0]
    prior = resolve_prior_precision(prior_precision, trainable)
    centre = resolve_prior_mean(prior_mean, trainable)
    batches = data_batches(data_loader)
    first = next(batches, None)
    if first is None:  # data_batches raises by itself; this is for the reader and the type checker
        raise DataError("data_loader is empty: it gave no data point; give at least one batch")
    linearised = linearise(network, params, mutable, partition, likelihood, first)
    plan = linearised.plan(memory_budget, prior.vector)
    structure, keep = plan.choose(hessian_structure, keep_curvature)
    if hessian_structure == "auto" and structure != "full":
        warnings.warn(
            f"the full covariance of {plan.num_params:,} parameters does not fit in memory: "
            f"hessian_structure='auto' uses {structure!r}\n{plan}",
            UserWarning,
            stacklevel=3,
        )
    curvature = _empty_curvature(linearised, structure)
    total = num_batches(data_loader)
    log_likelihood, num_data, residuals = _accumulate(
        linearised, curvature, itertools.chain([first], batches), first, total, progress
    )
    posterior = Laplace(
        linearised=linearised,
        hessian_structure=structure,
        prior=prior,
        log_likelihood=log_likelihood,
        num_data=num_data,
        kept_factor=None,
        curvature=curvature if keep else None,
        prior_mean=centre,
        residuals=residuals,
        keeps_curvature=keep,
        memory_budget=memory_budget,
    )
    try:
        posterior.kept_factor = _factor(curvature, prior.vector, keep, progress)
    except NotPositiveDefiniteError as error:
        # The pass over the data is not lost: a larger prior precision can still be given.
        if keep:
            error.with_prior_precision = posterior.with_prior_precision
        raise
    return posterior


def plan_laplace(
    model: Any,
    params: Tree,
    inputs: Tree,
    *,
    likelihood: str | Likelihood = "categorical",
    trainable: Selector | None = None,
    memory_budget: int | None = None,
) -> MemoryPlan:
    """The memory that `fit_laplace` would take with the same arguments; ``print`` it.

    Parameters
    ----------
    inputs : array, tree of arrays or InputsLoader
        Some inputs, of which the first batch shows the network's structure.

    Examples
    --------
    >>> import jax.numpy as jnp, numpy as np
    >>> from hoarfrost.laplace import plan_laplace
    >>> plan = plan_laplace(lambda params, x: x @ params["w"], {"w": jnp.zeros((64, 10))},
    ...                     np.ones((3, 64), np.float32))
    >>> plan.num_params, plan.head
    (640, 'softmax')
    """
    network, tree, mutable = as_network(model, params)
    partition = make_partition(tree, trainable)
    return plan_network(
        network,
        tree,
        mutable,
        partition,
        inputs,
        likelihood=likelihood,
        memory_budget=memory_budget,
    )


def plan_network(
    network: Network,
    params: Tree,
    mutable: Mapping[str, Tree],
    partition: Partition,
    inputs: Tree,
    *,
    likelihood: str | Likelihood = "categorical",
    memory_budget: int | None = None,
) -> MemoryPlan:
    """`plan_laplace` for a network, a tree and a partition that exist already."""
    check_memory_budget(memory_budget)
    first = next(input_batches(inputs), None)
    if first is None:
        raise DataError("inputs are empty: give at least one point")
    linearised = linearise(network, params, mutable, partition, resolve(likelihood), first)
    return linearised.plan(memory_budget)


def _accumulate(
    linearised: LinearisedNetwork,
    curvature: Curvature,
    batches: Any,
    first: Batch,
    total: int | None,
    progress: bool,
) -> tuple[float, int, Residuals | None]:
    """Go over the data once: the curvature takes every point.

    Returns the log-likelihood, the number of data, and the residuals under Gaussian noise.
    """
    likelihood, num_outputs = linearised.likelihood, linearised.num_outputs
    run = linearised.fitting_pass()
    size = piece_size(first.size, run.max_points)

    def checked() -> Any:
        for batch in batches:
            if batch is not first:
                likelihood.check_targets(batch.targets, num_outputs, batch.index)
            yield batch

    log_likelihood, num_data, squares = 0.0, 0, np.zeros(num_outputs)
    pieces = None if total is None else total * -(-first.size // size)
    with progress_bar(description="Curvature", total=pieces, enabled=progress, unit="piece") as bar:
        for piece in stream(run, checked(), size, likelihood):
            curvature.add(piece.outputs, piece.block)
            if piece.log_prob is not None:
                log_likelihood += float(np.sum(piece.log_prob, dtype=np.float64))
            if isinstance(likelihood, Gaussian):
                squares += sum_of_squares(piece.outputs, piece.targets)
            num_data += len(piece.outputs)
            bar.update()
        if bar.total is not None and bar.n < bar.total:
            # A last batch that is smaller has fewer pieces than were counted on.
            bar.total = bar.n
            bar.refresh()
    if not isinstance(likelihood, Gaussian):
        return log_likelihood, num_data, None
    residuals = Residuals(num_data, squares, _noise_precision(likelihood, num_outputs))
    # In float64 throughout, whatever the network computes in.
    return residuals.log_likelihood(residuals.noise_precision), num_data, residuals


def _noise_precision(likelihood: Gaussian, num_outputs: int) -> np.ndarray:
    """``1 / std^2`` of each output, shape ``(C,)``."""
    return np.asarray(likelihood.noise_std, dtype=np.float64) ** -2.0 * np.ones(num_outputs)


def _factor(curvature: Curvature, prior: np.ndarray, keep: bool, progress: bool) -> Factor:
    """The factor, with a bar that counts operations where it takes more than a moment."""
    flops = curvature.flops(prior)
    if not progress or flops < _LONG_FACTORISATION:
        return curvature.factor(prior, keep=keep)
    with progress_bar(description="Factorisation", total=100, unit="%") as bar:

        def show(done: float) -> None:
            bar.update(min(100, int(100 * done / flops)) - bar.n)

        return curvature.factor(prior, keep=keep, progress=show)


def _empty_curvature(linearised: LinearisedNetwork, structure: str) -> Curvature:
    layout = None if linearised.head is None else linearised.head.layout
    num_params = linearised.mean.size
    if structure == "diag":
        return DiagonalCurvature.empty(num_params, layout, linearised.likelihood)
    if layout is None:
        return DenseCurvature.empty(num_params)
    if isinstance(linearised.likelihood, Gaussian):
        noise = _noise_precision(linearised.likelihood, linearised.num_outputs)
        return GaussianHeadCurvature.empty(layout, noise)
    return HeadCurvature.empty(layout, linearised.likelihood)


def _check_choices(hessian_structure: Any, keep_curvature: Any) -> None:
    if hessian_structure not in (*STRUCTURES, "auto"):
        raise InvalidArgumentError(
            f"hessian_structure is {hessian_structure!r}; give 'full', 'diag' or 'auto'"
        )
    if not isinstance(keep_curvature, bool) and keep_curvature != "auto":
        raise InvalidArgumentError(
            f"keep_curvature is {keep_curvature!r}; give True, False or 'auto'"
        )
