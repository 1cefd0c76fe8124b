"""The child processes of one tool: kept warm, replaced when they die or have served long enough."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import anyio
from anyio.abc import TaskGroup
from pydantic import JsonValue

from microturn.tools.context import ToolContext
from microturn.tools.isolation._errors import ChildBrokenError
from microturn.tools.isolation.launch import Launch
from microturn.tools.isolation.process import Child
from microturn.tools.result import Whole

CALLS_OF_A_CHILD = 1000
"""After so many calls a process is replaced, against what leaks. Our choice."""
IDLE_LIMIT_S = 120.0
"""A process that nobody has needed for so long is ended. Our choice."""


class Pool:
    """Belongs to one event loop. How many processes there are at once is the caller's business: as many as calls."""

    def __init__(self, launch: Callable[[], Launch], *, calls_of_a_child: int, spares: int) -> None:
        self._launch = launch
        self._calls_of_a_child = calls_of_a_child
        self._spares = spares
        """So many processes are started ahead of the calls that will need them."""
        self._idle: list[tuple[Child, float]] = []
        """Each with the time since when; the one that was used last is at the end and is used first."""
        self._ending: set[Child] = set()
        """Killed, and not gone yet."""
        self._starting = 0
        self._is_closed = False

    async def call(
        self, arguments: dict[str, JsonValue], context: ToolContext, timeout_s: float, group: TaskGroup
    ) -> Whole:
        """Run a call in a warm process, or else in a new one.

        Args:
            arguments: What the model sent; checked again in the child.
            context: The call's context.
            timeout_s: The call's time; that of starting a process does not count.
            group: Where spare processes are started.

        Raises:
            ChildBrokenError: a process cannot be started. Otherwise as `Child.call`.
        """
        child = await self._take()
        try:
            return await child.call(arguments, context, timeout_s)
        finally:
            if self._is_closed:
                await child.end()
            else:
                self._give_back(child, group)
                self._prepare(group)  # not before: its start would take the processor from the call

    async def warm_up(self) -> None:
        """Have one process ready.

        Raises:
            ChildBrokenError: it cannot be started.
        """
        if not self._idle:
            self._idle.append((await Child.start(self._launch()), anyio.current_time()))

    async def end_idle(self, idle_s: float) -> None:
        """End the processes that were not used for so long; 0 is all that run no call."""
        until_s = anyio.current_time() - idle_s
        kept = [entry for entry in self._idle if entry[1] > until_s]
        ended = [child for child, since_s in self._idle if since_s <= until_s]
        self._idle = kept
        for child in ended:
            await child.end()

    async def close(self) -> None:
        """End the processes; those that run a call end with it."""
        self._is_closed = True
        await self.end_idle(0)
        for child in list(self._ending):
            await self._end(child)

    async def _take(self) -> Child:
        while self._idle:
            child, _ = self._idle.pop()
            if child.is_alive:
                return child
            await child.end()
        return await Child.start(self._launch())

    def _give_back(self, child: Child, group: TaskGroup) -> None:
        """Keep a process for the next call, or kill it; that it is gone is not waited for, which takes long."""
        if child.is_usable and child.calls < self._calls_of_a_child:
            self._idle.append((child, anyio.current_time()))
        else:
            child.kill()
            self._ending.add(child)
            group.start_soon(self._end, child)

    async def _end(self, child: Child) -> None:
        await child.end()
        self._ending.discard(child)

    def _prepare(self, group: TaskGroup) -> None:
        """Start spares for the calls to come."""
        for _ in range(self._spares - len(self._idle) - self._starting):
            self._starting += 1
            group.start_soon(self._start_spare, group)

    async def _start_spare(self, group: TaskGroup) -> None:
        try:
            with suppress(ChildBrokenError):  # the call that needs it will meet the same, and say so
                self._give_back(await Child.start(self._launch()), group)
        finally:
            self._starting -= 1
