"""Fitting the posterior: one pass over the data, then one factorisation."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import jax

from hoarfrost.checks import check_switch, is_choice, is_number, shown
from hoarfrost.data.checked import data_batches, num_batches
from hoarfrost.data.features import as_plain, origin_of
from hoarfrost.devices import choose_devices
from hoarfrost.errors import DataError, InvalidArgumentError, NotPositiveDefiniteError
from hoarfrost.freezing import Selector, Subset
from hoarfrost.freezing.features import over_features
from hoarfrost.laplace.held_out import check_temperature
from hoarfrost.laplace.linearise import linearise
from hoarfrost.laplace.more_data import add_earlier, check_earlier, earlier_at
from hoarfrost.laplace.one_pass import add_points, no_sums, residuals_of
from hoarfrost.laplace.plan import Keep
from hoarfrost.laplace.planning import subset_of
from hoarfrost.laplace.posterior import Laplace
from hoarfrost.laplace.resume import Progress, Resume
from hoarfrost.laplace.resume_folder import locked
from hoarfrost.laplace.store import FactorStore
from hoarfrost.laplace.structure.base import Curvature, Factor, LimitedPrior
from hoarfrost.laplace.structure.registry import check_structure, structure_for
from hoarfrost.likelihood import Likelihood, resolve
from hoarfrost.likelihood.points import check_ignored_label
from hoarfrost.memory import check_memory_budget, memory_errors
from hoarfrost.network import Call
from hoarfrost.prior import resolve_prior_mean, resolve_prior_precision
from hoarfrost.progress import progress_bar
from hoarfrost.types import Array, Tree

# Operations from which on a factorisation takes more than a fraction of a second.
_LONG_FACTORISATION = 1e10


def fit_laplace(
    model: Any,
    params: Tree,
    data_loader: Any,
    *,
    likelihood: str | Likelihood = "categorical",
    trainable: Selector = None,
    hessian_structure: str = "full",
    prior_precision: Any = 1.0,
    prior_mean: Any = 0.0,
    prior: Laplace | None = None,
    temperature: float = 1.0,
    keep_curvature: Keep = "auto",
    memory_budget: int | None = None,
    progress: bool = True,
    resume_dir: Any = None,
    call: Call | None = None,
    ignored_label: int | None = None,
    devices: int | Sequence[jax.Device] | None = None,
) -> Laplace:
    """The Laplace posterior over the trainable parameters of a network trained anywhere.

    Parameters
    ----------
    model : flax.linen.Module, flax.nnx.Module or callable
        A module, or a function ``apply(params, inputs) -> outputs`` of shape ``(B, C)``, or
        ``(B, T, C)`` or ``(B, H, W, C)``: each of the T tokens or H W pixels is a data point then.
        An NNX module is evaluated in evaluation mode and stays as it is.
    params : tree of arrays or None
        For a Linen module its variables, or its "params" alone; for an NNX module None, which
        means its own, or its parameters and statistics (a State or nested dict); for a function
        its parameters. They are taken as the MAP.
    data_loader : DataLoader or iterable
        Gives batches ``(inputs, targets)`` and can be iterated again. It is gone over once. Or the
        result of `hoarfrost.features`, where `trainable` is its layer: nothing else of the network
        is run then.
        Targets have a value for each position of the outputs, ``(B, T)``, or ``(B, T, D)`` for
        numbers. They may be pairs ``(targets, mask)``, with a boolean mask ``(B, T)`` (or ``(B,)``)
        that is False where a data point does not count. A network over tokens may be given batches
        of different lengths.
    likelihood : {"categorical", "bernoulli", "poisson", "gaussian"} or Likelihood
        How targets follow from outputs: one of `hoarfrost.likelihood`, or one of your own.
        "gaussian" has unit noise, which `Laplace.optimize_hyperparameters` can tune.
    trainable : optional
        Which parameters the posterior is over; by default all. "last_layer": the leaves of the
        Dense layer that gives the outputs, found on the first batch by computing, whatever they
        are called. Otherwise a function ``(path, value) -> bool | "trainable" | "frozen"``, a
        compiled regular expression that is searched for in the path joined by "/", a list of names
        of layers or leaves, a tree of bools or of those two words, or an NNX filter
        (`hoarfrost.describe` shows what is chosen).
    hessian_structure : {"full", "dual", "kron", "diag", "auto"}
        "full": the whole covariance, ``P (P + 1) / 2`` numbers. "dual": the same posterior in the
        space of the data, for more parameters than ``M = N C`` outputs: it keeps ``M P`` numbers
        and factors a matrix of edge ``M``. "kron": Kronecker factors of each layer (below). "diag":
        the precision's diagonal alone. "auto": the first of "full", "dual" and "diag" that fits in
        memory (where it is not "full" a warning says so).
    prior_precision : number, tree of numbers or tree of arrays
        Of the Gaussian prior: one for all, one a leaf, or one a parameter.
    prior_mean : number, tree of numbers or tree of arrays
        Of the Gaussian prior, likewise. It enters the evidence; the posterior's mean is `params`.
    prior : Laplace, optional
        An earlier posterior over the same parameters, which is the prior with its full precision
        and mean: for data that come in parts, or tasks one after the other. `params` are the mode
        under it. The evidence is that of the new data given the old. Neither prior nor noise nor
        temperature can be tuned afterwards.
    temperature : float
        The likelihood stands to the power of ``1 / temperature``; 1 for the posterior of the data
        as they are. Also `Laplace.with_temperature` and `Laplace.optimize_on`.
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
    resume_dir : str or path, optional
        A folder in which the sums of the pass are kept every so often, and a factor on its way that
        takes more than a minute, for at most a fiftieth of the time. Killed at any moment and
        called again with the same arguments, the fit goes on there and comes to the same bits.
        When it is whole the files go.
    call : callable, optional
        ``call(module, inputs)``, done with a module instead of calling it: for another method, or
        further arguments. Of Linen it is given the module with its variables. It is told whether
        the module trains (here it does not) by whichever of ``train``, ``training``,
        ``deterministic`` and ``use_running_average`` it names; if it names ``rngs``, NNX gives it
        keys in training. The same function object means the same compiled programs.
    ignored_label : int, optional
        Of classes: data points with this label do not count (often -100), neither here nor in
        `Laplace.log_prob`.
    devices : int or sequence of jax.Device, optional
        Where the network runs, here and in predictions: -1 for all local devices, 0 for the CPU, n
        for the first n, or these. Each has the parameters and its share of the points; the linear
        algebra is the CPU's. By default where the parameters are, or where JAX puts them.

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

    Notes
    -----
    "kron" is ``(1/N sum_n B_n) (x) (sum_n a_n a_n^T)`` for each layer, its bias inside ``a``, with
    ``B_n = G_n^T Lambda_n G_n``; layers do not covary. It is exact for the curvature of the
    likelihood while that has up to 64 columns; of more, as in a hidden layer of a network with
    hundreds of classes, 64 sums of them under random signs are taken, which have the right mean,
    always the same. A last layer is exact at any number of classes. Layers are found in a trace of
    the network: Dense layers, and convolutions and layers that positions of an example share, of
    which the mean of the inputs and the sum of the gradients are taken (the "reduce" rule). All
    other leaves (embeddings, scales, what is added elsewhere) have the diagonal. A prior precision
    is one number a leaf, or any product of one an output and one an input of a layer. A prior of
    the form that there was, or a multiple of it, costs no more than a pass over the parameters.

    References
    ----------
    MacKay (1992), A practical Bayesian framework for backpropagation networks.
    Martens and Grosse (2015), Optimizing neural networks with Kronecker-factored approximate
    curvature; Eschenhagen et al. (2023), Kronecker-factored approximate curvature for modern neural
    network architectures.
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
    with memory_errors("fit_laplace"), locked(resume_dir):
        origin = origin_of(data_loader)
        subset = subset_of(
            model,
            params,
            trainable,
            lambda: next(data_batches(data_loader, masks=True)),
            call,
            choose_devices(devices),
            origin,
        )
        posterior = fit_network(
            subset,
            data_loader,
            likelihood=likelihood,
            hessian_structure=hessian_structure,
            prior_precision=prior_precision,
            prior_mean=prior_mean,
            prior=prior,
            temperature=temperature,
            keep_curvature=keep_curvature,
            memory_budget=memory_budget,
            progress=progress,
            resume_dir=resume_dir,
            ignored_label=ignored_label,
        )
    # What comes out of `merge` goes where `params` came from, so it holds what `params` held.
    return posterior.with_collections(subset.mutable)


