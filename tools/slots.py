"""How many calls run at once: of each tool, and for each task. Knows nothing of what a call does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

CALLS_OF_A_TASK = 4
"""One task gets so many calls at once, however many its model asks for. Our choice."""


class NoSlotError(Exception):
    """No slot became free in time. Never leaves the registry."""


class Slots:
    """Belongs to one event loop."""

    def __init__(self, calls_of_a_task: int = CALLS_OF_A_TASK) -> None:
        self._calls_of_a_task = calls_of_a_task
        self._tools: dict[str, anyio.Semaphore] = {}
        self._tasks: dict[str, anyio.Semaphore] = {}
        self._users: dict[str, int] = {}

    def set_limit(self, tool: str, calls: int) -> None:
        """Say how many calls of a tool run at once."""
        self._tools[tool] = anyio.Semaphore(calls)

    @asynccontextmanager
    async def taken(self, tool: str, task_id: str, wait_s: float) -> AsyncIterator[None]:
        """Hold a slot of the tool and one of the task.

        Raises:
            NoSlotError: none became free within `wait_s`.
        """
        of_task = self._tasks.setdefault(task_id, anyio.Semaphore(self._calls_of_a_task))
        of_tool = self._tools[tool]
        self._users[task_id] = self._users.get(task_id, 0) + 1
        try:
            with anyio.move_on_after(wait_s) as waiting:
                await of_task.acquire()
                try:
                    await of_tool.acquire()
                except BaseException:
                    of_task.release()
                    raise
            if waiting.cancelled_caught:
                raise NoSlotError
            try:
                yield
            finally:
                of_tool.release()
                of_task.release()
        finally:
            self._users[task_id] -= 1
            if not self._users[task_id]:
                del self._users[task_id], self._tasks[task_id]
