"""The compiled core as Python meets it: threads, interrupts, forks, arrays, errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from hoarfrost import _core, errors

RNG = np.random.default_rng(0)


def run_python(code: str, **environment: str) -> str:
    """What `code` prints when it runs in a fresh interpreter."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def head(classes: int = 3, features: int = 5, points: int = 50) -> _core.HeadCurvature:
    curvature = _core.HeadCurvature("softmax", classes, features)
    curvature.add(RNG.normal(size=(points, features)), RNG.normal(size=(points, classes)))
    return curvature


def test_same_bits_for_any_number_of_threads() -> None:
    code = """
        import hashlib, json
        import numpy as np
        from hoarfrost import _core
        rng = np.random.default_rng(0)
        head = _core.HeadCurvature("softmax", 4, 150)
        head.add(rng.normal(size=(2500, 150)), rng.normal(size=(2500, 4)))
        a = head.factor(np.ones(600))
        dense = _core.FullCurvature(600)
        dense.add_rows(rng.normal(size=(900, 600)).astype(np.float32))
        b = dense.factor(np.ones(600))
        order = np.arange(600)
        parts = [a.variance(), a.sample(1, 5), a.covariance(order), a.precision(order),
                 a.functional_covariance(rng.normal(size=(70, 150))), b.variance(),
                 b.sample(1, 5), b.covariance(order), np.array([a.log_det(), b.log_det()])]
        digests = [hashlib.sha256(part.tobytes()).hexdigest() for part in parts]
        print(json.dumps([_core.num_threads(), digests]))
    """
    runs = [json.loads(run_python(code, RAYON_NUM_THREADS=str(n))) for n in (1, 2, 3)]
    assert [threads for threads, _ in runs] == [1, 2, 3]
    assert runs[0][1] == runs[1][1] == runs[2][1]


def test_importing_starts_no_thread_and_no_backend() -> None:
    code = """
        import threading, os
        import hoarfrost
        from jax._src import xla_bridge
        names = [open(f"/proc/self/task/{t}/comm").read() for t in os.listdir("/proc/self/task")]
        print(any("hoarfrost" in name for name in names), xla_bridge.backends_are_initialized())
    """
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("needs /proc to list threads")
    assert run_python(code).split() == ["False", "False"]


def test_a_forked_child_can_use_the_core() -> None:
    code = """
        import os, warnings
        import numpy as np
        from hoarfrost import _core
        def work():
            head = _core.HeadCurvature("softmax", 3, 200)
            head.add(np.ones((3000, 200)), np.zeros((3000, 3)))
            return head.factor(np.ones(600)).log_det()
        before = work()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            child = os.fork()
        if child == 0:
            os._exit(0 if work() == before else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), work() == before)
    """
    assert run_python(code).split() == ["0", "True"]