def fit_network(
    subset: Subset,
    data_loader: Any,
    *,
    likelihood: str | Likelihood = "categorical",
    hessian_structure: str = "full",
    prior_precision: Any = 1.0,
    prior_mean: Any = 0.0,
    prior: Laplace | None = None,
    temperature: float = 1.0,
    keep_curvature: Keep = "auto",
    memory_budget: int | None = None,
    progress: bool = True,
    resume_dir: Any = None,
    ignored_label: int | None = None,
) -> Laplace:
    """`fit_laplace` for a subset that exists already."""
    likelihood = resolve(likelihood)
    check_switch("progress", progress)
    _check_choices(hessian_structure, keep_curvature)
    check_memory_budget(memory_budget)
    temperature = check_temperature(temperature)
    ignored_label = check_ignored_label(ignored_label, likelihood)
    precision = resolve_prior_precision(prior_precision, subset.trainable)
    centre = resolve_prior_mean(prior_mean, subset.trainable)
    if prior is not None:
        plain_prior = is_number(prior_precision) and float(prior_precision) == 1.0
        if not plain_prior or not is_number(prior_mean) or float(prior_mean) != 0.0:
            raise InvalidArgumentError(
                "prior_precision and prior_mean are those of the posterior that is given as prior; "
                "leave them out"
            )
        hessian_structure = check_earlier(prior, subset, hessian_structure)
        # As it stands: another thread may change it while the data are gone over.
        prior = prior.now()
        precision, centre = prior.prior, prior.mean
    whole, origin = subset, origin_of(data_loader)
    if origin is not None:
        subset, data_loader = over_features(whole, origin, "data_loader"), as_plain(data_loader)
    batches = data_batches(data_loader, one_shape=False, masks=True)
    first = next(batches, None)
    if first is None:  # data_batches raises by itself; this is for the reader and the type checker
        raise DataError("data_loader is empty: it gave no data point; give at least one batch")
    linearised = linearise(subset, likelihood, first, ignored_label)
    if hessian_structure == "kron":
        linearised = linearised.by_layers()
    count = num_batches(data_loader)
    plan = linearised.plan(memory_budget, first.size, precision.vector, count)
    structure, keep = plan.choose(hessian_structure, keep_curvature)
    if hessian_structure == "auto" and structure != "full":
        warnings.warn(
            f"the full covariance of {plan.num_params:,} parameters does not fit in memory: "
            f"hessian_structure='auto' uses {structure!r}\n{plan}",
            UserWarning,
            stacklevel=3,
        )
    setting = linearised.setting(precision.vector)
    resume, so_far = None, None
    if resume_dir is not None:
        resume = Resume(resume_dir, linearised, structure, setting, first, prior, temperature)
        so_far = resume.so_far()
    if so_far is None:
        empty = structure_for(structure, setting).empty(setting)
        so_far = Progress(empty, no_sums(linearised), 0, False)
    curvature, sums = so_far.curvature, so_far.sums
    if isinstance(curvature, LimitedPrior):
        curvature.check_prior(precision.vector)
    batches = itertools.chain([first], batches)
    if resume is not None:
        batches = resume.watch(batches)
    if so_far.complete:
        for _ in batches:  # looked at, and no more
            pass
    else:
        sums = add_points(
            linearised,
            curvature,
            next(batches),
            batches,
            num_batches(data_loader),
            progress,
            sums,
            skip=so_far.pieces,
            after=None if resume is None else resume.after(curvature),
        )
        if prior is not None:
            add_earlier(prior, curvature, temperature)
        if resume is not None:
            resume.complete(curvature, sums, precision.vector)
    residuals = residuals_of(likelihood, sums)
    if origin is not None:
        # What it is asked about are inputs of the whole network.
        linearised = linearised.of_whole(whole.network, origin)
    posterior = Laplace(
        linearised=linearised,
        hessian_structure=structure,
        prior=precision,
        # In float64 throughout, whatever the network computes in.
        log_likelihood=sums.log_likelihood
        if residuals is None
        else residuals.log_likelihood(residuals.noise_precision),
        num_data=sums.num_data,
        store=FactorStore(
            curvature if keep else None, keep, memory_budget, precision.vector, 1 / temperature
        ),
        temperature=temperature,
        centre=centre,
        residuals=residuals,
        earlier=None if prior is None else earlier_at(prior, linearised.mean),
    )
    try:
        posterior.store.held = _factor(
            curvature, precision.vector, 1 / temperature, keep, progress, resume
        )
    except NotPositiveDefiniteError as error:
        # The pass over the data is not lost: a larger prior precision can still be given.
        if keep:
            error.with_prior_precision = posterior.with_prior_precision
        raise
    return posterior


def _factor(
    curvature: Curvature,
    prior: Array,
    scale: float,
    keep: bool,
    progress: bool,
    resume: Resume | None,
) -> Factor:
    """The factor, with a bar that counts operations where it takes more than a moment."""
    flops = curvature.flops(prior)
    with contextlib.ExitStack() as stack:
        show = None
        if progress and flops >= _LONG_FACTORISATION:
            bar = stack.enter_context(
                progress_bar(description="Factorisation", total=100, unit="%")
            )

            def show(done: float) -> None:
                bar.update(min(100, int(100 * done / flops)) - bar.n)

        if resume is not None:
            factor = resume.factor(curvature, prior, scale, keep, show)
            resume.done()
            return factor
        return curvature.factor(prior, scale=scale, keep=keep, progress=show)


def _check_choices(hessian_structure: Any, keep_curvature: Any) -> None:
    check_structure(hessian_structure)
    if not isinstance(keep_curvature, bool) and not is_choice(keep_curvature, ("auto",)):
        raise InvalidArgumentError(
            f"keep_curvature is {shown(keep_curvature)}; give True, False or 'auto'"
        )
