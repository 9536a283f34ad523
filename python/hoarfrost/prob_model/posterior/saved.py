"""What `save_state` and `load_state` of every posterior do, whatever its method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoarfrost.checks import check_count, check_path
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.posterior.checkpoints import MAP, save_state, state_of
from hoarfrost.prob_model.state import PosteriorState, StateRepository
from hoarfrost.training import checkpoint
from hoarfrost.training.checkpoint import Checkpoint

# (folder, state, keep): writes a checkpoint.
Writes = Callable[[str, PosteriorState, int], Path]
# For each method whose checkpoints will do, the state of the posterior from that of parameters.
Reads = Mapping[str, Callable[[Checkpoint, PosteriorState, Joint], PosteriorState]]


def save_map(folder: str, state: PosteriorState, keep: int) -> Path:
    """Write parameters, statistics and how far training had come."""
    return save_state(folder, MAP, state, keep)


def as_map(found: Checkpoint, state: PosteriorState, joint: Joint) -> PosteriorState:
    """The state itself."""
    return state


@dataclass(frozen=True)
class Storage:
    """How the state of a posterior is written as a checkpoint, and which it is read from."""

    writes: Writes
    reads: Reads


BY_MAP = Storage(save_map, {MAP: as_map})


def save_posterior(
    state: StateRepository, path: Any, keep_top_n_checkpoints: Any, storage: Storage
) -> Path:
    """Write the state of a posterior into a folder."""
    folder = check_path("checkpoint_path", path)
    keep = check_count("keep_top_n_checkpoints", keep_top_n_checkpoints, 1)
    now = state.get()
    checkpoint.prepare(folder)
    return storage.writes(folder, now, keep)


def load_posterior(state: StateRepository, joint: Joint, path: Any, storage: Storage) -> None:
    """Put the state of a checkpoint into a posterior."""
    state.put(_read(check_path("checkpoint_path", path), joint, storage.reads))


def keep_on_disk(state: StateRepository, joint: Joint, path: str | Path, storage: Storage) -> None:
    """Let the state of a posterior be what a checkpoint holds, read whenever it is asked for."""
    state.put_on_disk(lambda: _read(str(path), joint, storage.reads))


def _read(path: str, joint: Joint, reads: Reads) -> PosteriorState:
    found = checkpoint.load(path, tuple(reads))
    return reads[found.method](found, state_of(found, joint, result=True), joint)
