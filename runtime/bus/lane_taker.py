"""Takes tasks out of some streams, for one caller after another. Knows nothing of what is in a stream.

A task is looked for with a script, which takes one or nothing. Only if there is none does a reader wait for one on the
server, and it goes on waiting between two takes: a read that was cut off could lose its answer, and the task with it
for a lease. What a reader gets while nobody asks is given back at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from microturn.runtime.bus._errors import BusReplyError
from microturn.runtime.bus.queue_route import Found, QueueRoute

Release = Callable[[Found], Awaitable[None]]
"""Gives a delivery back to the queue; raises nothing."""


@dataclass(slots=True)
class _Question:
    """One caller who waits."""

    answered: anyio.Event = field(default_factory=anyio.Event)
    answer: Found | BusReplyError | None = None

    def settle(self, answer: Found | BusReplyError) -> None:
        self.answer = answer
        self.answered.set()


class LaneTaker:
    """Takes from all routes of a worker. `start` is to be called before `take`."""

    def __init__(self, routes: Iterable[QueueRoute], release: Release) -> None:
        self._routes = deque(routes)
        self._release = release
        self._turn = anyio.Lock()
        self._question: _Question | None = None
        self._asked = anyio.Event()

    def start(self, tasks: TaskGroup) -> None:
        """Start a reader for each route. One waits on the server only while a caller asks, and a moment longer."""
        for route in self._routes:
            tasks.start_soon(self._read_on, route, name="bus queue")

    async def take(self) -> Found:
        """Wait for a task: one whose worker has fallen silent, or a new one.

        Raises:
            BusReplyError: the server refused for a reason that repeating cannot mend.
        """
        async with self._turn:
            self._routes.rotate(-1)  # so that no shard starves another
            found = await self._sweep() or await self._take_new()
            while found is None:
                found = await self._wait() or await self._sweep()
            return found

    async def _sweep(self) -> Found | None:
        for route in self._routes:
            if (found := await route.sweep()) is not None:
                return found
        return None

    async def _take_new(self) -> Found | None:
        for route in self._routes:
            if (found := await route.take()) is not None:
                return found
        return None

    async def _wait(self) -> Found | None:
        """Wait until a reader has found a task, or a sweep is due."""
        self._question = question = _Question()
        asked, self._asked = self._asked, anyio.Event()
        asked.set()
        try:
            with anyio.move_on_after(min(route.sweep_in_s for route in self._routes)):
                await question.answered.wait()
        except anyio.get_cancelled_exc_class():
            if isinstance(question.answer, Found):  # it came in the very moment
                with anyio.CancelScope(shield=True):
                    await self._release(question.answer)
            raise
        finally:
            self._question = None
        if isinstance(question.answer, BusReplyError):
            raise question.answer
        return question.answer

    async def _read_on(self, route: QueueRoute) -> None:
        """Read for whoever asks, until cancelled."""
        while True:
            while self._question is None:
                await self._asked.wait()
            try:
                found = await route.read()
            except BusReplyError as error:
                if self._question is not None:
                    self._question.settle(error)
                    self._question = None
            else:
                for one in found:
                    await self._hand_over(one)

    async def _hand_over(self, found: Found) -> None:
        question, self._question = self._question, None
        if question is None:
            await self._release(found)
        else:
            question.settle(found)
