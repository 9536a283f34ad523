"""Whose folder it is in which a fit or a chain is kept: one at a time, and known again."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

from hoarfrost.curvature.feature_store import Digest
from hoarfrost.data.checked import CheckedBatch
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.freezing import Subset
from hoarfrost.laplace.linearised import LinearisedNetwork
from hoarfrost.laplace.saved_parts import likelihood_header, program_of
from hoarfrost.laplace.saved_trees import leaves_by_path
from hoarfrost.laplace.saving import frozen_digest
from hoarfrost.laplace.structure.cost import Setting
from hoarfrost.storage import as_path, digest
from hoarfrost.types import Tree, join

# What the entries of a fingerprint are called where they differ.
OF_SUBSET = {
    "parameters": "with other parameters",
    "model": "of another model",
    "frozen": "with other frozen parameters or statistics",
    "trainable": "of another selection",
}
OF_FIT = {
    **OF_SUBSET,
    "structure": "of another structure",
    "likelihood": "of another likelihood or mask",
    "prior": "with another posterior as prior",
    "data": "of other data, or in other batches",
}


@contextlib.contextmanager
def locked(folder: Any) -> Iterator[None]:
    """Keep other fits and chains out of a folder; None is no folder.

    Raises
    ------
    InvalidArgumentError
        If another one, of this or another process, is at work there.
    """
    if folder is None or fcntl is None:
        yield
        return
    descriptor = os.open(folder_of(folder), os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidArgumentError(
                f"resume_dir is {str(folder)!r}, where another fit is at work; give each a "
                "folder of its own"
            ) from error
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)


def folder_of(folder: Any) -> Path:
    """A folder of a user's, which is made if it is missing.

    Raises
    ------
    InvalidArgumentError
        If it cannot be.
    """
    try:
        path = as_path(folder)
        path.mkdir(exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(13, "nothing can be written there")
    except InvalidArgumentError as error:
        raise InvalidArgumentError(str(error).replace("path is", "resume_dir is")) from None
    except OSError as error:
        raise InvalidArgumentError(
            f"resume_dir is {str(folder)!r}: {error.strerror or error}; give a folder in one that "
            "exists"
        ) from error
    return path


def _digest_of(batch: CheckedBatch) -> str:
    found = Digest()
    found.add(batch)
    return found.hexdigest()


def fingerprint_of_fit(
    linearised: LinearisedNetwork,
    structure: str,
    setting: Setting,
    first: CheckedBatch,
    earlier: Any,
    temperature: float,
) -> dict[str, Any]:
    """By what a fit is known again, as a file gives it back."""
    size = linearised.piece_size(first.size, linearised.fitting_pass())
    fingerprint = {
        **fingerprint_of_subset(linearised.subset, linearised.example),
        "structure": [structure, setting.head, list(linearised.positions)],
        "likelihood": [likelihood_header(linearised.likelihood), linearised.ignored_label],
        "prior": None
        if earlier is None
        else [
            digest({"mean": earlier.mean, "prior": earlier.prior.vector}),
            earlier.factor.log_det(),
            np.asarray(earlier.store.scale).tolist(),
            # The earlier curvature is in the sums, as often as this says.
            temperature,
        ],
        "data": [_digest_of(first), size],
    }
    return as_read(fingerprint)


def fingerprint_of_subset(subset: Subset, example: Tree) -> dict[str, Any]:
    """By what a network, its parameters and a selection of them are known again."""
    leaves = leaves_by_path(subset.trainable)
    return {
        "trainable": [list(path) for path in subset.partition.trainable_paths],
        "parameters": digest({join(path): np.asarray(x) for path, x in leaves.items()}),
        "frozen": frozen_digest(subset),
        # Last, as it differs with most of the others.
        "model": program_of(subset, example),
    }


def as_read(fingerprint: dict[str, Any]) -> dict[str, Any]:
    """A fingerprint as it comes back from a file: tuples are lists there."""
    found: dict[str, Any] = json.loads(json.dumps(fingerprint))
    return found


def check_fingerprint(
    own: dict[str, Any],
    found: dict[str, Any],
    file: Path,
    *,
    what: Mapping[str, str] = OF_FIT,
    holds: str = "a fit that was broken off",
) -> None:
    """Raise `InvalidArgumentError` if a file is of another fit, and say in what it differs.

    Parameters
    ----------
    own, found : dict
        Fingerprints, of which `what` has a word for each entry where it differs.
    file : Path
        Whose fingerprint was found.
    holds : str
        What its folder holds.
    """
    for name, value in own.items():
        if found.get(name) != value:
            raise InvalidArgumentError(
                f"resume_dir {str(file.parent)!r} holds {holds}, {what[name]}; give another "
                f"folder, or remove {file.name} there"
            )
