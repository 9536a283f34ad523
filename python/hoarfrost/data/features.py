"""Loaders of a last layer's inputs, which know the network that they came from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from hoarfrost.data import operations
from hoarfrost.data.batch import INPUTS
from hoarfrost.data.loaders import DataLoader
from hoarfrost.data.single import InputsLoader
from hoarfrost.data.streams import Batches
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.network.dense import Origin


class FeatureLoader(DataLoader):
    """A `DataLoader` whose inputs are those of a network's last layer.

    `hoarfrost.features` makes it.

    Batches are ``(features, targets)``: features ``(B, D)``, or ``(B, T, D)`` where outputs have
    positions, and targets (with their mask) as they came. Where something frozen is added to the
    layer's outputs, features are a dict of "inputs" and that "offset" ``(B, C)``. Its parts
    (`split`, `sample`, `chop`, `to_inputs_loader`) know their network too.

    Attributes
    ----------
    layer_names : tuple of str
        The leaves of the layer, joined by "/".
    """

    def __init__(
        self,
        iterable: Iterable[Any] | Batches,
        num_unique_labels: int | None = None,
        *,
        origin: Origin | None = None,
    ) -> None:
        self._origin = _checked(
            origin, "FeatureLoader", "hoarfrost.features(model, params, loader)"
        )
        super().__init__(iterable, num_unique_labels)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The leaves of the layer, joined by "/"."""
        return self._origin.names

    def to_inputs_loader(self) -> FeatureInputsLoader:
        """A loader of the features alone, which posteriors of this network can predict from."""
        return FeatureInputsLoader(operations.select(self._batches, 0, INPUTS), origin=self._origin)

    def _like(self, batches: Batches) -> Self:
        return type(self)(batches, origin=self._origin)


class FeatureInputsLoader(InputsLoader):
    """The inputs of a network's last layer; `FeatureLoader.to_inputs_loader` makes it."""

    def __init__(self, iterable: Iterable[Any] | Batches, *, origin: Origin | None = None) -> None:
        self._origin = _checked(
            origin, "FeatureInputsLoader", "to_inputs_loader() of a FeatureLoader"
        )
        super().__init__(iterable)

    def _like(self, batches: Batches) -> Self:
        return type(self)(batches, origin=self._origin)


def origin_of(loader: Any) -> Origin | None:
    """Of a loader of features; None for anything else."""
    return loader._origin if isinstance(loader, FeatureLoader | FeatureInputsLoader) else None


def as_plain(loader: Any) -> Any:
    """The batches of a loader of features without where they are from, for the layer alone."""
    kind = DataLoader if isinstance(loader, FeatureLoader) else InputsLoader
    return kind(loader._batches)


def features_alone(inputs: Any) -> Any:
    """Of a loader of features with targets the features, and anything else as it is."""
    return inputs.to_inputs_loader() if isinstance(inputs, FeatureLoader) else inputs


def refuse_features(loader: Any, argument: str) -> None:
    """Raise `InvalidArgumentError` for features where a network needs its own inputs."""
    if origin_of(loader) is not None:
        raise InvalidArgumentError(
            f"{argument} is a {type(loader).__name__}, which holds inputs of a last layer, and "
            "here the whole network is evaluated; give a loader of the data themselves"
        )


def _checked(origin: Origin | None, name: str, remedy: str) -> Origin:
    if not isinstance(origin, Origin):
        raise InvalidArgumentError(
            f"a {name} knows the network that its features came from; make it by {remedy}"
        )
    return origin
