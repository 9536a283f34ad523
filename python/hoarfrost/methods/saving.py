"""A posterior by its draws into a file, and from there again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax

from hoarfrost.checks import check_switch
from hoarfrost.devices import choose_devices
from hoarfrost.errors import SavedFileError
from hoarfrost.freezing import Subset
from hoarfrost.laplace import Laplace
from hoarfrost.laplace.loading import posterior_of, subset_of_file
from hoarfrost.laplace.saved_parts import (
    check_model,
    example_of,
    likelihood_header,
    likelihood_of,
)
from hoarfrost.laplace.saving import header_of, subset_header
from hoarfrost.likelihood import Likelihood
from hoarfrost.memory import memory_errors
from hoarfrost.methods.draws import Distribution, Draws, GaussianDraws, Listed
from hoarfrost.methods.laplace_draws import LaplaceDraws
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
    header: dict[str, Any] = {
        "method": posterior.method,
        "moving": list(posterior.moving),
        "status": status,
    }
    distribution = posterior.distribution
    if isinstance(distribution, LaplaceDraws):
        header["distribution"] = {"kind": "laplace", "factor": distribution.factor}
        header |= header_of(distribution.laplace, frozen, arrays)
    else:
        header |= {
            "likelihood": likelihood_header(posterior.likelihood),
            "num_data": posterior.num_data,
            "ignored_label": posterior.ignored_label,
            "distribution": _add(distribution, arrays),
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
            own = {
                "method": header["method"],
                "moving": tuple(header["moving"]),
                "status": {name: _read(value, stored) for name, value in header["status"].items()},
            }
            if header["distribution"]["kind"] == "laplace":
                laplace = posterior_of(stored, model, params, call, likelihood, None, chosen)
                return _around(laplace, header["distribution"]["factor"], own)
            subset = replace(subset_of_file(stored, model, params, call), devices=chosen).placed()
            example = example_of(header["input"])
            check_model(stored, subset, example)
            return WeightPosterior(
                subset=subset,
                likelihood=likelihood_of(header["likelihood"], likelihood),
                distribution=_distribution(header["distribution"], subset, stored),
                num_data=header["num_data"],
                ignored_label=header["ignored_label"],
                example=example,
                **own,
            )
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise SavedFileError(
                f"{stored.path} lacks what a posterior needs ({error!r}); write it again"
            ) from error


def _around(laplace: Laplace, factor: float, own: dict[str, Any]) -> WeightPosterior:
    """The posterior whose draws are those of a Laplace posterior."""
    linearised = laplace.linearised
    return WeightPosterior(
        subset=linearised.subset,
        likelihood=linearised.likelihood,
        distribution=LaplaceDraws(laplace, factor),
        num_data=laplace.num_data,
        ignored_label=linearised.ignored_label,
        example=linearised.example,
        **own,
    )


def _add(distribution: Distribution, arrays: dict[str, Array | Pieces]) -> dict[str, Any]:
    """What the header says of a distribution, whose arrays are added."""
    if isinstance(distribution, Restated):
        distribution = distribution.inner
    if isinstance(distribution, Listed):
        draws = distribution.draws
        parts = {"draws": draws.trainable, "statistics": draws.statistics}
        kind = "listed"
    else:
        parts = {name: getattr(distribution, name) for name in ("mean", "std", "deviations")}
        kind = "gaussian"
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
