"""MAP training of a last layer: whether the frozen part of the network runs once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from hoarfrost.curvature.feature_pass import FeaturePass, could_be_head, feature_pass, point_of
from hoarfrost.curvature.feature_store import in_memory
from hoarfrost.data import DataLoader
from hoarfrost.data.arrays import ArrayBatches
from hoarfrost.data.checked import data_batches
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.freezing import Subset
from hoarfrost.freezing.features import why_not_in_training
from hoarfrost.memory import available_bytes, format_bytes
from hoarfrost.prob_model.fit_config import FitConfig

# Of the free memory, what features may take without being asked for.
_SHARE = 4

Loaders = tuple[DataLoader, DataLoader | None]


@dataclass
class FeatureCache:
    """Features of the data of a training run, where `config` wants them and it pays.

    Attributes
    ----------
    before : bool or None
        Whether the training that goes on went over features, as this part of it then does, too;
        None where it begins.
    said : str or None
        For the status, after a call: what was done and why; None where it was no question.
    """

    subset: Subset
    train: DataLoader
    val: DataLoader | None
    config: FitConfig
    before: bool | None = None
    said: str | None = None

    def __call__(self) -> Loaders | None:
        """The features of both loaders, or None where the network is run at each step.

        Raises
        ------
        InvalidArgumentError
            If they are asked for by ``cache_features=True`` and cannot be had.
        """
        wanted = self.config.processor.cache_features
        if wanted is False:
            return None
        found = self._looked_at(asked=wanted is True)
        if isinstance(found, FeaturePass):
            return self._made(found)
        if wanted is True:
            raise InvalidArgumentError(
                f"cache_features is True, but {found}; leave it out, or freeze all but the last "
                "layer of a network whose other layers do the same in training as in evaluation"
            )
        return None

    def _looked_at(self, *, asked: bool) -> FeaturePass | str:
        """The pass that makes them, or why they are not made: what is cheap to know comes first."""
        subset = self.subset
        batches = data_batches(self.train, argument="train_data_loader", masks=True)
        first = next(batches)
        shape = subset.output_shape(first.inputs)
        if subset.partition.all_trainable or not could_be_head(subset, shape):
            return "freeze_fun leaves more, or something else, than the last layer trainable"
        reason = None if asked else self._not_by_itself()
        reason = reason or why_not_in_training(subset, point_of(first.inputs))
        run = None if reason else feature_pass(subset, first)
        if reason is None and run is None:
            reason = "what freeze_fun leaves trainable is no plain Dense layer that gives outputs"
        if reason is None and not asked and run is not None:
            # A run that goes on comes to the bits of one that was never interrupted.
            goes_on = self.before is False
            reason = "the checkpoint's run went over the data" if goes_on else self._too_large(run)
        if reason is not None or run is None:
            self.said = f"not cached: {reason}"
            return str(reason)
        return run

    def _not_by_itself(self) -> str | None:
        """Why nobody would want them who has not asked for them."""
        if self.config.optimizer.n_epochs == 1 and not self.before:
            return "there is one epoch"
        if self.config.processor.disable_jit:
            return "disable_jit is True"
        if self.config.callbacks:
            return "callbacks may change what is frozen"
        if not all(map(_holds_fixed_arrays, self._loaders)):
            return "a loader that is not made from arrays may give other data in each epoch"
        if len(set(map(_point_shapes, self._loaders))) > 1:
            return "validation data have another shape"
        return None

    def _too_large(self, run: FeaturePass) -> str | None:
        needed = sum(loader.size for loader in self._loaders) * run.point_bytes
        free = available_bytes()
        if free is None or _SHARE * needed <= free:
            return None
        return (
            f"they take {format_bytes(needed)}, more than a quarter of the {format_bytes(free)} "
            "that there are"
        )

    def _made(self, run: FeaturePass) -> Loaders:
        verbose = bool(self.config.monitor.verbose)
        made: list[DataLoader] = []
        for loader, argument in zip(
            self._loaders, ("train_data_loader", "val_data_loader"), strict=False
        ):
            batches = data_batches(loader, argument=argument, masks=True)
            first = next(batches)
            all_batches = itertools.chain([first], batches)
            made.append(in_memory(run, loader, first, all_batches, progress=verbose))
        points = " and ".join(f"{loader.size:,}" for loader in self._loaders)
        self.said = (
            f"cached: the frozen layers ran once over {points} points, and training went over "
            "their outputs"
        )
        return made[0], made[1] if len(made) == 2 else None

    @property
    def _loaders(self) -> list[DataLoader]:
        return [self.train] if self.val is None else [self.train, self.val]


def _point_shapes(loader: DataLoader) -> tuple[tuple[int, ...], ...]:
    """Of one point of a loader of arrays."""
    inputs, _ = next(iter(loader.in_order()))
    return tuple(np.shape(leaf)[1:] for leaf in jax.tree.leaves(inputs))


def _holds_fixed_arrays(loader: DataLoader) -> bool:
    """Whether each epoch has the same points with the same numbers."""
    source: Any = loader._batches
    if not isinstance(source, ArrayBatches):
        return False
    return all(isinstance(x, np.ndarray | jax.Array) for x in jax.tree.leaves(source.data))
