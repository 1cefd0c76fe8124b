"""What a runtime has to tell the server, in order, through outages: submits, cancels and updates.

A bounded queue; when it is full, a new item is refused (`put_nowait`) or waits (`put`). Items are sent one after
another by one task, and each is repeated until it is answered or its time is up. Knows what each item is on the
server, and nothing of events.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from uuid import uuid4

import anyio
from redis.exceptions import OutOfMemoryError, RedisError

from microturn.protocols import INLINE_LIMIT_BYTES, ContextPackage, MicroturnError
from microturn.runtime.bus._errors import BusUnreachableError, PackageTooLargeError
from microturn.runtime.bus.connection import TRANSIENT, Backoff, refused
from microturn.runtime.bus.health import HealthMonitor
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.scripts import Scripts
from microturn.runtime.bus.settings import BusSettings

MOST_UPDATES = 64
"""Corrections that one task takes."""
PATIENCE_S = 30.0
"""How long a cancel or an update is tried."""

Outcome: TypeAlias = Literal["accepted", "duplicate", "full", "ended", "asked", "stored", "unknown"]


@dataclass(slots=True)
class Item:
    """One thing to tell the server, and what came of it."""

    kind: Literal["submit", "cancel", "update"]
    task_id: str
    shard: int
    give_up_s: float
    """On the port's clock."""
    text: str = ""
    """Reason of a cancel, or text of an update."""
    package: ContextPackage | None = None
    call_id: str = field(default_factory=lambda: uuid4().hex)
    """Makes a repeated call the same call."""
    is_awaited: bool = False
    """Whether a caller waits for the answer; otherwise a failed submit is told by an event."""
    is_tracked_anew: bool = False
    """Whether this submit was the first that this port heard of the task."""
    answered: anyio.Event = field(default_factory=anyio.Event)
    outcome: Outcome | None = None
    """None until it is answered, and for ever if it failed or its time was up."""
    owner: str = ""
    """For a duplicate: the task that was accepted before."""
    error: MicroturnError | None = None
    """Why it cannot be done at all."""


class Outbox:
    """The queue and its sender. `run` is to be started in the owner's task group."""

    def __init__(
        self,
        scripts: Scripts,
        keys: Keys,
        settings: BusSettings,
        *,
        runtime_id: str,
        health: HealthMonitor,
        clock: Callable[[], float],
        on_answer: Callable[[Item], None],
        limit: int,
    ) -> None:
        self._scripts = scripts
        self._keys = keys
        self._settings = settings
        self._runtime_id = runtime_id
        self._health = health
        self._clock = clock
        self._on_answer = on_answer
        self._send, self._receive = anyio.create_memory_object_stream[Item](limit)
        self._unsent = 0
        self._settled = anyio.Event()

    async def all_sent(self) -> None:
        """Wait until nothing is queued or under way."""
        while self._unsent:
            await self._settled.wait()

    def put_nowait(self, item: Item) -> bool:
        """Queue an item; False if the queue is full."""
        try:
            self._send.send_nowait(item)
        except (anyio.WouldBlock, anyio.ClosedResourceError):
            return False
        self._unsent += 1
        return True

    async def put(self, item: Item) -> None:
        """Queue an item; waits while the queue is full.

        Raises:
            BusUnreachableError: the port is closed.
        """
        self._unsent += 1
        try:
            await self._send.send(item)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._unsent -= 1
            raise BusUnreachableError(f"cannot {item.kind} a task: the port is closed") from None

    async def run(self) -> None:
        """Send what is queued until cancelled; then fail what is left."""
        async with self._receive, self._send:
            try:
                async for item in self._receive:
                    await self._deliver(item)
                    self._settle(item)
            finally:
                with suppress(anyio.WouldBlock, anyio.EndOfStream):
                    while True:
                        item = self._receive.receive_nowait()
                        item.error = BusUnreachableError(f"cannot {item.kind} a task: the port was closed")
                        self._settle(item)

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
        except OutOfMemoryError:
            item.outcome = "full"
        except RedisError as error:
            item.error = refused(f"{item.kind} a task", error)
        self._health.works(
            "sending"
        )  # nothing fails any more; the count of workers tells of a server still away

    async def _try(self, item: Item) -> bool:
        """Send an item until it is answered; False if its time is up."""
        backoff = Backoff()
        while (left_s := item.give_up_s - self._clock()) > 0:
            try:
                item.outcome = await self._perform(item)
            except TRANSIENT as error:
                self._health.fails("sending", error)
                await anyio.sleep(min(backoff.pause_s(), left_s))
            else:
                return True
        return False

    async def _perform(self, item: Item) -> Outcome:
        keys, shard, task_id = self._keys, item.shard, item.task_id
        task, updates = keys.task(shard, task_id), keys.updates(shard, task_id)
        if item.package is not None:
            return await self._submit(item, item.package)
        if item.kind == "update":
            reply = await self._scripts.run("update", [task, updates], item.call_id, item.text, MOST_UPDATES)
        else:
            inbox = keys.inbox(shard, self._runtime_id)
            touched = [keys.tasks(shard), task, keys.events(shard, task_id), updates, inbox]
            retention = self._settings.retention_ms
            reply = await self._scripts.run("cancel", touched, task_id, "cancelled", item.text, retention)
        return _outcome(reply[0])

    async def _submit(self, item: Item, package: ContextPackage) -> Outcome:
        keys, shard = self._keys, item.shard
        reply = await self._scripts.run(
            "submit",
            [
                keys.tasks(shard),
                keys.task(shard, item.task_id),
                keys.idempotency(shard, package.idempotency_key),
                keys.inbox(shard, self._runtime_id),
            ],
            item.task_id,
            self._runtime_id,
            package.v,
            _encoded(package),
            max(1, round((item.give_up_s - self._clock()) * 1000)),
            self._settings.queue_limit,
            item.call_id,
            self._settings.retention_ms,
        )
        item.owner = reply[1] if len(reply) > 1 else ""
        return _outcome(reply[0])


def _encoded(package: ContextPackage) -> str:
    """The package as JSON, fitted if it is too long.

    Raises:
        PackageTooLargeError: it cannot be fitted.
    """
    encoded = package.encode()
    if len(encoded.encode()) > INLINE_LIMIT_BYTES:
        encoded = package.fitted().encode()
        if (size := len(encoded.encode())) > INLINE_LIMIT_BYTES:
            raise PackageTooLargeError("context package", size=size, limit=INLINE_LIMIT_BYTES)
    return encoded


_OUTCOMES: dict[str, Outcome] = {
    "accepted": "accepted",
    "duplicate": "duplicate",
    "full": "full",
    "ended": "ended",
    "asked": "asked",
    "stored": "stored",
}


def _outcome(word: str) -> Outcome:
    return _OUTCOMES.get(word, "unknown")
