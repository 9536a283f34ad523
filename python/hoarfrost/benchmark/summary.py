"""From raw figures to what the table says: medians, paired ratios, shares of the ceiling."""

from __future__ import annotations

from statistics import median
from typing import Any

from hoarfrost.benchmark.record import (
    CEILING,
    Measured,
    first_operations,
    later_operations,
)
from hoarfrost.benchmark.work import ceiling_flops, needed_flops

LABELS = {
    "fit_first": "assemble + factor, first call",
    "fit_cold": "same, against JAX's later calls",
    "fit": "assemble + factor, later calls",
    "sample": "200 samples",
    "functional_first": "functional covariance, first call",
    "functional_fresh": "functional covariance, new posterior",
    "functional": "functional covariance, later calls",
    "new_prior": "evidence for a new prior",
    "tune": "prior of the largest evidence (JAX: 20 factors)",
    "core_products": "products of the rows, the core alone",
    "cholesky_first": "Cholesky, first call",
    "cholesky": "Cholesky, later calls",
}
# The last first call that has been made when a process's peak memory is read.
STAGES = {
    "sample": "peak memory: fit, evidence, samples",
    "functional": "... and functional covariance",
    "new_prior": "... and a new prior",
}
ERRORS = {
    "evidence": "error of log |A|",
    "new_prior": "error of log |A|, new prior",
    "functional": "error of functional covariance",
}


def operations(measured: Measured) -> list[str]:
    """Rows of a case's times, in order."""
    case = measured.case
    first = [f"{name}_first" for name in first_operations(case)]
    wanted = {*first, *later_operations(case)}
    if "fit" in wanted:
        wanted.add("fit_cold")
    if case.kind == "network":
        wanted.add("core_products")
    return [name for name in LABELS if name in wanted]


def ours(measured: Measured, operation: str) -> float | None:
    """Median seconds of ours over all pairs that it was in."""
    operation = operation.replace("_cold", "_first")
    seconds = [pair[0] for pairs in measured.pairs.values() for pair in pairs.get(operation, [])]
    return median(seconds) if seconds else None


def theirs(measured: Measured, contestant: str, operation: str) -> tuple[float, float] | None:
    """A contestant's median seconds, and the median of the paired ratios theirs / ours."""
    pairs = measured.pairs.get(contestant, {})
    if operation.endswith("_cold"):
        # Our first calls beside their later ones: not pairs, so a ratio of medians.
        cold = ours(measured, operation)
        later = pairs.get(operation.replace("_cold", ""))
        if cold is None or not later:
            return None
        seconds = median(pair[1] for pair in later)
        return seconds, seconds / cold
    found = pairs.get(operation)
    if not found:
        return None
    return median(pair[1] for pair in found), median(pair[1] / pair[0] for pair in found)


def ceiling(measured: Measured, operation: str) -> tuple[float, float] | None:
    """GFLOP/s of BLAS on the same mix of work, and the share of it that ours reaches.

    The share is the time that BLAS would take for the flops needed, at its median rate while it
    ran in turn with ours, divided by our median in the same pairs.
    """
    if operation.endswith("_cold"):
        return None
    needed = needed_flops(measured.case, operation)
    flops = ceiling_flops(measured.case)
    pairs = measured.pairs.get(CEILING.key, {}).get(operation)
    if not measured.kernels or not set(needed) <= set(flops):
        return None
    seconds = sum(needed[name] * median(measured.kernels[name]) / flops[name] for name in needed)
    mine = median(pair[0] for pair in pairs) if pairs else ours(measured, operation)
    if mine is None:
        return None
    return sum(needed.values()) / seconds / 1e9, seconds / mine


def jax_share(measured: Measured) -> float | None:
    """Share of a network's fit that is not the core's products: JAX's passes and the factor."""
    core, fit = ours(measured, "core_products"), ours(measured, "fit")
    return None if core is None or fit is None else 1 - core / fit


def as_dict(measured: Measured, contestants: list[str]) -> dict[str, Any]:
    """A case for the JSON file: raw samples, and the figures of the table."""
    case = measured.case
    times: dict[str, Any] = {}
    for operation in operations(measured):
        row: dict[str, Any] = {"ours": ours(measured, operation)}
        for contestant in contestants:
            found = theirs(measured, contestant, operation)
            if found is not None:
                row[contestant] = {"seconds": found[0], "ratio": found[1]}
        found = ceiling(measured, operation)
        if found is not None:
            row["ceiling"] = {"gflops": found[0], "share": found[1]}
        times[operation] = row
    return {
        "case": case.name,
        "title": case.title,
        "num_params": case.num_params,
        "times": times,
        "peak_bytes": measured.peaks,
        "relative_errors": measured.errors,
        "failures": measured.failures,
        "samples": {"pairs": measured.pairs, "kernels": measured.kernels},
        "about": measured.about,
    }
