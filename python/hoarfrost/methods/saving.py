"""A posterior by its draws into a file, and from there again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax

from hoarfrost.checks import check_switch
from hoarfrost.devices import choose_devices
from hoarfrost.errors import InvalidArgumentError, SavedFileError
from hoarfrost.freezing import Subset
from hoarfrost.laplace.loading import subset_of_file
from hoarfrost.laplace.saved_parts import (
    check_model,
    example_of,
    likelihood_header,
    likelihood_of,
)
from hoarfrost.laplace.saving import subset_header
from hoarfrost.likelihood import Likelihood
from hoarfrost.memory import memory_errors
from hoarfrost.methods.draws import Distribution, Draws, GaussianDraws, Listed
from hoarfrost.methods.posterior import WeightPosterior
from hoarfrost.methods.restate import Restated
from hoarfrost.network import Call
from hoarfrost.storage import Pieces, StoredFile, checked_target, opened, write
from hoarfrost.types import Array, Tree

KIND = "weights"


def save(posterior: WeightPosterior, path: Any, frozen: Any) -> None:
    """Write a posterior; see `WeightPosterior.save`."""
    check_switch("frozen", frozen)
    checked_target(path, KIND)
    arrays: dict[str, Array | Pieces] = {}
    status = {name: _plain(value, name, arrays) for name, value in posterior.status.items()}
    header = {
        "method": posterior.method,
        "likelihood": likelihood_header(posterior.likelihood),
        "num_data": posterior.num_data,
        "ignored_label": posterior.ignored_label,
        "moving": list(posterior.moving),
        "distribution": _add(posterior, arrays),
        "status": status,
        **subset_header(posterior.subset, posterior.example, frozen, arrays),
    }
    write(path, KIND, header, arrays)


def load_posterior(
    path: Any,
    *,
    model: Any,
    params: Tree = None,
    call: Call | None = None,
    likelihood: str | Likelihood | None = None,
    verify: bool | None = None,
    devices: int | Sequence[jax.Device] | None = None,
) -> WeightPosterior:
    """The posterior of a file that `WeightPosterior.save` wrote, with the same bits in its answers.

    The file is mapped, not read, and must not be changed in place meanwhile.

    Parameters
    ----------
    path : str or path
        The file.
    model, params, call, likelihood, verify, devices
        As in `hoarfrost.load_laplace`.

    Returns
    -------
    WeightPosterior
        The posterior. One of SWAG over layers with statistics (BatchNorm) has for all draws those
        of the mean: it finds each draw's own by the data, which are not in the file.

    Raises
    ------
    SavedFileError
        If there is no such file; it is damaged, of a newer version or no posterior of this kind; or
        it belongs to another model or other frozen parameters.
    InvalidArgumentError
        If an argument cannot be used, or `params` or `likelihood` is needed.
    """
    chosen = choose_devices(devices)
    if verify is not None:
        check_switch("verify", verify)
    with opened(path, KIND, verify=verify) as stored, memory_errors("load_posterior"):
        try:
            header = stored.header
            subset = replace(subset_of_file(stored, model, params, call), devices=chosen).placed()
            example = example_of(header["input"])
            check_model(stored, subset, example)
            return WeightPosterior(
                method=header["method"],
                subset=subset,
                likelihood=likelihood_of(header["likelihood"], likelihood),
                distribution=_distribution(header["distribution"], subset, stored),
                num_data=header["num_data"],
                ignored_label=header["ignored_label"],
                moving=tuple(header["moving"]),
                example=example,
                status={name: _read(value, stored) for name, value in header["status"].items()},
            )
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise SavedFileError(
                f"{stored.path} lacks what a posterior needs ({error!r}); write it again"
            ) from error


def _add(posterior: WeightPosterior, arrays: dict[str, Array | Pieces]) -> dict[str, Any]:
    """What the header says of a distribution, whose arrays are added."""
    distribution = posterior.distribution
    if isinstance(distribution, Restated):
        distribution = distribution.inner
    if isinstance(distribution, Listed):
        draws = distribution.draws
        parts = {"draws": draws.trainable, "statistics": draws.statistics}
        kind = "listed"
    elif isinstance(distribution, GaussianDraws):
        parts = {name: getattr(distribution, name) for name in ("mean", "std", "deviations")}
        kind = "gaussian"
    else:
        raise InvalidArgumentError(
            f"the posterior of {posterior.method} is a Laplace posterior of the output weights; "
            "write that: posterior.distribution.laplace.save(path), which "
            "hoarfrost.load_laplace reads"
        )
    counts = {}
    for name, tree in parts.items():
        leaves = jax.device_get(jax.tree.leaves(tree))
        counts[name] = len(leaves)
        arrays.update({f"{name}.{place}": leaf for place, leaf in enumerate(leaves)})
    return {"kind": kind, "parts": counts}


def _distribution(header: dict[str, Any], subset: Subset, stored: StoredFile) -> Distribution:
    counts = header["parts"]

    def leaves(name: str) -> list[Array]:
        return [stored.array(f"{name}.{place}") for place in range(counts[name])]

    def tree(name: str) -> Tree:
        own: Any = jax.tree.structure(subset.trainable)
        if counts[name] != own.num_leaves:
            raise SavedFileError(f"{stored.path} is damaged: {name} has {counts[name]} leaves")
        return jax.tree.unflatten(own, leaves(name))

    if header["kind"] == "listed":
        return Listed(Draws(tree("draws"), tuple(leaves("statistics"))))
    deviations = tree("deviations") if counts["deviations"] else None
    return GaussianDraws(tree("mean"), tree("std"), deviations)


def _plain(value: Any, name: str, arrays: dict[str, Array | Pieces]) -> Any:
    """A recorded value in JSON; an array beside it."""
    if not hasattr(value, "shape"):
        return value
    arrays[f"status.{name}"] = value
    return {"array": f"status.{name}"}


def _read(value: Any, stored: StoredFile) -> Any:
    return stored.array(value["array"]).copy() if isinstance(value, dict) else value
