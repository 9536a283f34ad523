"""The memory that there is, and what is said where it does not suffice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hoarfrost.checks import is_whole
from hoarfrost.errors import InvalidArgumentError, MemoryLimitError


def check_memory_budget(memory_budget: Any) -> None:
    """Raise `InvalidArgumentError` unless it is None or a positive whole number of bytes."""
    if memory_budget is None:
        return
    if not is_whole(memory_budget, 1):
        raise InvalidArgumentError(
            f"memory_budget is {memory_budget!r}; give a positive whole number of bytes, or None "
            "for what the machine has"
        )


def check_room(what: str, needed: int, remedy: str, budget: int | None = None) -> None:
    """Raise `MemoryLimitError` where there is no room for what is about to be made.

    The room is what the machine has, or what is left of a budget.
    """
    available = available_bytes() if budget is None else budget
    if available is not None and needed > available:
        raise MemoryLimitError(
            f"{what} needs {format_bytes(needed)}, and there are {format_bytes(available)}; "
            f"{remedy}",
            needed,
            available,
        )


def available_bytes() -> int | None:
    """Bytes that this process may still take: the machine's, or its control group's if fewer."""
    found = [_machine_bytes(), *_group_bytes()]
    return min((value for value in found if value is not None), default=None)


def _machine_bytes() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _group_bytes() -> list[int | None]:
    """What the control groups (version 2, then 1) leave, page cache that can be dropped counted."""
    root = Path("/sys/fs/cgroup")
    files = [("memory.max", "memory.current", "memory.stat", "inactive_file")]
    folder = "memory"
    files.append(
        (
            f"{folder}/memory.limit_in_bytes",
            f"{folder}/memory.usage_in_bytes",
            f"{folder}/memory.stat",
            "total_inactive_file",
        )
    )
    return [
        _left(root / limit, root / usage, root / stat, key) for limit, usage, stat, key in files
    ]


def _left(limit: Path, usage: Path, stat: Path, cache_key: str) -> int | None:
    try:
        allowed = int(limit.read_text())  # "max" where there is no limit: a ValueError
        used = int(usage.read_text())
        pairs = (line.split() for line in stat.read_text().splitlines())
        cache = next((int(value) for key, value in pairs if key == cache_key), 0)
    except (OSError, ValueError):
        return None
    return max(0, allowed - used + cache)


def format_bytes(count: int) -> str:
    """A number of bytes as people read it."""
    if count < 1024:
        return f"{count} B"
    size = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024 or unit == "GiB":
            break
    return f"{size:.1f} {unit}"
