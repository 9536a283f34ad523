"""Child processes for fault tests, and how many faults each of them sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_addoption(parser):
    parser.addoption(
        "--faults-full",
        action="store_true",
        help="30 limits of memory, 30 moments of SIGINT, and every structure",
    )


@pytest.fixture
def full(request):
    return request.config.getoption("--faults-full", default=False)


@pytest.fixture
def child():
    """Run a file of this folder; gives the line of JSON that it ends with."""

    def run(name, *arguments, timeout=60, optimised=False):
        done = subprocess.run(
            [sys.executable, str(HERE / name), *map(str, arguments)],
            env={**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": str(int(not optimised))},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"exit {done.returncode} after {done.stderr[-1500:]}"
        return json.loads(done.stdout.splitlines()[-1])

    return run
