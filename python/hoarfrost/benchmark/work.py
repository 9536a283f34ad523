"""How much work and memory a case is: for the ceiling's share, and for planning baselines."""

from __future__ import annotations

from dataclasses import dataclass

from hoarfrost.benchmark.cases import GRID, NUM_POINTS, NUM_SAMPLES, Case

# Rows of the ceiling's symmetric product: deep enough to run at full speed.
SYRK_DEPTH = 4_096


@dataclass(frozen=True)
class CeilingSizes:
    """Edges of the ceiling's product and factor; a product of at most `depth` rows."""

    panel_edge: int
    depth: int
    edge: int


def ceiling_sizes(case: Case) -> CeilingSizes:
    """The sizes at which BLAS is measured."""
    if case.kind == "cholesky":
        return CeilingSizes(0, 0, case.num_params)
    if case.kind == "network":
        depth = case.num_data * (case.num_outputs - 1)
        return CeilingSizes(case.num_params, depth, case.num_params)
    edge = case.num_features * (case.num_outputs - 1 if case.kind == "softmax" else 1)
    return CeilingSizes(case.num_features, case.num_data, edge)


def ceiling_flops(case: Case) -> dict[str, float]:
    """Flops of each of the ceiling's kernels as it is measured."""
    sizes = ceiling_sizes(case)
    flops = {"potrf": sizes.edge**3 / 3, "trsm": float(NUM_SAMPLES) * sizes.edge**2}
    if sizes.panel_edge:
        flops["syrk"] = min(sizes.depth, SYRK_DEPTH) * float(sizes.panel_edge) ** 2
    return flops


def needed_flops(case: Case, operation: str) -> dict[str, float]:
    """Flops that an operation needs, by the kernel whose rate is its ceiling.

    A softmax is counted in its ``(C - 1) D'`` contrasts, outputs that do not interact with one
    block each (one for all where they share their weights).
    """
    n = float(ceiling_sizes(case).edge)
    # The first call makes what later ones find.
    operation = {"functional_first": "functional_fresh"}.get(operation, operation)
    operation = operation.removesuffix("_first")
    if operation in ("cholesky", "new_prior"):
        return {"potrf": n**3 / 3}
    if operation == "tune":
        # A trace to start with, then a factor and a trace three times.
        return {"potrf": 7 * n**3 / 3}
    if operation == "sample":
        copies = 1 if case.kind in ("softmax", "network") else case.num_outputs
        return {"trsm": NUM_SAMPLES * n**2 * copies}
    if operation == "core_products":
        return {"syrk": case.num_data * (case.num_outputs - 1) * n**2}
    d, pairs = float(case.num_features), case.num_outputs * (case.num_outputs - 1) / 2
    if operation == "fit":
        products = {
            "softmax": pairs * case.num_data * d**2,
            "network": case.num_data * (case.num_outputs - 1) * n**2,
        }.get(case.kind, case.num_data * d**2)
        return {"syrk": products, "potrf": n**3 / 3}
    if case.kind == "network":
        return {"trsm": NUM_POINTS * case.num_outputs * n**2}
    if case.kind != "softmax":
        return {"trsm": NUM_POINTS * d**2}
    blocks = {"syrk": pairs * NUM_POINTS * d**2}
    return blocks if operation == "functional" else {"trsm": 2 / 3 * n**3, **blocks}


def baseline_flops(case: Case, contestant: str, operation: str) -> float:
    """Flops of an operation as a JAX baseline does it."""
    p, c, count = float(case.num_params), case.num_outputs, float(case.num_data)
    dense = contestant == "plain" or case.kind in ("softmax", "network", "cholesky")
    edge = p if dense else float(case.num_features)
    if operation in ("cholesky", "new_prior"):
        return edge**3 / 3
    if operation == "tune":
        return len(GRID) * edge**3 / 3
    if operation == "sample":
        return NUM_SAMPLES * p * edge
    if operation.startswith("functional"):
        return NUM_POINTS * (c * edge**2 if dense else edge**2)
    rows = count * c if contestant == "plain" or case.kind == "network" else count
    return 2 * rows * edge**2 + edge**3 / 3


def baseline_bytes(case: Case, contestant: str, itemsize: int) -> float:
    """Most memory that a JAX baseline takes beside its inputs."""
    dense = contestant == "plain" or case.kind in ("softmax", "network", "cholesky")
    edge = case.num_params if dense else case.num_features
    # The sum, the product that is added to it or the factor, and a cached inverse.
    matrices = 4 if contestant == "tuned" else 3
    return matrices * itemsize * float(edge) ** 2 + 3 * 2**29
