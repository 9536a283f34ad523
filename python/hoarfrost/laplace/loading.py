"""A posterior from a file that `Laplace.save` wrote."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import check_switch
from hoarfrost.devices import Devices, choose_devices
from hoarfrost.errors import InvalidArgumentError, SavedFileError
from hoarfrost.freezing import Subset, make_partition
from hoarfrost.laplace.evidence.evidence import Earlier
from hoarfrost.laplace.evidence.noise import Residuals
from hoarfrost.laplace.evidence.tuning import Tuning
from hoarfrost.laplace.evidence.validation import HeldOut
from hoarfrost.laplace.linearised import LinearisedNetwork
from hoarfrost.laplace.posterior import Laplace
from hoarfrost.laplace.saved_parts import (
    certificate_of,
    check_model,
    example_of,
    layer_of,
    layers_of,
    likelihood_of,
)
from hoarfrost.laplace.saved_trees import decoded, leaves_by_path, leaves_of, tree_of
from hoarfrost.laplace.saving import KIND, frozen_digest
from hoarfrost.laplace.store import FactorStore
from hoarfrost.laplace.structure.stored import curvature_of, factor_of
from hoarfrost.likelihood import Likelihood
from hoarfrost.memory import check_memory_budget, memory_errors
from hoarfrost.network import Call, Network, as_network
from hoarfrost.prior import PriorPrecision
from hoarfrost.storage import StoredFile, opened
from hoarfrost.types import Array, Path, Tree, join, path_of

# (model, variables, call) -> network, parameters, collections.
Resolve = Callable[[Any, Tree, Call | None], tuple[Network, Tree, Tree]]


def load_laplace(
    path: Any,
    *,
    model: Any,
    params: Tree = None,
    call: Call | None = None,
    likelihood: str | Likelihood | None = None,
    memory_budget: int | None = None,
    verify: bool | None = None,
    devices: int | Sequence[jax.Device] | None = None,
) -> Laplace:
    """The posterior of a file that `Laplace.save` wrote, with the same bits in every answer.

    The file is mapped, not read: what is large in it comes into memory as it is used, so that a
    posterior of any size is there at once. The file must not be changed in place meanwhile (to
    write or move another one over it is harmless).

    Parameters
    ----------
    path : str or path
        The file.
    model : flax.linen.Module, flax.nnx.Module or callable
        The model that the posterior was fitted to: its code is not in the file.
    params : tree of arrays, optional
        As in `fit_laplace`, where the file lacks the frozen parameters (``frozen=False``), or their
        containers are neither dict, list nor tuple. The trainable leaves are those of the file.
    call : callable, optional
        As in `fit_laplace`, if it was given there.
    likelihood : Likelihood, optional
        That of the fit, where it is one of your own.
    memory_budget : int, optional
        Bytes that the posterior may take; by default what the machine has.
    verify : bool, optional
        Whether all numbers are compared with the file's checksums, which reads it once; by default
        of files of up to 1 GiB. The header and small arrays are compared always.
    devices : int or sequence of jax.Device, optional
        Where the network runs, as in `fit_laplace`; the file says nothing of that.

    Returns
    -------
    Laplace
        The posterior.

    Raises
    ------
    SavedFileError
        If there is no such file; it is damaged, of a newer version or no posterior; or it belongs
        to another model or other frozen parameters.
    InvalidArgumentError
        If an argument cannot be used, or `params` or `likelihood` is needed.

    Examples
    --------
    >>> import hoarfrost, jax.numpy as jnp, numpy as np, pathlib, tempfile
    >>> apply = lambda params, x: x @ params["w"]
    >>> loader = [(np.eye(2, dtype=np.float32), np.array([0, 1]))]
    >>> posterior = hoarfrost.fit_laplace(apply, {"w": jnp.zeros((2, 2))}, loader, progress=False)
    >>> path = pathlib.Path(tempfile.mkdtemp(), "posterior.safetensors")
    >>> posterior.save(path)
    >>> again = hoarfrost.load_laplace(path, model=apply)
    >>> again.log_marginal_likelihood() == posterior.log_marginal_likelihood()
    True
    """
    check_memory_budget(memory_budget)
    chosen = choose_devices(devices)
    if verify is not None:
        check_switch("verify", verify)
    with opened(path, KIND, verify=verify) as stored, memory_errors("load_laplace"):
        try:
            return posterior_of(stored, model, params, call, likelihood, memory_budget, chosen)
        except (KeyError, IndexError, TypeError, AttributeError, StopIteration) as error:
            raise SavedFileError(
                f"{stored.path} lacks what a posterior needs ({error!r}); write it again"
            ) from error


def posterior_of(
    stored: StoredFile,
    model: Any,
    params: Tree,
    call: Call | None,
    likelihood: Any,
    memory_budget: int | None,
    devices: Devices,
    resolve: Resolve = as_network,
) -> Laplace:
    """The posterior of an open file; `resolve` is as in `subset_of_file`."""
    header = stored.header
    subset = subset_of_file(stored, model, params, call, resolve)
    subset = replace(subset, devices=devices).placed()
    example = example_of(header["input"])
    check_model(stored, subset, example)
    positions = tuple(header["positions"])
    linearised = LinearisedNetwork(
        subset,
        likelihood_of(header["likelihood"], likelihood),
        header["num_outputs"],
        layer_of(header["layer"], subset, positions),
        None if example is None else jax.tree.structure(example),
        positions,
        header["ignored_label"],
        example,
        layers_of(header["layers"], stored),
    )
    structure, prior = header["structure"], stored.array("prior_precision").copy()
    setting, keep = linearised.setting(prior), header["keep"]
    curvature = None
    if header["curvature"] is not None:
        curvature = curvature_of(structure, setting, header["curvature"], "curvature.", stored)
    scale: Any = stored.array("scale").copy()
    scale = float(scale) if scale.ndim == 0 else scale
    factor = factor_of(setting.order(), header["factor"], "factor.", stored)
    if keep and factor.holds_curvature:
        curvature = factor.curvature(prior, memory_budget)
    residuals = None
    if header["residuals"] is not None:
        sums = [stored.array(f"residuals.{name}").copy() for name in ("squares", "noise_precision")]
        residuals = Residuals(header["residuals"], *sums)
    return Laplace(
        linearised=linearised,
        hessian_structure=structure,
        prior=PriorPrecision(decoded(header["prior"], subset.trainable, stored), prior),
        log_likelihood=header["log_likelihood"],
        num_data=header["num_data"],
        store=FactorStore(
            curvature, keep and curvature is not None, memory_budget, prior, scale, factor
        ),
        centre=stored.array("prior_mean").copy(),
        residuals=residuals,
        collections=subset.mutable if header["keeps_collections"] else {},
        tuning=certificate_of(Tuning, header["tuning"], subset.trainable, stored),
        temperature=header["temperature"],
        earlier=None if header["earlier"] is None else Earlier(**header["earlier"]),
        held_out=certificate_of(HeldOut, header["held_out"], subset.trainable, stored),
    )


def subset_of_file(
    stored: StoredFile,
    model: Any,
    params: Tree,
    call: Call | None,
    resolve: Resolve = as_network,
) -> Subset:
    """The model at the parameters of the file, or with the frozen ones of a user.

    `resolve` makes a network of the model, with parameters and collections.
    """
    header = stored.header
    trainable = leaves_of(header["trainable"], stored)
    wide = [path for path, leaf in trainable.items() if jnp.result_type(leaf) != leaf.dtype]
    if wide:
        raise SavedFileError(
            f"{stored.path} has parameters of {trainable[wide[0]].dtype} ({join(wide[0])!r}), "
            "which JAX narrows without jax_enable_x64; set it"
        )
    given = params if params is not None else _held_tree(stored, trainable)
    network, tree, mutable = resolve(model, given, call)
    paths = leaves_by_path(tree)
    for path, leaf in trainable.items():
        if path not in paths or np.shape(paths[path]) != leaf.shape:
            own = f"shape {np.shape(paths[path])} there" if path in paths else "nothing there"
            raise SavedFileError(
                f"{stored.path} belongs to another model: its trainable parameter {join(path)!r} "
                f"has shape {leaf.shape}, and this model has {own}"
            )
    partition = make_partition(tree, lambda path, _: path in trainable)
    frozen = partition.split(tree)[1]
    leaves, treedef = jax.tree_util.tree_flatten_with_path(partition.split(tree)[0])
    values = [jnp.asarray(np.asarray(trainable[path_of(key)])) for key, _ in leaves]
    merged = partition.merge(jax.tree.unflatten(treedef, values), frozen)
    merged, mutable = jax.tree.map(_on_device, (merged, mutable))
    subset = Subset(network, partition, merged, mutable)
    if frozen_digest(subset) != header["frozen_sha256"]:
        whose = "of this model" if params is None else "given as params"
        raise SavedFileError(
            f"{stored.path} belongs to other frozen parameters or statistics than those {whose}: "
            "their checksum differs; give those that the posterior was fitted with"
        )
    return subset


def _held_tree(stored: StoredFile, trainable: dict[Path, Array]) -> Tree:
    header = stored.header
    if header["frozen"] is None:
        missing = "it was written with frozen=False"
    elif header["containers"] is None:
        missing = "its parameters are in containers that a file cannot describe"
    else:
        leaves = trainable | leaves_of(header["frozen"], stored)
        places = leaves_by_path(tree_of(header["containers"], itertools.repeat(0)))
        return tree_of(header["containers"], [leaves[path] for path in places])
    raise InvalidArgumentError(
        f"params is needed to load {stored.path}: {missing}; give the parameters that the "
        "posterior was fitted with"
    )


def _on_device(leaf: Any) -> jax.Array:
    if isinstance(leaf, np.ma.MaskedArray):
        if np.ma.getmaskarray(leaf).any():
            raise InvalidArgumentError("params has masked entries; give a number for each")
        leaf = leaf.data
    return jnp.asarray(leaf)
