"""Training of a last layer over features: the frozen part of the network is not run."""

from __future__ import annotations

from typing import Any

import jax

from hoarfrost.data import DataLoader
from hoarfrost.data.features import as_plain, origin_of
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.freezing import Subset
from hoarfrost.freezing.features import over_features, why_not_in_training
from hoarfrost.likelihood import Likelihood
from hoarfrost.network import Network
from hoarfrost.network.dense import DenseNetwork
from hoarfrost.training.first_batch import check_held_out
from hoarfrost.training.state import TrainState


def layer_alone(
    subset: Subset, train_loader: DataLoader, val_loader: DataLoader | None
) -> tuple[Subset, DataLoader, DataLoader | None]:
    """The layer and its inputs, where the data are features; else everything as it is.

    Raises
    ------
    InvalidArgumentError
        If they are features of something else, if the frozen part behaves otherwise in training,
        or if only the training data are features.
    """
    origin = origin_of(train_loader)
    if origin is None:
        return subset, train_loader, val_loader
    own = over_features(subset, origin, "train_data_loader")
    reason = why_not_in_training(subset, origin.point)
    if reason is not None:
        raise InvalidArgumentError(
            f"train_data_loader holds features, which are made in evaluation mode, but {reason}; "
            "give the data themselves, or let the network take no such mode in training (call= "
            "with train=False)"
        )
    val: Any = val_loader
    if val is not None:
        of_val = origin_of(val)
        if of_val is None:
            raise InvalidArgumentError(
                "train_data_loader holds features, and val_data_loader does not; give "
                "hoarfrost.features of both, by the same network"
            )
        over_features(subset, of_val, "val_data_loader")
        val = as_plain(val)
    return own, as_plain(train_loader), val


def is_over_features(subset: Subset) -> bool | None:
    """Whether this is the layer alone; None where there are no features, as all is trained."""
    if subset.partition.all_trainable:
        return None
    return isinstance(subset.network, DenseNetwork)


def check_validation(
    subset: Subset,
    likelihood: Likelihood,
    val_loader: DataLoader,
    ignored_label: int | None = None,
    *,
    whole: bool | None = None,
) -> None:
    """`check_held_out` for validation data that may be features.

    Raises
    ------
    InvalidArgumentError
        If they are features of something else.
    """
    origin = origin_of(val_loader)
    if origin is not None:
        subset = over_features(subset, origin, "val_data_loader")
        val_loader = as_plain(val_loader)
    known = subset, likelihood, val_loader, "val_data_loader"
    check_held_out(*known, ignored_label, whole=whole)


def check_frozen(network: Network, before: TrainState, after: TrainState, name: str) -> None:
    """Raise where a callback changed what is frozen, and features stand for that.

    Raises
    ------
    InvalidArgumentError
        If it did.
    """
    if not isinstance(network, DenseNetwork):
        return
    kept, found = (jax.tree.leaves((s.frozen_params, s.mutable)) for s in (before, after))
    if len(kept) != len(found) or any(a is not b for a, b in zip(kept, found, strict=True)):
        raise InvalidArgumentError(
            f"{name} changed frozen parameters or statistics, but training goes over features "
            "that were made with the old ones; give the data themselves, and "
            "FitProcessor(cache_features=False)"
        )
