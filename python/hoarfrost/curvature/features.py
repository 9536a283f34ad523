"""Features: what a user calls to run the frozen part of a network once."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from typing import Any

from hoarfrost.checks import check_switch
from hoarfrost.curvature.feature_pass import FeaturePass, feature_pass, point_of
from hoarfrost.curvature.feature_store import (
    Digest,
    as_loader,
    in_memory,
    on_disk,
    points_at_once,
)
from hoarfrost.curvature.last_layer import last_layer
from hoarfrost.data import DataLoader
from hoarfrost.data.accepted import as_data_loader
from hoarfrost.data.checked import CheckedBatch, data_batches
from hoarfrost.data.features import FeatureLoader
from hoarfrost.data.shards import ShardFolder, folder_at
from hoarfrost.errors import InvalidArgumentError, SavedFileError, SelectionError
from hoarfrost.freezing import Partition, Selector, Subset, make_partition
from hoarfrost.freezing.features import fingerprint_of, layer_partition
from hoarfrost.memory import memory_errors
from hoarfrost.network import Call, as_network, param_kinds
from hoarfrost.network.dense import DenseLayer, Origin
from hoarfrost.types import Tree, join

# Of what is in a folder.
VERSION = 1

_OTHER_NETWORK = (
    "another network, under other frozen parameters, or by another version of JAX or Flax"
)


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
        A folder for them, empty or made by an earlier call like this one; by default they stay in
        memory. There they are shards in the safetensors format, each written whole, mapped when
        they are used, and compared with their checksums. A call that was interrupted, even
        killed, goes on with the shards that lack when it is made again, to the same bits; several
        processes may do so at once. With all shards there the network is not run.
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
        If an argument or a batch cannot be used (the batch is named); if `path` holds something
        else, or features of another network, layer or data: nothing is written then. Of a finished
        folder the first batch and the number of points are compared, else each shard's data.
    SavedFileError
        If a file of the folder is damaged (it is named), or cannot be written.
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
    place, header = (None, None) if path is None else folder_at(path)
    if header is not None:
        _check_version(place, header)
    network, tree, mutable = as_network(model, params, call)
    batches = data_batches(loader, argument="loader", masks=True)
    first = next(batches)

    def found() -> Partition:
        if header is not None:
            return layer_partition(tree, DenseLayer(**header["layer"]), "path")
        return last_layer(network, tree, mutable, first.inputs)

    partition = make_partition(tree, trainable, kinds=param_kinds(network), head=found)
    subset = Subset(network, partition, tree, mutable)
    with memory_errors("features"):
        known = None
        if place is not None and header is not None:
            known = _finished(subset, ShardFolder(place, header), loader, first)
        if known is not None:
            return known
        run = feature_pass(subset, first)
        if run is None:
            raise not_a_layer(subset)
        again = itertools.chain([first], batches)
        if place is None:
            return in_memory(run, loader, first, again, progress=progress)
        folder = ShardFolder(place, _header(run, first))
        if header is not None:
            _check_header(folder, header)
        return on_disk(run, folder, loader, again, progress=progress)


def _header(run: FeaturePass, first: CheckedBatch) -> dict[str, Any]:
    """What tells a folder of these features from that of others."""
    return {
        "version": VERSION,
        "fingerprint": run.origin.fingerprint,
        "layer": asdict(run.origin.layer),
        "names": list(run.origin.names),
        "positions": list(run.positions),
        "offset": run.has_offset,
        "points": points_at_once(run, first.size),
        "first_batch": _digest_of(first),
    }


def _digest_of(first: CheckedBatch) -> str:
    found = Digest()
    found.add(first)
    return found.hexdigest()


def _check_header(folder: ShardFolder, header: dict[str, Any]) -> None:
    """Raise unless a folder's manifest has the header that these features would give it."""
    for name, what in (("fingerprint", _OTHER_NETWORK), ("first_batch", "other data")):
        if header.get(name) != folder.header[name]:
            raise _of_others(folder.path, what)
    if header != folder.header:
        raise _of_others(folder.path, "another layer or in other pieces")


def _check_version(place: Any, header: dict[str, Any]) -> None:
    version = header.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise SavedFileError(
            f"{place} holds features of version {version}, and this Hoarfrost reads versions up to "
            f"{VERSION}; install a newer one, or give another folder"
        )


def _of_others(place: Any, what: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"path {str(place)!r} holds features of {what}; nothing was written, give another folder"
    )


def _finished(
    subset: Subset, folder: ShardFolder, loader: DataLoader, first: CheckedBatch
) -> FeatureLoader | None:
    """The features of a folder that is whole; the network is looked at, and not run."""
    header = folder.header
    layer, point = DenseLayer(**header["layer"]), point_of(first.inputs)
    if subset.partition.mask != layer.mask:
        raise _of_others(folder.path, f"another layer ({', '.join(header['names'])})")
    if fingerprint_of(subset, point) != header["fingerprint"]:
        raise _of_others(folder.path, _OTHER_NETWORK)
    if _digest_of(first) != header["first_batch"]:
        raise _of_others(folder.path, "other data, or in batches of another size")
    found = folder.finished()
    if found is None:
        return None
    points, sizes = found
    known = loader._batches.sizes
    if known is not None and tuple(known) != tuple(sizes):
        raise _of_others(folder.path, f"{sum(sizes)} points, not {sum(known)}")
    names = tuple(map(join, subset.partition.trainable_paths))
    origin = Origin(layer, names, header["fingerprint"], point)
    return as_loader(origin, loader, dict(folder.columns(points)), sizes)


def not_a_layer(subset: Subset) -> SelectionError:
    """That the trainable leaves have no layer's inputs."""
    own = ", ".join(map(join, subset.partition.trainable_paths[:4]))
    more = ", ..." if len(subset.partition.trainable_paths) > 4 else ""
    return SelectionError(
        f"trainable chooses {own}{more}, which are not the kernel and bias of a plain Dense layer "
        "that gives the outputs: there are no features that do not depend on them; give "
        "trainable='last_layer'"
    )
