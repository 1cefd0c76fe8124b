"""One owner thread that does one kind of work for many keys, and only ever the newest of each.

Knows nothing of what the work is. A job that is running is never waited behind: the newest job of the same key
takes the one waiting place, and the one that waited is dropped. Keys are served in the order in which they began
to wait, so that none starves another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from microturn.interaction_model._errors import WorkerClosedError, WorkFailedError

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """Counts since the start."""

    submitted: int
    done: int
    dropped: int
    """Jobs that a newer one replaced before they began."""
    waiting: int
    """Jobs that wait now; at most one a key."""


class LatestWorker(Generic[Job, Result]):
    """Runs `work(job)` in its own thread. All methods may be called from any thread; only `settle` and `close` block.

    The queue is bounded to one waiting job and one result a key; overflow drops the older one.
    """

    def __init__(self, work: Callable[[Job], Result], name: str) -> None:
        """Start the thread, called `name`."""
        self._work = work
        self._waiting: dict[str, Job] = {}
        self._results: dict[str, Result | WorkFailedError] = {}
        self._running: str | None = None
        self._forgotten = False
        self._closed = False
        self._submitted = self._done = self._dropped = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, key: str, job: Job) -> None:
        """Hand in a job; it replaces one of the same key that has not begun.

        Raises:
            WorkerClosedError: `close` was called.
        """
        with self._changed:
            if self._closed:
                raise WorkerClosedError(
                    f"tried to submit to the closed worker {self._thread.name!r}; open a new one"
                )
            self._submitted += 1
            self._dropped += key in self._waiting
            self._waiting[key] = job
            self._changed.notify_all()

    def poll(self, key: str) -> Result | None:
        """Return the newest result of a key, once; None when there is nothing new.

        Raises:
            WorkFailedError: the job raised.
        """
        with self._changed:
            result = self._results.pop(key, None)
        if isinstance(result, WorkFailedError):
            raise result
        return result

    def is_busy(self, key: str) -> bool:
        """Whether a job of this key runs or waits."""
        with self._changed:
            return key == self._running or key in self._waiting

    def forget(self, key: str) -> None:
        """Drop what waits, runs or is ready under a key; a running job ends unheard."""
        with self._changed:
            self._waiting.pop(key, None)
            self._results.pop(key, None)
            self._forgotten = self._forgotten or key == self._running

    def settle(self) -> None:
        """Wait until nothing runs or waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._running is None and not self._waiting))

    def statistics(self) -> WorkerStatistics:
        """Return the counts."""
        with self._changed:
            return WorkerStatistics(self._submitted, self._done, self._dropped, len(self._waiting))

    def close(self) -> None:
        """Drop what waits, let the running job end, and end the thread."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            key, job = taken
            outcome: Result | WorkFailedError
            try:
                outcome = self._work(job)
            except Exception as error:  # noqa: BLE001  # the boundary of the thread: recorded, raised by `poll`
                outcome = WorkFailedError(f"work of {self._thread.name!r} failed with {type(error).__name__}")
                outcome.__cause__ = error
            self._put(key, outcome)

    def _take(self) -> tuple[str, Job] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._waiting))
            if self._closed:
                return None
            key = next(iter(self._waiting))
            self._running, self._forgotten = key, False
            return key, self._waiting.pop(key)

    def _put(self, key: str, outcome: Result | WorkFailedError) -> None:
        with self._changed:
            if not self._forgotten:
                self._results[key] = outcome
            self._running = None
            self._done += 1
            self._changed.notify_all()
