"""A posterior into a file, from which it comes back without a pass or a factorisation.

The file is described in ``posterior_file.md`` beside this module.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import check_switch
from hoarfrost.freezing import Subset
from hoarfrost.laplace.saved_parts import (
    certificate_header,
    input_header,
    layer_header,
    layers_header,
    likelihood_header,
    probe_outputs,
    program_of,
    written_by,
)
from hoarfrost.laplace.saved_trees import add_leaves, encoded, leaves_by_path, template_of
from hoarfrost.laplace.structure.stored import add_curvature, add_factor
from hoarfrost.storage import Pieces, checked_target, digest, write
from hoarfrost.types import Array, Path, Tree

KIND = "laplace"


def save(posterior: Any, path: Any, frozen: bool, curvature: bool) -> None:
    """Write a posterior, which nothing changes meanwhile; see `Laplace.save`."""
    check_switch("frozen", frozen)
    check_switch("curvature", curvature)
    checked_target(path, KIND)
    arrays = dict[str, Array | Pieces]()
    header = header_of(posterior, frozen, arrays)
    store = posterior.store
    if curvature and store.curvature is not None and not store.factor.holds_curvature:
        with store.turn.lock:
            header["curvature"] = add_curvature(store.curvature, "curvature.", arrays)
            write(path, KIND, header, arrays)
        return
    write(path, KIND, header, arrays)


def header_of(posterior: Any, frozen: bool, arrays: dict[str, Array | Pieces]) -> dict[str, Any]:
    """What the header says of a posterior without its curvature; its arrays are added."""
    linearised, store = posterior.linearised, posterior.store
    subset = linearised.subset
    own = {
        "prior_precision": posterior.prior.vector,
        "prior_mean": posterior.centre,
        "scale": np.asarray(store.scale, np.float64),
    }
    arrays.update(own)
    residuals = posterior.residuals
    if residuals is not None:
        arrays["residuals.squares"] = residuals.squares
        arrays["residuals.noise_precision"] = residuals.noise_precision
    return {
        "structure": posterior.hessian_structure,
        "likelihood": likelihood_header(linearised.likelihood),
        "num_outputs": linearised.num_outputs,
        "positions": list(linearised.positions),
        "ignored_label": linearised.ignored_label,
        "layer": layer_header(linearised.head),
        "layers": layers_header(linearised.layers, arrays),
        **subset_header(subset, linearised.example, frozen, arrays),
        "keeps_collections": bool(posterior.collections),
        "num_data": posterior.num_data,
        "log_likelihood": posterior.log_likelihood,
        "temperature": posterior.temperature,
        "prior": encoded(posterior.prior.value, "prior.", arrays),
        "residuals": None if residuals is None else residuals.num_data,
        "tuning": certificate_header(posterior.tuning, "tuning.", arrays),
        "earlier": None if posterior.earlier is None else dataclasses.asdict(posterior.earlier),
        "held_out": certificate_header(posterior.held_out, "held_out.", arrays),
        "keep": store.keep,
        "factor": add_factor(store.factor, "factor.", arrays),
        "curvature": None,
    }


def subset_header(
    subset: Subset, example: Tree, frozen: bool, arrays: dict[str, Array | Pieces]
) -> dict[str, Any]:
    """What the header says of a network at its parameters, which are added to `arrays`.

    Parameters
    ----------
    example : tree of jax.ShapeDtypeStruct or None
        Shapes and dtypes of one example of the inputs.
    frozen : bool
        Whether the frozen parameters and the other collections are written, too.
    """
    held = subset.network.join(subset.params, subset.mutable)
    chosen = subset.partition.by_path
    leaves = leaves_by_path(held)
    trainable = {path: leaves[path] for path in subset.partition.trainable_paths}
    rest = {path: leaf for path, leaf in leaves.items() if not chosen.get(path)}
    probe = probe_outputs(subset, example)
    if probe is not None:
        arrays["probe"] = probe
    return {
        "input": input_header(example),
        "program": program_of(subset, example),
        "written_by": written_by(),
        "containers": template_of(held),
        "trainable": add_leaves(trainable, "trainable.", arrays),
        "frozen": add_leaves(rest, "frozen.", arrays) if frozen else None,
        "frozen_sha256": frozen_digest(subset),
    }


def frozen_digest(subset: Subset) -> str:
    """A checksum of all that a posterior takes for given: frozen parameters and statistics."""
    held = {("params", *path): leaf for path, leaf in leaves_by_path(subset.frozen).items()}
    held |= {("mutable", *path): leaf for path, leaf in leaves_by_path(subset.mutable).items()}
    numbers = {
        repr(path): np.asarray(leaf)
        for path, leaf in held.items()
        if not _is_random_state(path, leaf)
    }
    return digest(numbers)


def _is_random_state(path: Path, leaf: Any) -> bool:
    """Keys and counters of random draws, which play no part in evaluation."""
    dtype = jnp.result_type(leaf)
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return True
    return path[0] == "mutable" and dtype == jnp.uint32
