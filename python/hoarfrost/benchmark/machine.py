"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

from hoarfrost.benchmark.memory import available_bytes


def describe(threads: int, about: dict[str, str], gpu: str | None) -> dict[str, str]:
    """Machine, date, versions and command, in words."""
    available = available_bytes()
    versions = ", ".join(
        f"{name} {version}" for name, version in about.items() if name not in ("platform", "device")
    )
    held = "" if hasattr(os, "sched_setaffinity") else " (thread pools only: no core affinity here)"
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}"
        + (f", {available / 2**30:.0f} GiB free" if available else ""),
        "threads": f"{threads}{held}",
        **({"gpu": gpu} if gpu else {}),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": versions,
        "command": f"python -m hoarfrost.benchmark {shlex.join(sys.argv[1:])}".rstrip(),
    }


def default_threads() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
