"""A fit that goes on where it was broken off: partial sums, and half a factor, in a folder.

What is kept has the bits of the core's own memory, so that a fit that was killed at any moment and
started again comes to the same bits as one that was not. A write may take a fiftieth of the time
since the last one.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


from hoarfrost.curvature.feature_store import Digest
from hoarfrost.curvature.stream import Piece
from hoarfrost.curvature.sums import Sums
from hoarfrost.data.checked import CheckedBatch
from hoarfrost.errors import DataError, SavedFileError
from hoarfrost.laplace.linearised import LinearisedNetwork
from hoarfrost.laplace.resume_folder import check_fingerprint, fingerprint_of_fit, folder_of
from hoarfrost.laplace.structure.base import Curvature, Factor
from hoarfrost.laplace.structure.cost import Setting
from hoarfrost.laplace.structure.stored import add_curvature, curvature_of, progress_of
from hoarfrost.storage import Pieces, digest, opened, write
from hoarfrost.types import Array

KIND = "unfinished fit"


# Seconds between two writes, at the least: of sums, and of a factor that takes longer than that.
LEAST_SECONDS, FACTOR_SECONDS = 1.0, 60.0


# Operations below which no machine takes that long for a factor.
FACTOR_FLOPS = 1e12


# Seconds that a step without a state worth a file is given, at first.
_SHORT = 0.05


# What a write takes of the time since the last one, and bytes a second before one was timed.
_SHARE, _RATE = 0.02, 1e8


class _PauseError(Exception):
    """Raised by a bar, where it is time to write."""


@dataclass(frozen=True)
class Progress:
    """How far a pass came.

    Attributes
    ----------
    curvature, sums : Curvature, Sums
        Of the points so far.
    pieces : int
        That are in them.
    complete : bool
        Whether these are all, and an earlier posterior with them.
    """

    curvature: Curvature
    sums: Sums
    pieces: int
    complete: bool


class Resume:
    """What is kept of one fit in a folder.

    Parameters
    ----------
    folder : str or path
        Made if it is missing. Nothing else in it is touched.
    linearised : LinearisedNetwork
        What is fitted.
    structure, setting : str, Setting
        Of its curvature.
    first : CheckedBatch
        Of the data.
    earlier : Laplace or None
        The prior, where it is an earlier posterior.
    temperature : float
        Of the likelihood.

    Raises
    ------
    InvalidArgumentError
        If `folder` is no path or cannot be made, or holds another fit that was broken off.
    """

    def __init__(
        self,
        folder: Any,
        linearised: LinearisedNetwork,
        structure: str,
        setting: Setting,
        first: CheckedBatch,
        earlier: Any = None,
        temperature: float = 1.0,
    ) -> None:
        self.folder = folder_of(folder)
        self.structure, self.setting = structure, setting
        self.fingerprint = fingerprint_of_fit(
            linearised, structure, setting, first, earlier, temperature
        )
        self._expected: tuple[int, str] | None = None
        self._complete = False
        self._last = (-1, "")
        self._digests: dict[int, str] = {}
        self._written = time.monotonic()
        self._seconds: float | None = None
        for name in ("pass", "factor"):
            for left in self.folder.glob(f".{name}.hoarfrost.*.tmp"):
                with contextlib.suppress(OSError):
                    left.unlink()

    @property
    def pass_file(self) -> Path:
        """Of the sums."""
        return self.folder / "pass.hoarfrost"

    @property
    def factor_file(self) -> Path:
        """Of the factor on its way."""
        return self.folder / "factor.hoarfrost"

    def so_far(self) -> Progress | None:
        """What there is of this fit; None where it begins.

        Raises
        ------
        InvalidArgumentError
            If it is another one.
        SavedFileError
            If a file is damaged.
        """
        if not self.pass_file.exists():
            return None
        with opened(self.pass_file, KIND) as stored:
            header = stored.header
            check_fingerprint(self.fingerprint, header["fingerprint"], self.pass_file)
            core = header["curvature"]
            curvature = curvature_of(self.structure, self.setting, core, "curvature.", stored)
            squares = stored.array("squares").copy() if "squares" in stored.entries else None
            sums = Sums(header["num_data"], header["log_likelihood"], squares)
            self._expected, self._complete = tuple(header["batch"]), header["complete"]
            return Progress(curvature, sums, header["pieces"], header["complete"])

    def watch(self, batches: Iterator[CheckedBatch]) -> Iterator[CheckedBatch]:
        """The batches, of which those before the place are compared with what they were.

        Raises
        ------
        DataError
            If they differ.
        """
        found, expected = Digest(), self._expected
        for batch in found.along(batches):
            self._digests[batch.index] = now = found.hexdigest()
            self._last = (batch.index, now)
            if self._complete and expected is None:
                raise self._other_data(batch.index)
            # Pieces come one behind.
            self._digests.pop(batch.index - 3, None)
            if expected is not None and batch.index == expected[0]:
                if now != expected[1]:
                    raise self._other_data(batch.index)
                expected = None
            yield batch
        if expected is not None:
            raise self._other_data(expected[0])

    def after(self, curvature: Curvature) -> Callable[[Sums, Piece], None]:
        """What writes the sums every so often."""

        def keep(sums: Sums, piece: Piece) -> None:
            if self._is_time(curvature):
                place = (piece.batch, self._digests[piece.batch])
                self._write(curvature, sums, piece.index + 1, place, complete=False)

        return keep

    def complete(self, curvature: Curvature, sums: Sums, prior: Array) -> None:
        """Keep sums to which nothing comes any more, where that is worth its time."""
        if self._is_time(curvature) or self._is_long(curvature, prior):
            self._write(curvature, sums, 0, self._last, complete=True)

    def _is_time(self, curvature: Curvature) -> bool:
        seconds = self._seconds
        if seconds is None:
            seconds = float(curvature.core.nbytes) / _RATE
        return time.monotonic() - self._written >= max(LEAST_SECONDS, seconds / _SHARE)

    @staticmethod
    def _is_long(curvature: Curvature, prior: Array) -> bool:
        """Whether a factor may take more than a minute, and can be written down on the way."""
        return curvature.resumable and curvature.flops(prior) >= FACTOR_FLOPS

    def factor(
        self,
        curvature: Curvature,
        prior: Array,
        scale: float,
        keep: bool,
        progress: Callable[[float], object] | None,
    ) -> Factor:
        """The factor, which is written down on the way where it takes more than a minute."""
        if not self._is_long(curvature, prior) or not self.pass_file.exists():
            return curvature.factor(prior, scale=scale, keep=keep, progress=progress)
        work = self._begun(prior, scale)
        if work is None:
            work = self._twin() if keep else curvature
        since, wait = time.monotonic(), FACTOR_SECONDS
        last: dict[str, float] = {}

        def show(done: float) -> None:
            if progress is not None:
                progress(done)
            if time.monotonic() - since >= wait:
                raise _PauseError

        while True:
            try:
                return work.factor(prior, scale=scale, keep=False, progress=show)
            except _PauseError:
                began = time.monotonic()
                place = progress_of(work)
                if place in (None, last):
                    # What comes before the first step, and after the last, begins anew: it is
                    # given more time, so that it ends.
                    since, wait = time.monotonic(), max(2 * wait, _SHORT)
                    continue
                last = place or {}
                self._write_factor(work, prior, scale)
                since = time.monotonic()
                wait = max(FACTOR_SECONDS, (since - began) / _SHARE)

    def done(self) -> None:
        """Take the files away: the fit is whole."""
        for file in (self.factor_file, self.pass_file):
            with contextlib.suppress(FileNotFoundError):
                file.unlink()

    def _write(
        self,
        curvature: Curvature,
        sums: Sums,
        pieces: int,
        place: tuple[int, str],
        complete: bool,
    ) -> None:
        began = time.monotonic()
        arrays: dict[str, Array | Pieces] = {}
        header = {
            "fingerprint": self.fingerprint,
            "pieces": pieces,
            "batch": list(place),
            "complete": complete,
            "num_data": sums.num_data,
            "log_likelihood": sums.log_likelihood,
            "curvature": add_curvature(curvature, "curvature.", arrays),
        }
        if sums.squares is not None:
            arrays["squares"] = sums.squares
        try:
            write(self.pass_file, KIND, header, arrays)
        except SavedFileError as error:
            # The fit itself can go on.
            warnings.warn(f"nothing more is kept in resume_dir: {error}", UserWarning, stacklevel=2)
            self._written = math.inf
            return
        self._written = time.monotonic()
        self._seconds = self._written - began

    def _write_factor(self, work: Curvature, prior: Array, scale: float) -> None:
        arrays: dict[str, Array | Pieces] = {}
        header = {
            "fingerprint": self.fingerprint,
            "prior": digest({"prior": prior}),
            "scale": scale,
            "curvature": add_curvature(work, "curvature.", arrays),
        }
        write(self.factor_file, KIND, header, arrays)

    def _begun(self, prior: Array, scale: float) -> Curvature | None:
        """A factorisation that was broken off; None where there is none of this prior."""
        if not self.factor_file.exists():
            return None
        with opened(self.factor_file, KIND) as stored:
            header = stored.header
            same = (header["fingerprint"], header["prior"], header["scale"]) == (
                self.fingerprint,
                digest({"prior": prior}),
                scale,
            )
            if not same:
                return None
            core = header["curvature"]
            return curvature_of(self.structure, self.setting, core, "curvature.", stored)

    def _twin(self) -> Curvature:
        """The complete curvature once more, from its file: one is kept, one is used up."""
        with opened(self.pass_file, KIND) as stored:
            core = stored.header["curvature"]
            return curvature_of(self.structure, self.setting, core, "curvature.", stored)

    def _other_data(self, index: int) -> DataError:
        return DataError(
            f"the data up to batch {index} are not those of the fit that was broken off in "
            f"resume_dir {str(self.folder)!r} (does the loader shuffle?); give the same data in "
            "the same order, or another folder"
        )
