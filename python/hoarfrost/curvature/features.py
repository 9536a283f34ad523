"""Features: what a user calls to run the frozen part of a network once."""

from __future__ import annotations

import itertools
from typing import Any

from hoarfrost.checks import check_switch
from hoarfrost.curvature.feature_pass import feature_pass
from hoarfrost.curvature.feature_store import in_memory
from hoarfrost.curvature.last_layer import last_layer
from hoarfrost.data import DataLoader
from hoarfrost.data.accepted import as_data_loader
from hoarfrost.data.checked import CheckedBatch, data_batches
from hoarfrost.data.features import FeatureLoader
from hoarfrost.errors import SelectionError
from hoarfrost.freezing import Partition, Selector, Subset, make_partition
from hoarfrost.memory import memory_errors
from hoarfrost.network import Call, as_network, param_kinds
from hoarfrost.types import Tree, join


def features(
    model: Any,
    params: Tree,
    loader: Any,
    trainable: Selector = "last_layer",
    path: Any = None,
    *,
    call: Call | None = None,
    progress: bool = True,
) -> FeatureLoader:
    """The inputs of a network's last layer at every point: its frozen part is run once.

    What is trained or fitted over that layer alone takes the result in the place of the data, with
    the same numbers to rounding and no pass through the network: `fit_laplace`,
    `Laplace.log_prob`, `Laplace.optimize_on`, predictions (``to_inputs_loader()``), and MAP
    training where the frozen part does not behave otherwise in training (no dropout in it). They
    compare a fingerprint of the network and its frozen parameters with their own.

    Parameters
    ----------
    model, params, call
        As for `hoarfrost.fit_laplace`. The parameters of the layer itself play no part: features
        stay true while it is trained.
    loader : DataLoader or iterable
        Gives batches ``(inputs, targets)``; it is gone over once, in the order given. A loader of
        arrays has its batch size and its shuffled orders again in the result.
    trainable : optional
        The leaves of the layer, in any form that `hoarfrost.fit_laplace` takes. By default the
        last layer is found by computing.
    path : str or Path, optional
        By default features stay in memory.
    progress : bool
        Whether a progress bar is shown.

    Returns
    -------
    FeatureLoader
        Batches ``(features, targets)``, features ``(B, D)``, or ``(B, T, D)`` where outputs have
        positions; float32 (float64 from parameters in float64), as the network computes them in
        evaluation mode.

    Raises
    ------
    SelectionError
        If the trainable leaves are not those of a plain last Dense layer.
    InvalidArgumentError, ShapeError, NonFiniteError, DataError
        If an argument or a batch cannot be used (the batch is named).
    MixedPointsError
        If the outputs for a point depend on the others of its batch.
    StructureError
        If a later batch lacks the structure of the first.
    MemoryLimitError
        If the features do not fit in memory; give `path`.

    Examples
    --------
    >>> import jax.numpy as jnp, numpy as np, hoarfrost
    >>> def apply(params, x):
    ...     return jnp.tanh(x @ params["hidden"]) @ params["head"]
    >>> params = {"head": jnp.ones((3, 2)), "hidden": jnp.ones((4, 3))}
    >>> data = [(np.ones((5, 4), np.float32), np.array([0, 1, 1, 0, 1]))]
    >>> store = hoarfrost.features(apply, params, data, progress=False)
    >>> store.input_shape, store.layer_names
    ((3,), ('head',))
    >>> posterior = hoarfrost.fit_laplace(
    ...     apply, params, store, trainable="last_layer", progress=False)
    >>> posterior.num_params
    6
    """
    check_switch("progress", progress)
    loader = as_data_loader(loader, "loader")
    network, tree, mutable = as_network(model, params, call)
    batches = data_batches(loader, argument="loader", masks=True)
    first = next(batches)

    def found() -> Partition:
        return last_layer(network, tree, mutable, first.inputs)

    partition = make_partition(tree, trainable, kinds=param_kinds(network), head=found)
    subset = Subset(network, partition, tree, mutable)
    with memory_errors("features"):
        return stored(subset, loader, first, itertools.chain([first], batches), progress=progress)


def stored(
    subset: Subset, loader: DataLoader, first: CheckedBatch, batches: Any, *, progress: bool
) -> FeatureLoader:
    """`features` for a subset that exists already."""
    run = feature_pass(subset, first)
    if run is None:
        raise not_a_layer(subset)
    return in_memory(run, loader, first, batches, progress=progress)


def not_a_layer(subset: Subset) -> SelectionError:
    """That the trainable leaves have no layer's inputs."""
    own = ", ".join(map(join, subset.partition.trainable_paths[:4]))
    more = ", ..." if len(subset.partition.trainable_paths) > 4 else ""
    return SelectionError(
        f"trainable chooses {own}{more}, which are not the kernel and bias of a plain Dense layer "
        "that gives the outputs: there are no features that do not depend on them; give "
        "trainable='last_layer'"
    )
