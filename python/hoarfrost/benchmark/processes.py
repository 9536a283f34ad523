"""Child processes of the benchmark: started on given cores, asked for one operation at a time."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoarfrost.errors import HoarfrostError

START_SECONDS = 600.0


class WorkerError(HoarfrostError, RuntimeError):
    """A contestant failed, ran out of memory, or took too long; the message goes into its cell."""


class OursError(HoarfrostError, RuntimeError):
    """Ours could not fit a case: there is nothing to compare."""


@dataclass(frozen=True)
class Contestant:
    """Who runs: ours, a JAX baseline with its precision and device, or the ceiling."""

    name: str
    precision: str = ""
    device: str = "cpu"

    @property
    def key(self) -> str:
        """The name in tables and files."""
        gpu = "" if self.device == "cpu" else "gpu"
        return " ".join(part for part in (self.name, self.precision, gpu) if part)

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return 4 if self.precision == "float32" else 8


class Worker:
    """A running contestant."""

    def __init__(
        self, contestant: Contestant, case: str, folder: Path, threads: int, limit: float
    ) -> None:
        self.contestant, self.limit = contestant, limit
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self.answers = folder / f"{contestant.key.replace(' ', '-')}-answers.npz"
        request = {
            "contestant": contestant.name,
            "case": case,
            "folder": str(folder),
            "answers": self.answers.name,
        }
        with _cores(threads):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hoarfrost.benchmark.worker", json.dumps(request)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=_environment(contestant, threads),
                text=True,
            )
        self.about: dict[str, str] = self._read(START_SECONDS)["about"]

    def run(self, operation: str) -> dict[str, Any]:
        """Run an operation once: its seconds and the process's peak memory so far.

        Raises
        ------
        WorkerError
            If it fails or takes longer than the limit; the process may be gone then.
        """
        assert self._process.stdin is not None
        try:
            print(json.dumps({"operation": operation}), file=self._process.stdin, flush=True)
        except OSError:
            raise WorkerError(self._end()) from None
        return self._read(self.limit)

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                with suppress(OSError):  # what was not flushed has no reader
                    pipe.close()
        self._log.close()

    def _read(self, limit: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(limit):
                self._process.kill()
                raise WorkerError(f"over {limit:,.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(self._end())
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply

    def _end(self) -> str:
        """Why the process is gone."""
        code = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        if code == -9:
            return "killed by the system, probably out of memory"
        return f"ended with code {code}: {lines[-1] if lines else 'no message'}"


def has_gpu() -> bool:
    """Whether JAX finds a GPU, asked in a process of its own."""
    code = "import jax; print(jax.default_backend())"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip().endswith(("gpu", "cuda", "rocm"))


def _environment(contestant: Contestant, threads: int) -> dict[str, str]:
    """Every thread pool held to the same number of threads."""
    names = ("RAYON", "OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM", "BLIS")
    own = {f"{name}_NUM_THREADS": str(threads) for name in names}
    own["NPROC"] = str(threads)  # XLA's own pool
    if contestant.device == "cpu":
        own["JAX_PLATFORMS"] = "cpu"
    own["JAX_ENABLE_X64"] = "1" if contestant.precision == "float64" else "0"
    own["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    return {**os.environ, **own}


@contextmanager
def _cores(threads: int) -> Iterator[None]:
    """Children started inside have `threads` cores and no more, from before their first import."""
    if not hasattr(os, "sched_setaffinity"):  # macOS: the thread pools' sizes have to do
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(before)[:threads]))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
