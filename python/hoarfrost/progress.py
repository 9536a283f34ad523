"""Progress bars: one place decides whether and how they are shown."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm.auto import tqdm


def progress_bar(
    iterable: Iterable[Any] | None = None,
    *,
    description: str = "",
    total: int | None = None,
    enabled: bool = True,
    unit: str = "it",
) -> tqdm:
    """A tqdm bar on standard error, silent when `enabled` is false.

    Where standard error is missing, closed, broken or full, the bar is dropped and the work that
    it tells of goes on.

    Parameters
    ----------
    iterable : iterable, optional
        What the bar goes over; without one, call ``update`` on what is returned.
    description : str
        Shown before the bar.
    total : int, optional
        Number of steps, where `iterable` has no length.
    enabled : bool
        Whether anything is printed.
    unit : str
        What one step is called.
    """
    stream = _Forgiving(sys.stderr)
    return tqdm(
        iterable,
        desc=description,
        total=total,
        disable=not enabled or stream.broken,
        unit=unit,
        file=stream,
    )


class _Forgiving:
    """A text stream that is given up, instead of raising, once it cannot be written to."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        # What `2>&-` leaves is None, and what a test harness may leave is closed.
        self.broken = stream is None or bool(getattr(stream, "closed", False))
        self.encoding = getattr(stream, "encoding", None)

    def write(self, text: str) -> int:
        """Write, if that is still possible."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Flush, if that is still possible."""
        self._try("flush")

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return bool(not self.broken and self._try("isatty"))

    def fileno(self) -> int:
        """The descriptor of the stream, by which the width of a terminal is found."""
        descriptor: int = self._stream.fileno()
        return descriptor

    def _try(self, verb: str, *arguments: Any) -> Any:
        if self.broken:
            return None
        try:
            return getattr(self._stream, verb)(*arguments)
        except (OSError, ValueError):
            self.broken = True
            return None
