"""What waits to be told to the server, through outages: submits, cancels and updates, and where sessions are.

A bounded queue; when it is full, a new item is refused (`put_nowait`) or waits (`put`). Items of one session are sent
one after another, those of different sessions at the same time, and each is repeated until it is answered or its time
is up. Knows nothing of what an item is on the server, and nothing of events.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import anyio
from redis.exceptions import OutOfMemoryError, RedisError

from microturn.runtime.bus._errors import BusUnreachableError, PackageTooLargeError
from microturn.runtime.bus.health import HealthMonitor
from microturn.runtime.bus.outgoing import Item, Outgoing
from microturn.runtime.bus.patience import Backoff
from microturn.runtime.bus.server_errors import TRANSIENT, refused

PATIENCE_S = 30.0
"""How long a cancel or an update is tried."""
SENDERS = 64
"""Items that are under way at the same time."""


class Outbox:
    """The queue and its senders. `run` is to be started in the owner's task group."""

    def __init__(
        self,
        outgoing: Outgoing,
        *,
        health: HealthMonitor,
        clock: Callable[[], float],
        on_answer: Callable[[Item], None],
        limit: int,
    ) -> None:
        self._outgoing = outgoing
        self._health = health
        self._clock = clock
        self._on_answer = on_answer
        self._limit = limit
        self._queues: dict[str, deque[Item]] = {}
        """By session; the first of each is under way or about to be."""
        self._ready, self._due = anyio.create_memory_object_stream[str](math.inf)
        self._unsent = 0
        self._settled = anyio.Event()
        self._is_closed = False

    async def all_sent(self) -> None:
        """Wait until nothing is queued or under way."""
        while self._unsent:
            await self._settled.wait()

    def put_nowait(self, item: Item) -> bool:
        """Queue an item; False if the queue is full."""
        if self._is_closed or self._unsent >= self._limit:
            return False
        self._put(item)
        return True

    def put_always(self, item: Item) -> None:
        """Queue an item even if the queue is full; for what there is one of for each session."""
        if not self._is_closed:
            self._put(item)

    async def put(self, item: Item) -> None:
        """Queue an item; waits while the queue is full.

        Raises:
            BusUnreachableError: the port is closed.
        """
        while not self.put_nowait(item):
            if self._is_closed:
                raise BusUnreachableError(f"cannot {item.kind} a task: the port is closed")
            await self._settled.wait()

    async def run(self) -> None:
        """Send what is queued until cancelled; then fail what is left."""
        try:
            async with self._ready, self._due, anyio.create_task_group() as tasks:
                for _ in range(SENDERS):
                    tasks.start_soon(self._send)
        finally:
            self._is_closed = True
            for queue in self._queues.values():
                for item in queue:
                    item.error = BusUnreachableError(f"cannot {item.kind} a task: the port was closed")
                    self._settle(item)

    def _put(self, item: Item) -> None:
        self._unsent += 1
        queue = self._queues.setdefault(item.order, deque())
        queue.append(item)
        if len(queue) == 1:
            self._ready.send_nowait(item.order)

    async def _send(self) -> None:
        """Send the next item of whichever session is due, again and again."""
        async for order in self._due:
            queue = self._queues[order]
            await self._deliver(queue[0])
            self._settle(queue.popleft())
            if queue:
                self._ready.send_nowait(order)
            else:
                del self._queues[order]

    def _settle(self, item: Item) -> None:
        self._unsent -= 1
        self._on_answer(item)
        item.answered.set()
        settled, self._settled = self._settled, anyio.Event()
        settled.set()

    async def _deliver(self, item: Item) -> None:
        try:
            if not await self._try(item):
                item.error = BusUnreachableError(
                    f"cannot {item.kind} a task: the Redis server did not answer in time; see the port's health"
                )
        except PackageTooLargeError as error:
            item.error = error
        except RedisError as error:
            item.error = refused(f"{item.kind} a task", error)
        # Nothing fails any more; the count of workers tells of a server that is still away.
        self._health.works("sending")

    async def _try(self, item: Item) -> bool:
        """Send an item until it is answered; False if its time is up."""
        backoff = Backoff()
        while (left_s := item.give_up_s - self._clock()) > 0:
            try:
                item.outcome = await self._outgoing.perform(item)
            except (*TRANSIENT, OutOfMemoryError) as error:
                if item.kind == "submit" and isinstance(error, OutOfMemoryError):
                    item.outcome = "full"
                    return True
                self._health.fails("sending", error)
                await anyio.sleep(min(backoff.pause_s(), left_s))
            else:
                return True
        return False
