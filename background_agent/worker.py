"""The worker: takes tasks from the delegation bus and runs each with an engine, a few at a time.

It takes a task only when it has room to run it, keeps room for urgent ones, beats only for what really runs, and
drains when asked: it takes nothing more and lets what runs come to its end. Knows nothing of streams, and nothing of how an engine reasons.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace

import anyio
from anyio.abc import TaskGroup

from microturn.background_agent.attempt import Attempt
from microturn.background_agent.engine import AgentEngine
from microturn.background_agent.tracing import attempt_span
from microturn.background_agent.worker_bus import TaskEntry, WorkerBus
from microturn.tools import ToolRegistry

DRAIN_SIGNALS = (signal.SIGTERM, signal.SIGINT)
BACKLOG_LIMIT = 500
"""Unread events above which an engine waits; the reader of a live session takes in hundreds per second."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """A snapshot of what a worker has done."""

    running: int = 0
    taken: int = 0
    urgent: int = 0
    """Of those taken, how many were urgent."""
    final: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    fenced: int = 0
    abandoned: int = 0
    """Attempts that the bus itself broke off; another worker gets the task."""


class Worker:
    """Runs tasks until drained. One `run` per instance.

    At most `concurrency` tasks of any kind run at once, the urgent ones first, and beside them at most `urgent_lanes`
    urgent ones, which so need not wait for an ordinary task to end.
    """

    def __init__(
        self,
        bus: WorkerBus,
        engine: AgentEngine,
        tools: ToolRegistry,
        *,
        concurrency: int = 2,
        urgent_lanes: int = 1,
        lease_s: float = 2.0,
        backlog_limit: int = BACKLOG_LIMIT,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, got {concurrency!r}")
        if urgent_lanes < 0:
            raise ValueError(f"urgent_lanes must be at least 0, got {urgent_lanes!r}")
        self._bus = bus
        self._engine = engine
        self._tools = tools
        self._lease_s = lease_s
        self._backlog_limit = backlog_limit
        self._concurrency = concurrency
        self._urgent_lanes = urgent_lanes
        self._taking = anyio.CancelScope()
        self._statistics = WorkerStatistics()

    def statistics(self) -> WorkerStatistics:
        """What the worker has done so far."""
        return self._statistics

    def drain(self) -> None:
        """Take nothing more; `run` returns when what runs has ended. Returns at once."""
        self._taking.cancel()

    async def run(self, *, drain_on: Sequence[signal.Signals] = ()) -> None:
        """Take and run tasks until drained, by a call or by one of the signals; a second signal stops at once.

        Signals can be heard in the main thread only. Cancelling leaves the tasks to other workers.
        """
        async with anyio.create_task_group() as helpers:
            if drain_on:
                helpers.start_soon(self._listen, tuple(drain_on), helpers.cancel_scope)
            async with anyio.create_task_group() as tasks:
                with self._taking:
                    async with anyio.create_task_group() as takers:
                        takers.start_soon(self._take, tasks, self._concurrency, False)
                        if self._urgent_lanes:
                            takers.start_soon(self._take, tasks, self._urgent_lanes, True)
            helpers.cancel_scope.cancel()

    async def _take(self, tasks: TaskGroup, most: int, urgent_only: bool) -> None:
        """Take tasks until cancelled, whenever fewer than `most` of those taken here are running."""
        slots = anyio.Semaphore(most)
        while True:
            await slots.acquire()
            entry = await self._bus.take(urgent_only=urgent_only)
            tasks.start_soon(self._serve, entry, slots)

    async def _listen(self, signals: Sequence[signal.Signals], everything: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(*signals) as received:
            is_draining = False
            async for number in received:
                if is_draining:
                    _log.warning("%s again: stopping now, other workers get the tasks", number.name)
                    everything.cancel()
                    return
                _log.info("%s: draining, %d tasks are running", number.name, self._statistics.running)
                is_draining = True
                self.drain()

    async def _serve(self, entry: TaskEntry, slots: anyio.Semaphore) -> None:
        """Run one delivery. What the bus itself raises ends this attempt alone: the task comes again."""
        self._count("taken", "running", *(["urgent"] if entry.package.urgent else []))
        try:
            begun = await self._bus.begin(entry)
            if begun is not None:
                attempt = Attempt(
                    self._bus, entry, begun, lease_s=self._lease_s, backlog_limit=self._backlog_limit
                )
                with attempt_span(entry.package, begun.attempt) as span:
                    end = await attempt.run(self._engine, self._tools)
                    span.ended(end)
                self._count(end)
        except* Exception as errors:  # noqa: BLE001  # the boundary of the task: recorded; the lease hands it on
            self._count("abandoned")
            _log.error("task %s: the attempt was abandoned: %s", entry.package.task_id, _kinds(errors))
        finally:
            self._statistics = replace(self._statistics, running=self._statistics.running - 1)
            slots.release()

    def _count(self, *names: str) -> None:
        changed = {name: getattr(self._statistics, name) + 1 for name in names}
        self._statistics = replace(self._statistics, **changed)


def _kinds(errors: ExceptionGroup[Exception]) -> str:
    """The kinds of the errors in a group, whose texts may hold anything."""
    kinds: set[str] = set()
    for error in errors.exceptions:
        kinds.add(_kinds(error) if isinstance(error, ExceptionGroup) else type(error).__name__)
    return ", ".join(sorted(kinds))
