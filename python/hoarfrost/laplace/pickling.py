"""`pickle` of a posterior: its file, with the model's code by reference as `pickle` takes it."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import Any

from hoarfrost.errors import CopyError
from hoarfrost.laplace.saved_parts import is_named
from hoarfrost.laplace.saved_trees import template_of
from hoarfrost.laplace.saving import save


def reduced(posterior: Any) -> tuple[Any, ...]:
    """What `pickle` makes the posterior again from.

    Raises
    ------
    CopyError
        If the model cannot be pickled.
    """
    linearised = posterior.linearised
    subset = linearised.subset
    likelihood = None if is_named(linearised.likelihood) else linearised.likelihood
    held = subset.network.join(subset.params, subset.mutable)
    params = held if template_of(held) is None else None
    model = (subset.network, params, likelihood)
    try:
        code = pickle.dumps(model)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise CopyError(
            f"the posterior cannot be pickled, because its model cannot: {error}; define the model "
            "at the top level of a module, or use posterior.save(path) and "
            "hoarfrost.load_laplace(path, model=...), which need no pickle"
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "posterior")
        save(posterior, path, frozen=True, curvature=True)
        return _restored, (code, path.read_bytes())


def _restored(code: bytes, file: bytes) -> Any:
    from hoarfrost.laplace.loading import load_laplace

    network, params, likelihood = pickle.loads(code)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder, "posterior")
        path.write_bytes(file)
        # What is mapped stays when the file's name goes.
        return load_laplace(path, model=network, params=params, likelihood=likelihood)
