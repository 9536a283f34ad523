"""The compiled core's results, in dense float64 NumPy."""

from __future__ import annotations

from typing import Any

import core_subjects as core
import numpy as np
from agreement import Arguments, Oracle, agrees, wide


def dense(rows: Any) -> np.ndarray:
    rows = wide(rows).reshape(-1, 3)
    return rows.T @ rows


def add_rows(given: Arguments, result: Any) -> str:
    return agrees(result, dense(given["rows"]) + np.diag(core.PRIOR), 1e-12, 1e-12)


def factor(given: Arguments, result: Any) -> str:
    wanted = dense(core.ROWS) + np.diag(wide(given["prior_precision"]).ravel())
    return agrees(result, wanted, 1e-12, 1e-12)


def covariance(given: Arguments, result: Any) -> str:
    order = np.asarray(given["order"]).ravel()
    if sorted(order.tolist()) != [0, 1, 2]:
        return "a result for an order that is none"
    inverse = np.linalg.inv(core.PRECISION)
    wanted = np.empty_like(inverse)
    wanted[np.ix_(order, order)] = inverse
    forward = inverse[np.ix_(order, order)]
    return agrees(result, wanted, 1e-10, 1e-12) and agrees(result, forward, 1e-10, 1e-12)


def functional(given: Arguments, result: Any) -> str:
    jacobian = wide(given["jacobian"])
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = jacobian @ np.linalg.inv(core.PRECISION) @ jacobian.transpose(0, 2, 1)
    fault = agrees(result[0], wanted, 1e-10, 1e-10 * float(np.abs(wanted).max(initial=0.0)))
    return fault or agrees(result[1], np.diagonal(wanted, axis1=1, axis2=2), 1e-8, 1e-8)


def diagonal_rows(given: Arguments, result: Any) -> str:
    return agrees(result, np.diag(dense(given["rows"])), 1e-12, 1e-300)


def diagonal_head(given: Arguments, result: Any) -> str:
    weights = wide(given["weights"])
    wanted = weights.T @ wide(given["features"]).reshape(len(weights), -1) ** 2
    return agrees(result, wanted.ravel(), 1e-12, 1e-300)


def head(given: Arguments, result: Any) -> str:
    features, weights = wide(given["features"]), wide(given["weights"])
    wanted = np.eye(6)
    for output in range(2):
        place = slice(3 * output, 3 * output + 3)
        wanted[place, place] += (features * weights[:, output : output + 1]).T @ features
    return agrees(result, wanted, 1e-12, 1e-12)


def at_least_its_triangle(given: Arguments, result: Any) -> str:
    count = int(given["num_params"])
    least = float(min(4 * count * (count + 1), 2**64 - 1))
    return "" if wide(result).ravel()[0] >= least else f"{result} bytes"


def flops(given: Arguments, result: Any) -> str:
    count = float(given["num_params"])
    wanted = count**3 / 3
    return "" if wanted <= result <= 4 * wanted + 1e4 * (count + 1) ** 2 else f"{result}"


ORACLES: dict[str, Oracle] = {
    "_core.FullCurvature": at_least_its_triangle,
    "_core.full_bytes": at_least_its_triangle,
    "_core.factor_flops": flops,
    "_core.FullCurvature.add_rows": add_rows,
    "_core.FullCurvature.factor": factor,
    "_core.FullPosterior.covariance": covariance,
    "_core.FullPosterior.functional_covariance": functional,
    "_core.DiagonalCurvature.add_rows": diagonal_rows,
    "_core.DiagonalCurvature.add_head": diagonal_head,
    "_core.HeadCurvature.add": head,
}
