"""Calls that are made at the same time go to the server in one go, which it does several times as fast.

A call that is alone is sent at once, by its caller. Those that come while another is under way are gathered and sent
together as soon as the loop turns; what gathers meanwhile is the next batch. So nobody waits for company. The size of
a batch is our choice: it keeps what must be repeated after a lost reply to some megabytes. Knows nothing of scripts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup
from redis.exceptions import ConnectionError

from microturn.runtime.bus.exchange import Argument, Command
from microturn.runtime.bus.link import Link

MOST_CALLS = 128
"""Calls in one batch."""
MOST_CHARACTERS = 4 * 1024 * 1024
"""Text in one batch, about; a single call may have more."""


@dataclass(slots=True)
class _Call:
    key: str
    command: Command
    done: anyio.Event = field(default_factory=anyio.Event)
    reply: object = None

    def settle(self, reply: object) -> None:
        """Hand the caller its reply, or its error."""
        self.reply = reply
        self.done.set()

    @property
    def size(self) -> int:
        return sum(len(word) for word in self.command if isinstance(word, str))


@dataclass(slots=True)
class _Lane:
    """The calls to one place."""

    alone: int = 0
    """Calls under way that were sent by their callers."""
    is_flushing: bool = False
    waiting: deque[_Call] = field(default_factory=deque)

    def next_batch(self) -> list[_Call]:
        batch: list[_Call] = []
        size = 0
        while self.waiting and len(batch) < MOST_CALLS:
            size += self.waiting[0].size
            if batch and size > MOST_CHARACTERS:
                break
            batch.append(self.waiting.popleft())
        return batch


class BatchingLink:
    """A link that gathers the calls that have a key. A call that is cancelled while it waits may still be done."""

    def __init__(self, link: Link, tasks: TaskGroup) -> None:
        """`tasks` sends the batches; calls must not be made after it has ended."""
        self._link = link
        self._tasks = tasks
        self._lanes: dict[str, _Lane] = {}

    def route(self, key: str) -> str:
        """As `Link`."""
        return self._link.route(key)

    async def send(self, *args: Argument, key: str | None = None) -> object:
        """As `Link`."""
        if key is None:
            return await self._link.send(*args)
        lane = self._lanes.setdefault(self._link.route(key), _Lane())
        if lane.alone or lane.is_flushing:
            return await self._send_with_others(lane, _Call(key, args))
        lane.alone += 1
        try:
            return await self._link.send(*args, key=key)
        finally:
            lane.alone -= 1

    async def send_all(self, key: str, commands: Sequence[Command]) -> list[object]:
        """As `Link`."""
        return await self._link.send_all(key, commands)

    async def each_primary(self, *args: Argument) -> dict[str, object]:
        """As `Link`."""
        return await self._link.each_primary(*args)

    async def aclose(self) -> None:
        """As `Link`."""
        await self._link.aclose()

    async def _send_with_others(self, lane: _Lane, call: _Call) -> object:
        lane.waiting.append(call)
        if not lane.is_flushing:
            lane.is_flushing = True
            self._tasks.start_soon(self._flush, lane, name="bus batches")
        await call.done.wait()
        if isinstance(call.reply, Exception):
            raise call.reply
        return call.reply

    async def _flush(self, lane: _Lane) -> None:
        batch: list[_Call] = []
        try:
            while batch := lane.next_batch():
                await self._send_batch(batch)
        finally:
            lane.is_flushing = False
            for call in (*batch, *lane.waiting):  # only when this is cancelled: nobody else would wake them
                call.settle(ConnectionError("the connections are being closed"))
            lane.waiting.clear()

    async def _send_batch(self, batch: list[_Call]) -> None:
        try:
            replies = await self._link.send_all(batch[0].key, [call.command for call in batch])
        except Exception as error:  # noqa: BLE001  # the task boundary: each caller repeats or gives up on its own
            replies = [error] * len(batch)
        for call, reply in zip(batch, replies, strict=True):
            call.settle(reply)
