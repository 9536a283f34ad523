"""The ceiling, SciPy's `dsyrk`, `dpotrf` and `dtrsm` at a case's sizes, and the float64 reference.

The reference is assembled by other products than anybody else's: the lower blocks
``Phi^T diag(p_c (delta_cd - p_d)) Phi`` of a head, and a perceptron's Jacobian written out by hand.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hoarfrost.benchmark.cases import (
    NEW_PRIOR_PRECISION,
    NOISE_STD,
    NUM_COMPARED,
    NUM_SAMPLES,
    PRIOR_PRECISION,
    Case,
)
from hoarfrost.benchmark.work import SYRK_DEPTH, ceiling_sizes

Inputs = dict[str, np.ndarray]


class Ceiling:
    """BLAS and LAPACK in float64, each at the size that a case needs."""

    def __init__(self, case: Case, inputs: Inputs) -> None:
        from scipy.linalg import blas, lapack

        self.case, self.inputs, self.blas, self.lapack = case, inputs, blas, lapack
        sizes = ceiling_sizes(case)
        self.panel = None
        if sizes.panel_edge:
            values = inputs["x"].ravel()
            depth = min(sizes.depth, SYRK_DEPTH)
            panel = np.resize(values, (depth, sizes.panel_edge))
            self.panel = np.asarray(panel, dtype=np.float64).T  # Fortran order, no copy
        self.matrix = np.empty((sizes.edge, sizes.edge), order="F")
        self.rhs = np.empty((sizes.edge, NUM_SAMPLES), order="F")
        self.answers: dict[str, np.ndarray] = {}

    def prepare(self, operation: str) -> None:
        """A matrix to factor or to solve with: nothing in it is subnormal."""
        if operation in ("potrf", "trsm"):
            self.matrix.fill(1.0)
            np.fill_diagonal(self.matrix, 2.0 * len(self.matrix))
            self.rhs.fill(1.0)
        elif operation == "reference":
            self.matrix = np.empty((0, 0))

    def syrk(self) -> Any:
        """A symmetric product."""
        return self.blas.dsyrk(1.0, self.panel, lower=1)

    def potrf(self) -> Any:
        """A factorisation in place."""
        return self.lapack.dpotrf(self.matrix, lower=1, clean=0, overwrite_a=1)

    def trsm(self) -> Any:
        """Triangular solves of as many right-hand sides as there are samples."""
        return self.blas.dtrsm(1.0, self.matrix, self.rhs, lower=1, overwrite_b=1)

    def reference(self) -> None:
        """Everything that answers are compared with."""
        case, inputs = self.case, self.inputs
        if case.kind == "cholesky":
            rows = np.asarray(inputs["rows"], dtype=np.float64)
            chol = self._factor(rows.T @ rows, float(case.num_params))
            self.answers = {"evidence": _log_det(chol)}
            return
        curvature, jacobian = (
            _network(inputs, self.blas) if case.kind == "network" else _head(case, inputs)
        )
        self.answers["new_prior"] = _log_det(self._factor(curvature, NEW_PRIOR_PRECISION))
        chol = self._factor(curvature, PRIOR_PRECISION)
        self.answers["evidence"] = _log_det(chol)
        points, outputs, size = jacobian.shape
        solved = self.blas.dtrsm(1.0, chol, jacobian.reshape(-1, size).T, lower=1)
        solved = solved.T.reshape(points, outputs, size)
        self.answers["functional"] = np.einsum("bcp,bdp->bcd", solved, solved)

    def _factor(self, curvature: np.ndarray, prior_precision: float) -> np.ndarray:
        precision = np.array(curvature, order="F")
        precision[np.diag_indices(len(precision))] += prior_precision
        chol, info = self.lapack.dpotrf(precision, lower=1, overwrite_a=1)
        if info != 0:
            raise ArithmeticError(f"dpotrf stopped at pivot {info}")
        return np.asarray(chol)


def _log_det(chol: np.ndarray) -> np.ndarray:
    return np.asarray(2 * np.log(np.diag(chol)).sum())


def _head(case: Case, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """The curvature (lower triangle), and the Jacobians of the points that are compared."""
    phi, points = (_with_one(inputs[name]) for name in ("x", "points"))
    kernel = np.vstack([inputs["kernel"], inputs["bias"]]).astype(np.float64)
    logits = phi @ kernel
    d, outputs = phi.shape[1], logits.shape[1]
    curvature = np.zeros((outputs * d, outputs * d), order="F")
    for c in range(outputs):
        for k in range(c + 1):
            weight = _weight(case.kind, logits, c, k)
            if weight is not None:
                block = (phi * weight[:, None]).T @ phi
                curvature[c * d : (c + 1) * d, k * d : (k + 1) * d] = block
    chosen = points[:NUM_COMPARED]
    jacobian = np.einsum("ck,nd->nckd", np.eye(outputs), chosen)
    return curvature, jacobian.reshape(len(chosen), outputs, outputs * d)


def _weight(kind: str, logits: np.ndarray, c: int, k: int) -> np.ndarray | None:
    """Lambda_ck of every point; None where it is zero."""
    if kind != "softmax" and c != k:
        return None
    if kind == "gaussian":
        return np.full(len(logits), 1 / NOISE_STD**2)
    if kind == "bernoulli":
        p = 1 / (1 + np.exp(-logits[:, c]))
        return np.asarray(p * (1 - p))
    p = _softmax(logits)
    return np.asarray(p[:, c] * (float(c == k) - p[:, k]))


def _network(inputs: Inputs, blas: Any) -> tuple[np.ndarray, np.ndarray]:
    """The same for the perceptron, by its Jacobian in closed form."""
    wide = {name: np.asarray(value, dtype=np.float64) for name, value in inputs.items()}
    total: Any = 0.0
    for start in range(0, len(wide["x"]), 200):
        jacobian, outputs = _network_jacobian(wide, wide["x"][start : start + 200])
        p = _softmax(outputs)
        root = np.sqrt(p)[:, :, None] * np.eye(p.shape[1]) - p[:, :, None] * np.sqrt(p)[:, None]
        rows = np.einsum("bcr,bcp->brp", root, jacobian, optimize=True)
        total = total + blas.dsyrk(1.0, rows.reshape(-1, rows.shape[-1]).T, lower=1)
    return total, _network_jacobian(wide, wide["points"][:NUM_COMPARED])[0]


def _network_jacobian(wide: Inputs, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(B, C, P)`` and the outputs ``(B, C)``."""
    hidden = np.tanh(x @ wide["kernel_1"] + wide["bias_1"])
    outputs = hidden @ wide["kernel_2"] + wide["bias_2"]
    eye = np.eye(outputs.shape[1])
    slope = (1 - hidden**2)[:, None, :] * wide["kernel_2"].T
    parts = [
        np.einsum("bd,bch->bcdh", x, slope),
        slope,
        np.einsum("bh,ck->bchk", hidden, eye),
        np.broadcast_to(eye, (len(x), *eye.shape)),
    ]
    flat = [part.reshape(*outputs.shape, -1) for part in parts]
    return np.concatenate(flat, axis=2), outputs


def _softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def _with_one(x: np.ndarray) -> np.ndarray:
    return np.hstack([x, np.ones((len(x), 1))]).astype(np.float64)