def test_ctrl_c_stops_long_work_and_the_process_goes_on() -> None:
    code = """
        import numpy as np
        from hoarfrost import _core
        small = _core.FullCurvature(50)
        small.add_rows(np.eye(50))
        rows = np.ones((6_000, 9_000), dtype=np.float32)
        large = _core.FullCurvature(9_000)
        print("ready", flush=True)
        try:
            large.add_rows(rows)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        try:
            large.factor(np.ones(9_000))
        except Exception as error:
            print(type(error).__name__)
        print(np.isclose(small.factor(np.ones(50)).log_det(), 50 * np.log(2.0)))
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(1.0)  # past the check of the rows, which changes nothing
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        rest = process.stdout.read().split()
    assert rest == ["CurvatureStateError", "True"]


def test_ctrl_c_stops_a_factorisation_and_loses_nothing() -> None:
    code = """
        import os, signal
        import numpy as np
        from hoarfrost import _core
        size = 2_000
        curvature = _core.FullCurvature(size)
        curvature.add_rows(np.ones((1, size), dtype=np.float32))
        seen = []
        def ctrl_c(done):
            seen.append(done)
            os.kill(os.getpid(), signal.SIGINT)
        try:
            curvature.factor(np.ones(size), progress=ctrl_c)
        except KeyboardInterrupt:
            # By the next round at the latest, with most of the work not done.
            print(len(seen) <= 2, seen[-1] < size**3 / 6)
        # |I + 1 1^T| = 1 + P
        print(abs(curvature.factor(np.ones(size)).log_det() - np.log1p(size)) < 1e-9)
    """
    assert run_python(code).split() == ["True"] * 3


def test_a_child_forked_while_a_thread_works_can_use_the_core() -> None:
    code = """
        import os, threading, warnings
        import numpy as np
        from hoarfrost import _core
        inside, go_on = threading.Event(), threading.Event()
        def wait(done):
            inside.set()
            go_on.wait()
        def work(progress=None):
            curvature = _core.FullCurvature(600)
            curvature.add_rows(np.ones((1, 600), dtype=np.float32))
            return curvature.factor(np.ones(600), progress=progress).log_det()
        before = work()
        thread = threading.Thread(target=work, args=(wait,))
        thread.start()
        inside.wait()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            child = os.fork()
        if child == 0:
            os._exit(0 if work() == before else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        go_on.set()
        thread.join()
    """
    assert run_python(code).split() == ["0"]


def test_memory_that_the_system_refuses_is_an_error_for_every_structure() -> None:
    code = """
        import resource
        import numpy as np
        from hoarfrost import _core, errors
        _core.num_threads()
        head = _core.HeadCurvature("softmax", 3, 3_000)
        head.add(np.ones((4, 3_000)), np.zeros((4, 3)))
        gram = _core.HeadCurvature("independent", 1, 3_000)
        gram.add(np.ones((4, 3_000)), np.ones((4, 1)))
        dense = _core.FullCurvature(3_000)
        dense.add_rows(np.ones((4, 3_000)))
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        for factor in (
            lambda: head.factor(np.ones(9_000)),
            lambda: gram.kronecker(np.ones(3_000)),
            lambda: dense.factor(np.ones(3_000)),
            lambda: _core.FullCurvature(3_000),
        ):
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 20 * 2**20, hard))
            try:
                factor()
            except errors.MemoryLimitError as error:
                print(error.bytes_needed > 2**24)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        print(abs(dense.factor(np.ones(3_000)).log_det() - np.log1p(12_000)) < 1e-9)
    """
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("needs /proc to tell the address space")
    assert run_python(code).split() == ["True"] * 5


def test_a_failed_allocation_is_an_error() -> None:
    with pytest.raises(errors.MemoryLimitError, match="could not allocate") as caught:
        _core.FullCurvature(30_000_000)
    assert isinstance(caught.value, MemoryError)
    assert caught.value.bytes_needed > 10**15
    with pytest.raises(errors.MemoryLimitError, match="curvature of a layer"):
        _core.HeadCurvature("softmax", 20_000, 50_000)


def test_a_matrix_that_is_not_positive_definite_names_its_pivot() -> None:
    curvature = _core.FullCurvature(300)
    row = np.zeros((1, 300))
    row[0, 100:102] = 1e9
    curvature.add_rows(row)
    with pytest.raises(
        errors.NotPositiveDefiniteError, match="pivot 101 is not positive"
    ) as caught:
        curvature.factor(np.full(300, 1e-6))
    assert isinstance(caught.value, np.linalg.LinAlgError)
    assert caught.value.pivot == 101
    expected = 20 * 300 * np.finfo(float).eps * 1e18
    assert caught.value.least_prior_precision == pytest.approx(expected, rel=1e-12)
    least = caught.value.least_prior_precision
    assert curvature.factor(np.full(300, least)).num_params == 300


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_a_prior_precision_must_be_positive(value: float) -> None:
    prior = np.ones(15)
    prior[7] = value
    for curvature in (head(), _core.FullCurvature(15), _core.DiagonalCurvature(15)):
        with pytest.raises(errors.InvalidArgumentError, match=r"positive and finite.*parameter 7"):
            curvature.factor(prior)


def test_shapes_are_checked() -> None:
    curvature = head()
    with pytest.raises(errors.ShapeError, match="features: expected 5, got 4"):
        curvature.add(np.ones((2, 4)), np.ones((2, 3)))
    with pytest.raises(errors.ShapeError, match="outputs: expected 3, got 2"):
        curvature.add(np.ones((2, 5)), np.ones((2, 2)))
    with pytest.raises(errors.ShapeError, match="outputs: expected 6, got 9"):
        curvature.add(np.ones((2, 5)), np.ones((3, 3)))
    with pytest.raises(errors.ShapeError, match="prior_precision: expected 15, got 3"):
        curvature.factor(np.ones(3))
    posterior = curvature.factor(np.ones(15))
    with pytest.raises(errors.ShapeError, match="order"):
        posterior.covariance(np.zeros(15, dtype=int))
    with pytest.raises(errors.ShapeError, match="order"):
        posterior.precision(np.full(15, -1))
    with pytest.raises(errors.ShapeError, match="jacobian"):
        _core.DiagonalCurvature(4).factor(np.ones(4)).functional_covariance(np.ones((1, 4)))


def test_non_finite_input_adds_nothing() -> None:
    curvature = head()
    before = curvature.factor(np.ones(15)).log_det()
    bad = np.ones((2, 5))
    bad[1, 3] = np.nan
    with pytest.raises(errors.NonFiniteError, match="row 1, column 3"):
        curvature.add(bad, np.ones((2, 3)))
    assert curvature.num_data == 50
    assert curvature.factor(np.ones(15)).log_det() == before


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
def test_any_array_works(dtype: type) -> None:
    x = RNG.integers(-3, 4, size=(40, 10)).astype(dtype)
    logits = RNG.integers(-3, 4, size=(40, 3)).astype(np.float64)

    def log_det(features: np.ndarray) -> float:
        curvature = _core.HeadCurvature("softmax", 3, 5)
        curvature.add(features, logits)
        return curvature.factor(np.ones(15)).log_det()

    expected = log_det(np.ascontiguousarray(x[:, ::2], dtype=np.float64))
    frozen = np.ascontiguousarray(x[:, ::2])
    frozen.flags.writeable = False
    assert log_det(frozen) == expected
    assert log_det(x[:, ::2]) == expected
    assert log_det(np.asfortranarray(x[:, ::2])) == expected


def test_empty_input_is_no_data() -> None:
    curvature = _core.HeadCurvature("independent", 2, 3)
    curvature.add(np.empty((0, 3)), np.empty((0, 2)))
    posterior = curvature.factor(np.full(6, 2.0))
    assert curvature.num_data == 0
    assert posterior.log_det() == pytest.approx(6 * np.log(2.0))
    assert posterior.functional_variance(np.empty((0, 3))).shape == (0, 2)
    assert posterior.sample(0, 0).shape == (0, 6)


def test_a_curvature_factored_in_place_is_gone() -> None:
    curvature = _core.FullCurvature(4)
    curvature.add_rows(np.eye(4))
    with pytest.raises(errors.InvalidArgumentError):
        curvature.factor(np.zeros(4), keep=False)
    assert curvature.factor(np.ones(4), keep=False).log_det() == pytest.approx(4 * np.log(2.0))
    with pytest.raises(errors.CurvatureStateError, match="given up when it was factored"):
        curvature.factor(np.ones(4))


def test_progress_sees_the_work_and_its_errors_come_through() -> None:
    curvature = _core.FullCurvature(1500)
    curvature.add_rows(np.eye(1500, dtype=np.float32))
    seen: list[float] = []
    curvature.factor(np.ones(1500), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] > 1500**3 / 3

    def fail(done: float) -> None:
        raise RuntimeError("from the callback")

    with pytest.raises(RuntimeError, match="from the callback"):
        curvature.factor(np.ones(1500), progress=fail)


def test_negative_curvature_is_refused() -> None:
    curvature = _core.HeadCurvature("independent", 2, 3)
    with pytest.raises(errors.InvalidArgumentError, match=r"must not be negative.*row 1, output 0"):
        curvature.add(np.ones((2, 3)), np.array([[1.0, 1.0], [-1.0, 1.0]]))
