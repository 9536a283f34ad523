"""The next batches prepared by a background thread while the consumer works on this one."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any

from hoarfrost.errors import ForkedProcessError

_END = object()


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def prefetched(source: Iterator[Any], depth: int = 2) -> Generator[Any, None, None]:
    """Items of `source`, up to `depth` of them drawn ahead by a thread of their own.

    The thread starts with the first item that is asked for and has ended when this generator has:
    at the end, after an error, or when the consumer stops early. An error of the source is raised
    here, after the items before it.
    """
    ready: queue.Queue[Any] = queue.Queue(maxsize=depth)
    stop = threading.Event()
    thread = threading.Thread(
        target=_fill, args=(source, ready, stop), name="hoarfrost-prefetch", daemon=True
    )
    thread.start()
    process = os.getpid()
    try:
        while (item := _next(ready, process)) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        stop.set()
        if os.getpid() == process:
            # The thread looks at `stop` around every put, so that after this emptying it makes at
            # most one more put, for which there is room: it cannot be left waiting.
            while not ready.empty():
                ready.get_nowait()
            thread.join()


def _next(ready: queue.Queue[Any], process: int) -> Any:
    if os.getpid() != process:
        raise ForkedProcessError(
            f"these batches are prepared by a thread of process {process}, which process "
            f"{os.getpid()}, forked from it, does not have; iterate over the loader anew"
        )
    return ready.get()


def _fill(source: Iterator[Any], ready: queue.Queue[Any], stop: threading.Event) -> None:
    last: Any = _END
    try:
        for item in source:
            if stop.is_set():
                break
            ready.put(item)
            if stop.is_set():
                break
    except BaseException as error:
        last = _Failure(error)
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            close()
    if not stop.is_set():
        ready.put(last)
