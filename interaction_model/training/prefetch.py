"""Makes things ready ahead of their use, in a thread with a bounded queue."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")
_POLL_S = 0.1


class Prefetcher(Generic[Item]):
    """Runs an iterator in a thread of its own, at most `depth` items ahead; when the queue is full, it waits.

    A context manager: on leaving it the thread ends after the item it is making. What the iterator raises is raised
    where its item would have come.
    """

    def __init__(self, items: Iterator[Item], depth: int = 2) -> None:
        self._items = items
        self._ready: queue.Queue[Item | BaseException] = queue.Queue(depth)
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closed.set()
        self._thread.join()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        """Wait for the next item; raise `StopIteration` behind the last one."""
        item = self._ready.get()
        if isinstance(item, BaseException):
            self._put(item)  # so that who asks again is told again
            raise item
        return item

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
            self._put(StopIteration())
        except BaseException as error:  # noqa: BLE001  it is raised again in the thread that waits for the item
            self._put(error)

    def _put(self, item: Item | BaseException) -> bool:
        """Wait for room; whether there was some before the end."""
        while not self._is_closed.is_set():
            try:
                self._ready.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False
