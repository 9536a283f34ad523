"""Means and variances that a user gives in place of computed ones: numbers, shapes and signs."""

from __future__ import annotations

from typing import Any

import folders  # noqa: F401
import numpy as np
import pytest

from hoarfrost.errors import HoarfrostError

SHAPES = {"classifier": (12, 3), "regressor": (12, 1)}
GIVEN = (
    ("predictive", "mode", "means"),
    ("predictive", "std", "variances"),
    ("predictive", "variance", "aleatoric_variances"),
    ("predictive", "variance", "epistemic_variances"),
    ("likelihood", "std", "variance"),
)


def call(kind: str, owner: str, method: str, argument: str, value: Any) -> np.ndarray:
    from problems import INPUTS, fitted, key

    model = fitted(kind)
    given: dict[str, Any] = {"rng": key(), "n_posterior_samples": 2}
    if owner == "likelihood":
        given = {"params": model.posterior.state.get().params}
    found = getattr(getattr(model, owner), method)(
        inputs_loader=INPUTS, **given, **{argument: value}
    )
    return np.asarray(found)


def statistic(kind: str) -> np.ndarray:
    return np.random.default_rng(3).uniform(0.5, 2.0, SHAPES[kind]).astype(np.float32)


BAD: dict[str, Any] = {
    "nan": lambda x: np.where(x == x[0, 0], np.nan, x),
    "infinite": lambda x: np.where(x == x[0, 0], np.inf, x),
    "complex": lambda x: x + 1j,
    "durations": lambda x: (10 * x).astype("m8[s]"),
    "dates": lambda x: (10 * x).astype("M8[s]"),
    "words": lambda x: x.astype(str),
    "masked": lambda x: np.ma.masked_array(x, x == x[0, 0]),
    "a column too many": lambda x: np.concatenate([x, x[:, :1]], axis=1),
    "a row too few": lambda x: x[:-1],
    "another axis": lambda x: x[None],
    "no rows": lambda x: x[:0],
    "beyond float32": lambda x: x.astype(np.float64) * 1e300,
    "a word": lambda x: "variances",
    "a set": lambda x: {1.0, 2.0},
    "nothing in it": lambda x: [],
}


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("given", GIVEN, ids="-".join)
@pytest.mark.parametrize("bad", BAD)
def test_what_are_no_statistics_is_refused_by_name(
    kind: str, given: tuple[str, str, str], bad: str
) -> None:
    with pytest.raises(HoarfrostError, match=given[2]):
        call(kind, *given, BAD[bad](statistic(kind)))


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("given", GIVEN[1:], ids="-".join)
def test_a_variance_below_0_is_refused(kind: str, given: tuple[str, str, str]) -> None:
    with pytest.raises(HoarfrostError, match="no variance is below 0"):
        call(kind, *given, -statistic(kind))


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("given", GIVEN, ids="-".join)
@pytest.mark.parametrize("form", [">f4", ">f8", "f8", "list", "longdouble", "jax"])
def test_the_same_numbers_in_another_form_are_the_same(
    kind: str, given: tuple[str, str, str], form: str
) -> None:
    import jax.numpy as jnp

    plain = statistic(kind)
    forms = {"list": plain.tolist(), "jax": jnp.asarray(plain)}
    other = forms[form] if form in forms else plain.astype(form)
    found, wanted = (call(kind, *given, value) for value in (other, plain))
    assert found.dtype == wanted.dtype and np.array_equal(found, wanted)


@pytest.mark.parametrize("kind", SHAPES)
def test_one_variance_stands_for_all(kind: str) -> None:
    for given in GIVEN[1:]:
        one = call(kind, *given, 2.0)
        each = call(kind, *given, np.full(SHAPES[kind], 2.0, np.float32))
        assert np.array_equal(np.broadcast_to(one, each.shape), each)
