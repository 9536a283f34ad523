"""The README's commands, cut down to quick runs, each made once for all files that look at it."""

from __future__ import annotations

import fcntl
import os
import pickle
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "console" for line in text.splitlines()]
CASE = "softmax-64x10"  # the benchmark's quickest

# What is put behind a command of the README, by its module, so that it is over soon.
QUICK = {
    "hoarfrost": ["--quick"],
    "hoarfrost.benchmark": [
        *("--quick", "--repeats", "2", "--limit", "180", "--patience", "60"),
        *("--no-gpu", "--threads", "1", "--json", "figures.json"),
    ],
    "hoarfrost.examples.resnet": ["--quick"],
    "hoarfrost.examples.transformer": ["--quick"],
    "hoarfrost.examples.learnt_priors": ["--quick", "--task", "diabetes"],
    "hoarfrost.examples.methods": ["--quick"],
    "hoarfrost.examples.results": ["--quick", "--json", "all.json"],
}
# What lies in the folder of the run before it starts.
BEFORE = {"hoarfrost": {"hoarfrost.png": b"an older picture"}}


@dataclass(frozen=True)
class Run:
    """What a command printed, and the folder in which it ran."""

    code: int
    stdout: str
    stderr: str
    folder: Path


def module_of(command: str) -> str:
    """The module that a command "python -m module ..." runs."""
    return shlex.split(command)[2]


def run(module: str, *arguments: str, folder: Path, cache: Path) -> Run:
    """Run a command in a folder; what JAX compiles is kept in `cache` for the runs after it."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env={
            **os.environ,
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return Run(done.returncode, done.stdout, done.stderr, folder)


def quick_run(module: str, shared: Path) -> Run:
    """The quick run of a module's command as it stands in the README.

    The first that asks runs it, in a folder of `shared`; others, in other processes too, wait and
    get the same.
    """
    [command] = [c for c in COMMANDS if c.startswith("python -m") and module_of(c) == module]
    words = [CASE if word == "softmax-512x10" else word for word in shlex.split(command)[3:]]
    folder, result = shared / module, shared / f"{module}.pickle"
    with (shared / f"{module}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            folder.mkdir()
            for name, content in BEFORE.get(module, {}).items():
                (folder / name).write_bytes(content)
            found = run(module, *words, *QUICK[module], folder=folder, cache=shared / "compiled")
            result.write_bytes(pickle.dumps(found))
        return pickle.loads(result.read_bytes())
