"""The memory that there is, and what is said where it does not suffice."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hoarfrost.checks import is_whole, shown
from hoarfrost.errors import InvalidArgumentError, MemoryLimitError


def check_memory_budget(memory_budget: Any) -> None:
    """Raise `InvalidArgumentError` unless it is None or a positive whole number of bytes."""
    if memory_budget is None:
        return
    if not is_whole(memory_budget, 1) or int(memory_budget) >= 2**63:
        raise InvalidArgumentError(
            f"memory_budget is {shown(memory_budget)}; give a positive whole number of bytes below "
            "2**63, or None for what the machine has"
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


@contextlib.contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """Where NumPy or JAX finds no room for an array of `what`, a `MemoryLimitError` says so."""
    try:
        yield
    except MemoryLimitError:
        raise
    except (MemoryError, RuntimeError) as error:
        needed = _asked_for(error)
        if needed is None:
            raise
        available = available_bytes()
        rest = "" if available is None else f", and there are {format_bytes(available)}"
        size = format_bytes(needed) if needed else "more memory than it got"
        raise MemoryLimitError(
            f"{what} needs {size}{rest}; give fewer inputs or samples at once, train fewer "
            "parameters, or use hessian_structure='diag'",
            needed,
            available,
        ) from error


def _asked_for(error: BaseException) -> int | None:
    """Bytes of the allocation that failed, 0 where it does not say, None for any other error."""
    if isinstance(error, MemoryError):
        # NumPy's own has the size, a plain one has not.
        return int(getattr(error, "_total_size", 0))
    if "RESOURCE_EXHAUSTED" not in str(error):
        return None
    found = re.search(r"allocat\w* (\d+) bytes", str(error))
    return 0 if found is None else int(found[1])


def available_bytes() -> int | None:
    """Bytes that this process may still take.

    The least of what the machine has, its control group, and the limits on its address space.
    """
    found = [_machine_bytes(), *_group_bytes(), *_limit_bytes()]
    return min((value for value in found if value is not None), default=None)


def _machine_bytes() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _limit_bytes() -> list[int | None]:
    """What RLIMIT_AS and RLIMIT_DATA (``ulimit -v``, ``ulimit -d``) leave."""
    try:
        import resource

        limits = [
            resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)
        ]
        if all(limit == resource.RLIM_INFINITY for limit in limits):
            return []
        # In pages: all of the address space, ..., and sixth data with stack.
        pages = [int(word) for word in Path("/proc/self/statm").read_text().split()]
        used = [count * resource.getpagesize() for count in (pages[0], pages[5])]
    except (ImportError, OSError, ValueError, IndexError):
        return []
    return [
        max(0, limit - taken)
        for limit, taken in zip(limits, used, strict=True)
        if limit != resource.RLIM_INFINITY
    ]


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
