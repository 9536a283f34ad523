"""The benchmark, end to end on its smallest case. No time is asserted, only that there is one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from commands import CASE as SMALLEST
from commands import Run

from hoarfrost.benchmark import __main__ as command
from hoarfrost.benchmark.cases import CASES, params_of, read_inputs, write_inputs
from hoarfrost.benchmark.measure import measure
from hoarfrost.benchmark.processes import Contestant, Worker, WorkerError, has_gpu
from hoarfrost.benchmark.record import Measured, Settings
from hoarfrost.benchmark.table import render
from hoarfrost.benchmark.work import needed_flops

BASELINES = {"plain float32", "expert float32", "expert float64"}
TIMES = {
    "fit_first",
    "fit_cold",
    "fit",
    "sample",
    "functional_first",
    "functional_fresh",
    "functional",
    "new_prior",
    "tune",
}


@pytest.fixture(scope="module")
def quick(quick_run: Callable[[str], Run]) -> tuple[str, dict[str, Any]]:
    """What a quick run prints and writes."""
    done = quick_run("hoarfrost.benchmark")
    assert done.code == 0, done.stderr
    return done.stdout, json.loads((done.folder / "figures.json").read_text())


def test_a_gpu_is_found_where_jax_has_one() -> None:
    assert has_gpu() == (jax.default_backend() in ("gpu", "cuda", "rocm"))


def test_every_figure_is_there(quick: tuple[str, dict[str, Any]]) -> None:
    _, figures = quick
    for name in ("machine", "threads", "date", "versions", "command"):
        assert figures[name]
    [case] = figures["cases"]
    assert (case["case"], case["num_params"], case["failures"]) == (SMALLEST, 650, {})
    assert set(case["times"]) == TIMES
    for operation, row in case["times"].items():
        assert row["ours"] > 0
        for baseline in BASELINES:
            assert row[baseline]["seconds"] > 0 and row[baseline]["ratio"] > 0
        if operation != "fit_cold":
            assert row["ceiling"]["gflops"] > 0 and row["ceiling"]["share"] > 0
    assert set(case["peak_bytes"]) == {"ours", *BASELINES}
    for stages in case["peak_bytes"].values():
        assert 0 < stages["fit"] <= stages["sample"] <= stages["functional"]


def test_the_ratio_is_the_median_of_paired_ratios(quick: tuple[str, dict[str, Any]]) -> None:
    [case] = quick[1]["cases"]
    pairs = case["samples"]["pairs"]
    assert set(pairs) == {"ceiling", *BASELINES}
    for baseline in BASELINES:
        for operation in ("fit", "sample", "new_prior"):
            assert len(pairs[baseline][operation]) == 2
            ratios = [theirs / ours for ours, theirs in pairs[baseline][operation]]
            assert case["times"][operation][baseline]["ratio"] == pytest.approx(np.median(ratios))


def test_everybody_agrees_with_the_reference(quick: tuple[str, dict[str, Any]]) -> None:
    [case] = quick[1]["cases"]
    errors = case["relative_errors"]
    eps = {"ours": 2**-52, "expert float64": 2**-52}
    for contestant in ("ours", *BASELINES):
        for name in ("evidence", "new_prior", "functional"):
            # P eps; the features' second moment makes A's condition number about 1e4.
            tolerance = 100 * 650 * eps.get(contestant, 2.0**-23)
            assert errors[contestant][name] < tolerance, (contestant, name)


def test_the_table_has_a_row_for_each_operation(quick: tuple[str, dict[str, Any]]) -> None:
    printed, figures = quick
    assert figures["command"] in printed and CASES[SMALLEST].title in printed
    rows = [line for line in printed.splitlines() if line.startswith("  ")]
    labels = [line.strip() for line in rows]
    for label in ("assemble + factor, later calls", "200 samples", "peak memory", "error of log"):
        assert any(row.startswith(label) for row in labels), label
    for row in labels:
        if row.startswith(("200 samples", "functional covariance", "peak memory")):
            assert len(re.findall(r"[\d.]+x", row)) == len(BASELINES), row


def test_with_a_gpu_the_same_baselines_have_columns_of_their_own(tmp_path: Path) -> None:
    keys = [contestant.key for contestant in command._contestants(gpu=True, quick=True)]
    on_gpu = [f"{name} float{bits} gpu" for name in ("plain", "expert") for bits in (32, 64)]
    assert keys == ["plain float32", "expert float32", "expert float64", *on_gpu]
    # A contestant of the GPU runs on JAX's default device, which may be the CPU.
    case, expert = CASES[SMALLEST], Contestant("expert", "float32", "gpu")
    write_inputs(case, tmp_path / f"{SMALLEST}.npz")
    settings = Settings(
        threads=1, repeats=1, first_rounds=1, limit=60.0, patience=1.0, folder=tmp_path
    )
    measured = measure(case, [expert], settings)
    assert measured.failures == {} and measured.about[expert.key]["device"]
    rows = render([measured], [expert]).splitlines()
    assert "expert float32 gpu" in rows[0]
    [row] = [row for row in rows if row.strip().startswith("200 samples")]
    assert re.search(r"[\d.]+x", row)


def test_list_names_every_case_and_which_are_on_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(CASES)
    [long] = [line for line in lines if line.startswith("long")]
    assert "P = 20,490" in long and long.endswith("[only when named]")
    assert "long" not in command._default_names(quick=False)


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--case", "softmax"])
    assert "invalid choice: 'softmax'" in capsys.readouterr().err


def test_a_baseline_that_is_left_out_gets_a_note() -> None:
    measured = Measured(CASES[SMALLEST])
    plain = Contestant("plain", "float32")
    measured.fail(plain, "fit", "left out: about 900 s (--limit 180)")
    printed = render([measured], [plain])
    assert "(1) softmax-64x10, plain float32, fit: left out: about 900 s" in printed
    row = next(line for line in printed.splitlines() if "200 samples" in line)
    assert row.split()[-2] == "(1)"


def test_a_failing_operation_is_an_error_with_its_message(tmp_path: Path) -> None:
    write_inputs(CASES["binary"], tmp_path / "binary.npz")
    worker = Worker(Contestant("ceiling"), "binary", tmp_path, threads=1, limit=60.0)
    try:
        with pytest.raises(WorkerError, match="no attribute 'missing'"):
            worker.run("missing")
        assert worker.run("syrk")["seconds"] > 0
        worker._process.kill()
        with pytest.raises(WorkerError, match="killed by the system"):
            worker.run("syrk")
    finally:
        worker.close()


def test_logits_are_exact_in_float32(tmp_path: Path) -> None:
    # What makes errors comparable: every contestant has the same logits, in any order of sums.
    case = CASES["softmax-384x12"]
    write_inputs(case, tmp_path / "inputs.npz")
    inputs = read_inputs(tmp_path / "inputs.npz")
    params = params_of(inputs)
    narrow = inputs["x"] @ params["kernel"] + params["bias"]
    wide = inputs["x"].astype(np.float64) @ params["kernel"].astype(np.float64) + params["bias"]
    assert narrow.dtype == np.float32
    np.testing.assert_array_equal(narrow, wide)
    assert 1.5 < wide.std() < 5
    assert inputs["points"].shape == (1_000, 384) and len(np.unique(inputs["y"])) == 12


def test_flops_of_the_first_target() -> None:
    # The arithmetic of the design: 45 blocks x 10,000 x 513^2, and 4,617^3 / 3.
    needed = needed_flops(CASES["softmax-512x10"], "fit")
    assert needed["syrk"] == 45 * 10_000 * 513**2
    assert needed["potrf"] == pytest.approx(4_617**3 / 3)
