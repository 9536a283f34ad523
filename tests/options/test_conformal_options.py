"""Every argument of the conformal classifiers and regressors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from entries import Entry, Other, Subject, cases, check, methods, table

from hoarfrost import conformal

_RNG = np.random.default_rng(5)


def probs(rows: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).dirichlet(np.ones(3), rows)
    return found.astype(np.float32)


VAL, TEST, TEST2 = probs(12, 0), probs(4, 2), probs(4, 3)
# Sure of what is wrong, so that all conforms.
VAL2 = np.full((12, 3), 0.01, np.float32)
VAL2[np.arange(12), (np.arange(12) + 1) % 3] = 0.98
LABELS = (np.arange(12) % 3).astype(np.int32)
NUMBERS = _RNG.standard_normal(12).astype(np.float32)
NEW = _RNG.standard_normal(4).astype(np.float32)
LOO = (NEW + 0.1 * _RNG.standard_normal((12, 4))).astype(np.float32)
WIDTHS = np.linspace(0.5, 2, 12).astype(np.float32)
NEW_WIDTHS = np.linspace(0.5, 2, 4).astype(np.float32)


def halves(values: np.ndarray) -> list[np.ndarray]:
    return [values[:7], values[7:]]


ENDS = np.stack([NEW - 1, NEW + 1], axis=1)
# A right value of each argument, and another.
OF_CLASSIFIERS: dict[str, tuple[Any, Any]] = {
    "probs": (VAL, VAL2),
    "targets": (LABELS, LABELS[::-1].copy()),
    "val_probs": (VAL, VAL2),
    "val_targets": (LABELS, VAL.argmax(1)),
    "test_probs": (TEST, TEST2),
    "cross_val_probs": (halves(VAL), halves(VAL2)),
    "cross_val_targets": (halves(LABELS), halves(VAL.argmax(1))),
    "cross_test_probs": ([TEST, TEST[::-1]], [TEST2, TEST2]),
    "values": (np.array([0, 1, 2, 0]), np.array([1, 1, 1, 1])),
    "conformal_sets": ([[0], [], [1, 2], [2]], [[0], [1], [], []]),
    "error": (0.5, 0.9),
}
OF_REGRESSORS: dict[str, tuple[Any, Any]] = {
    "val_lower_bounds": (NUMBERS - 1, NUMBERS - 2),
    "val_upper_bounds": (NUMBERS + 1, NUMBERS * 2),
    "test_lower_bounds": (NEW - 1, NEW - 2),
    "test_upper_bounds": (NEW + 1, NEW + 2),
    "val_preds": (NUMBERS, NUMBERS - 1),
    "val_uncertainties": (WIDTHS, WIDTHS[::-1].copy()),
    "test_preds": (NEW, NEW + 1),
    "test_uncertainties": (NEW_WIDTHS, NEW_WIDTHS[::-1].copy()),
    "val_targets": (NUMBERS * np.float32(1.5), NUMBERS + 3),
    "cross_val_outputs": (halves(NUMBERS), halves(NUMBERS + 2)),
    "cross_val_targets": (halves(NUMBERS * np.float32(1.5)), halves(NUMBERS + 3)),
    "cross_test_outputs": ([NEW, NEW + 1], [NEW, NEW]),
    "loo_val_outputs": (NUMBERS, NUMBERS - 1),
    "loo_val_targets": (NUMBERS * np.float32(1.5), NUMBERS + 3),
    "loo_test_outputs": (LOO, LOO + 1),
    "values": (NEW, NEW + 2),
    "conformal_intervals": (ENDS, ENDS + 2),
    "error": (0.3, 0.6),
    "scores": (None, WIDTHS * 2),
    "quantile": (None, 5.0),
}


def subjects() -> Iterator[tuple[str, Subject]]:
    """Every public method of every public class."""
    for name in conformal.__all__:
        cls = getattr(conformal, name)
        values = OF_CLASSIFIERS if "Classifier" in name else OF_REGRESSORS
        for method, documented in methods(cls):
            base = {a: values[a][0] for a in values if a in _arguments(documented)}
            base = {a: value for a, value in base.items() if value is not None}
            entries: dict[str, Entry] = {
                a: Other(values[a][1]) for a in values if a in _arguments(documented)
            }

            def run(cls: Any = cls, method: str = method, **given: Any) -> Any:
                found = getattr(cls(), method)(**given)
                if method != "conformal_set":
                    return found
                held = np.zeros((len(found), 3), dtype=bool)
                for row, labels in zip(held, found, strict=True):
                    row[labels] = True
                return held

            yield (
                f"{name}.{method}",
                Subject(documented, run, lambda base=base: base, entries, cls.__doc__),
            )


def _arguments(documented: Any) -> list[str]:
    return [name for name in documented.__code__.co_varnames[: documented.__code__.co_argcount]]


TABLE = table(subjects())


@pytest.mark.parametrize(("name", "argument"), cases(TABLE))
def test_every_argument_acts(name: str, argument: str) -> None:
    check(name, TABLE[name], argument)
