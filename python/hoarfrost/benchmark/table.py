"""The table: one row for each case and operation, one column for each contestant."""

from __future__ import annotations

from hoarfrost.benchmark.processes import Contestant
from hoarfrost.benchmark.record import CEILING, OURS, Measured
from hoarfrost.benchmark.summary import (
    ERRORS,
    LABELS,
    STAGES,
    ceiling,
    jax_share,
    operations,
    ours,
    theirs,
)

LEGEND = """\
Times are medians in seconds; "x" is the median of the paired ratios, theirs / ours: above 1 ours is
faster (or takes less memory). BLAS: GFLOP/s of SciPy's dsyrk, dpotrf and dtrsm in float64 for the
same mix of work, and the share of it that ours reaches. Memory is the peak beyond the inputs of a
process of its own (of the device for a GPU); JAX's fit gives its sum up to the factor, ours keeps
it. Errors are relative to float64 NumPy and SciPy.
plain: jacrev, einsum over Jacobians, cholesky. expert: the layer's structure, Z^T Z, triangular
solves. tuned: expert with the lower triangle of Z^T Z alone, solves that skip zeros, and for later
functional covariances a cached inverse whose making is not timed."""


def render(results: list[Measured], contestants: list[Contestant]) -> str:
    """All cases in one aligned table, and below it the reasons for empty cells."""
    notes: list[str] = []
    rows = [["", "ours", *(contestant.key for contestant in contestants), "BLAS"]]
    for measured in results:
        rows.append([measured.case.title])
        rows += _time_rows(measured, contestants, notes)
        rows += _memory_rows(measured, contestants)
        rows += _error_rows(measured, contestants)
        share = jax_share(measured)
        if share is not None:
            notes.append(
                f"{measured.case.name}: of the fit's wall time {share:.0%} is not the core's "
                "products: JAX's passes and the factor"
            )
    lines = _aligned(rows)
    return "\n".join([*lines, "", *_numbered(notes), LEGEND])


def _time_rows(
    measured: Measured, contestants: list[Contestant], notes: list[str]
) -> list[list[str]]:
    rows = []
    for operation in operations(measured):
        mine = ours(measured, operation)
        shown = _reason(measured, OURS, operation, notes) if mine is None else _seconds(mine)
        row = [f"  {LABELS[operation]}", shown]
        for contestant in contestants:
            found = theirs(measured, contestant.key, operation)
            row.append(
                f"{_seconds(found[0])} {_ratio(found[1])}"
                if found
                else _reason(measured, contestant, operation, notes)
            )
        found = ceiling(measured, operation)
        row.append(f"{found[0]:.0f} {found[1]:.0%}" if found else "-")
        rows.append(row)
    return rows


def _reason(measured: Measured, contestant: Contestant, operation: str, notes: list[str]) -> str:
    """The number of the note that says why a cell is empty."""
    failures = measured.failures.get(contestant.key, {})
    name = operation.removesuffix("_first").removesuffix("_cold")
    for key in ("all", "fit", name):
        if key in failures:
            note = f"{measured.case.name}, {contestant.key}, {key}: {failures[key]}"
            if note not in notes:
                notes.append(note)
            return f"({notes.index(note) + 1})"
    return "-"


def _memory_rows(measured: Measured, contestants: list[Contestant]) -> list[list[str]]:
    mine = measured.peaks.get(OURS.key, {})
    rows = []
    for stage, label in STAGES.items():
        if stage not in mine:
            continue
        row = [f"  {label}", _megabytes(mine[stage])]
        for contestant in contestants:
            peak = measured.peaks.get(contestant.key, {}).get(stage)
            row.append(
                "-" if peak is None else f"{_megabytes(peak)} {_ratio(peak / max(mine[stage], 1))}"
            )
        rows.append([*row, "-"])
    return rows


def _error_rows(measured: Measured, contestants: list[Contestant]) -> list[list[str]]:
    rows = []
    for name, label in ERRORS.items():
        cells = [
            measured.errors.get(contestant.key, {}).get(name) for contestant in (OURS, *contestants)
        ]
        if any(cell is not None for cell in cells):
            shown = ["-" if cell is None else f"{cell:.0e}" for cell in cells]
            rows.append([f"  {label}", *shown, "-"])
    reason = measured.failures.get(CEILING.key, {})
    return rows or [[f"  no float64 reference: {next(iter(reason.values()), 'not asked for')}"]]


def _aligned(rows: list[list[str]]) -> list[str]:
    """Columns as wide as their widest cell; a row of one cell is a heading."""
    full = [row for row in rows if len(row) > 1]
    widths = [max(len(row[column]) for row in full) for column in range(len(full[0]))]
    lines = []
    for row in rows:
        if len(row) == 1:
            lines.append(row[0])
            continue
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]).rstrip())
    return lines


def _numbered(notes: list[str]) -> list[str]:
    lines = [f"({number}) {note}" for number, note in enumerate(notes, 1)]
    return [*lines, ""] if lines else []


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _ratio(value: float) -> str:
    return f"{value:.2f}x" if value < 10 else f"{value:.0f}x"


def _megabytes(value: int) -> str:
    return f"{value / 1e6:,.0f} MB"
