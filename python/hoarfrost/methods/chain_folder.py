"""Chains that go on where they were broken off: samples and the state of the chains, in a folder.

Samples are written as they come, many in a file; the state, which is what a chain goes on from with
the same bits, every so often: that may take a fiftieth of the time. When all are there they are
gathered into one file, which is mapped.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.laplace.resume_folder import check_fingerprint, folder_of
from hoarfrost.methods.chain_fingerprint import OF_CHAINS, fingerprint_of_chains
from hoarfrost.methods.chain_run import ChainRun, Losses
from hoarfrost.methods.draws import Draws, tree_bytes
from hoarfrost.methods.langevin import Chain
from hoarfrost.storage import Pieces, StoredFile, opened, write
from hoarfrost.types import Array, Tree

STATE, PART, WHOLE = "unfinished chains", "part of the samples", "samples of chains"

# Bytes of a file of samples on their way.
PART_BYTES = 2**26

# Seconds between two writes of the state at the least, and what one takes of the time since then.
LEAST_SECONDS, SHARE = 1.0, 0.02

# Steps after which the state may be written, where no sample is kept before.
_STEPS = 256


@dataclass
class _State:
    """How far the chains came: groups before `group` are done, it has made `step` steps.

    `waiting` are samples that are in no file yet, each with a leading axis of chains.
    """

    group: int
    step: int
    chain: Chain
    waiting: list[Tree]


class ChainFolder:
    """What is kept of chains in a folder.

    Parameters
    ----------
    folder : str or path
        Made if it is missing. Nothing else in it is touched.
    run : ChainRun
        The chains.

    Raises
    ------
    InvalidArgumentError
        If `folder` is no path or cannot be made.
    """

    def __init__(self, folder: Any, run: ChainRun) -> None:
        self.folder, self.run = folder_of(folder), run
        self.losses = Losses(run)
        form = run.begin(run.groups[0])
        self.per_file = max(1, PART_BYTES // max(1, tree_bytes((form.trainable, form.statistics))))
        self.fingerprint = fingerprint_of_chains(run, self.per_file)
        self._written, self._seconds = time.monotonic(), 0.0

    @property
    def whole(self) -> Path:
        """Of all samples."""
        return self.folder / "samples.hoarfrost"

    @property
    def state(self) -> Path:
        """Of the chains on their way."""
        return self.folder / "chains.hoarfrost"

    def part(self, group: int, place: int) -> Path:
        """Of some samples of a group on its way."""
        return self.folder / f"samples-{group}-{place}.hoarfrost"

    @property
    def parts(self) -> list[list[Path]]:
        """For each group its files, in their order."""
        count = -(-len(self.run.plan.keep) // self.per_file)
        return [[self.part(g, k) for k in range(count)] for g in range(len(self.run.groups))]

    def so_far(self) -> _State:
        """How far the chains came; the beginning, written down, where there is nothing.

        Raises
        ------
        InvalidArgumentError
            If these are other chains.
        SavedFileError
            If a file is damaged, or cannot be written.
        """
        state = _State(0, 0, self.run.begin(self.run.groups[0]), [])
        if not self.state.exists():
            self._write_state(state)
            return state
        with opened(self.state, STATE) as stored:
            header = stored.header
            self._check(stored, "chains that were broken off")
            self.losses.sums = stored.array("losses").copy()
            state.group, state.step = header["group"], header["step"]
            state.chain = self.run.begin(self.run.groups[state.group])
            sample = state.chain.trainable, state.chain.statistics
            for place in range(header["waiting"]):
                state.waiting.append(_tree(stored, f"waiting.{place}", sample))
            # In memory of its own, which steps use again.
            read = jax.tree.map(jnp.array, _tree(stored, "chain", state.chain))
            state.chain = self.run.problem.whole.devices.whole(read)
        return state

    def go_on(self, state: _State) -> None:
        """Sample from there on, until all samples are in files."""
        run = self.run
        keep = set(run.plan.keep)
        stops = sorted(keep.union(range(_STEPS, run.plan.keep[-1], _STEPS)))
        for group in range(state.group, len(run.groups)):
            chains = run.groups[group]
            if group > state.group:
                state = _State(group, 0, run.begin(chains), [])
            waiting = state.waiting
            done = sum(1 for stop in run.plan.keep if stop <= state.step)
            for stop, chain, found in run.states(chains, state.chain, state.step, stops):
                self.losses.add(stop, chains, found)
                if stop in keep:
                    waiting.append(jax.device_get((chain.trainable, chain.statistics)))
                    done += 1
                if len(waiting) == self.per_file or (waiting and stop == stops[-1]):
                    self._write_part(group, (done - 1) // self.per_file, waiting)
                    waiting.clear()
                if stop < stops[-1] and self._is_time():
                    self._write_state(_State(group, stop, chain, waiting))

    def gather(self) -> None:
        """Put all samples into one file."""
        run, count = self.run, len(self.run.plan.keep)
        leaves = [[self._read_part(path) for path in paths] for paths in self.parts]
        arrays: dict[str, Array | Pieces] = {"losses": self.losses.sums}
        for name, first in leaves[0][0].items():
            own = [[part[name] for part in parts] for parts in leaves]
            shape = (run.num_chains * count, *first.shape[2:])
            read = _Rows(run.groups, own, count, self.per_file)
            arrays[name] = Pieces(int(np.prod(shape, dtype=np.int64)), read, first.dtype, shape)
        write(self.whole, WHOLE, {"fingerprint": self.fingerprint}, arrays)

    def read(self) -> tuple[Draws, Losses]:
        """All samples, mapped, and the losses.

        Raises
        ------
        InvalidArgumentError, SavedFileError
            If they are of other chains; if the file is damaged.
        """
        with opened(self.whole, WHOLE) as stored:
            self._check(stored, "samples")
            self.losses.sums = stored.array("losses").copy()
            form = self.run.begin(self.run.groups[0])
            return Draws(*_tree(stored, "sample", (form.trainable, form.statistics))), self.losses

    def clean(self) -> None:
        """Take away what is not needed when all samples are in one file."""
        left = [path for paths in self.parts for path in paths]
        left += [*self.folder.glob(".samples*.tmp"), *self.folder.glob(".chains.*.tmp")]
        for path in (*left, self.state):
            with contextlib.suppress(OSError):
                path.unlink()

    def _is_time(self) -> bool:
        return time.monotonic() - self._written >= max(LEAST_SECONDS, self._seconds / SHARE)

    def _write_state(self, state: _State) -> None:
        began = time.monotonic()
        header = {
            "fingerprint": self.fingerprint,
            "group": state.group,
            "step": state.step,
            "waiting": len(state.waiting),
        }
        arrays = {"losses": self.losses.sums, **_named("chain", jax.device_get(state.chain))}
        for place, sample in enumerate(state.waiting):
            arrays |= _named(f"waiting.{place}", sample)
        write(self.state, STATE, header, arrays)
        self._written = time.monotonic()
        self._seconds = self._written - began

    def _write_part(self, group: int, place: int, samples: Sequence[Tree]) -> None:
        stacked: Tree = jax.tree.map(lambda *leaves: np.stack(leaves), *samples)
        header = {"fingerprint": self.fingerprint}
        write(self.part(group, place), PART, header, _named("sample", stacked))

    def _read_part(self, path: Path) -> dict[str, Array]:
        """Leaves ``(kept, chains, ...)``, mapped."""
        with opened(path, PART) as stored:
            self._check(stored, "samples on their way")
            return {name: stored.array(name) for name in stored.entries}

    def _check(self, stored: StoredFile, holds: str) -> None:
        found = stored.header["fingerprint"]
        check_fingerprint(self.fingerprint, found, stored.path, what=OF_CHAINS, holds=holds)


def samples_in(folder: Any, run: ChainRun) -> tuple[Draws, Losses]:
    """Samples of chains, mapped, from a folder in which they are kept as they come.

    Raises
    ------
    InvalidArgumentError
        If the folder cannot be made, or holds other chains.
    SavedFileError
        If a file in it is damaged, or cannot be written.
    NonFiniteError, DataError
        As for the chains themselves.
    """
    place = ChainFolder(folder, run)
    if not place.whole.exists():
        place.go_on(place.so_far())
        place.gather()
    found = place.read()
    place.clean()
    return found


@dataclass(frozen=True)
class _Rows:
    """An array of samples, chain after chain, read from parts ``(kept, chains, ...)``."""

    groups: Sequence[range]
    parts: Sequence[Sequence[Array]]
    count: int
    per_file: int

    def __call__(self, start: int, stop: int) -> Array:
        """Numbers of it in one axis."""
        width = int(np.prod(self.parts[0][0].shape[2:], dtype=np.int64))
        row, last = start // width, -(-stop // width)
        found = []
        begin = row * width
        while row < last:
            chain, kept = divmod(row, self.count)
            group = next(g for g, chains in enumerate(self.groups) if chain in chains)
            part, place = divmod(kept, self.per_file)
            rows = self.parts[group][part][place:, chain - self.groups[group].start][: last - row]
            found.append(rows.reshape(-1))
            row += len(rows)
        flat = found[0] if len(found) == 1 else np.concatenate(found)
        return flat[start - begin : stop - begin]


def _named(prefix: str, tree: Tree) -> dict[str, Any]:
    return {f"{prefix}.{place}": leaf for place, leaf in enumerate(jax.tree.leaves(tree))}


def _tree(stored: StoredFile, prefix: str, like: Tree) -> Tree:
    structure: Any = jax.tree.structure(like)
    leaves = [stored.array(f"{prefix}.{place}") for place in range(structure.num_leaves)]
    return jax.tree.unflatten(structure, leaves)
