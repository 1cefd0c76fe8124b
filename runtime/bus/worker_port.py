"""The worker's side of the delegation bus: an implementation of `microturn.background_agent.worker_bus.WorkerBus`.

Every method waits through an outage of the server and is safe to repeat. Knows streams and leases; nothing of agents,
models and tools.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import uuid4

import anyio
from anyio.abc import TaskGroup
from redis.exceptions import RedisError

from microturn.background_agent.worker_bus import BeatResult, Begun, EmitResult, TaskEntry
from microturn.protocols import INLINE_LIMIT_BYTES, DelegationEvent, ProtocolError
from microturn.runtime.bus._errors import PackageTooLargeError
from microturn.runtime.bus.connection import Clients, check_server, open_clients
from microturn.runtime.bus.delivery import Delivery
from microturn.runtime.bus.keys import Keys, checked_name
from microturn.runtime.bus.own_tasks import own_tasks
from microturn.runtime.bus.raw import command
from microturn.runtime.bus.scripts import Scripts
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.bus.task_queue import TaskQueue

_CLEAN_EVERY_S = 300.0


@dataclass(slots=True)
class _Running:
    """A task that this worker has begun."""

    delivery: Delivery
    attempt: int
    updates_seen: int = 0


@asynccontextmanager
async def open_worker_port(
    settings: BusSettings, *, worker_id: str | None = None
) -> AsyncIterator[WorkerPort]:
    """Open a port and show this worker's presence until the end of the block.

    Args:
        settings: where the bus is; the same as the runtime's.
        worker_id: names the consumer; never the same in two processes. None makes a new one.

    Raises:
        BusNameError: the tenant or the worker id cannot be part of a key.
        BusUnreachableError: no server answers.
        UnfitServerError: the server would lose tasks.
    """
    checked_name("tenant", settings.tenant)
    worker_id = checked_name("worker id", worker_id or f"{os.getpid()}-{uuid4().hex[:12]}")
    async with open_clients(settings) as clients:
        await check_server(clients.commands, settings.url)
        port = WorkerPort(clients, settings, worker_id)
        await port.enter()
        async with own_tasks() as tasks:
            port.start(tasks)
            try:
                yield port
            finally:
                with anyio.move_on_after(1, shield=True):
                    await port.leave()


class WorkerPort:
    """Takes tasks from the queue and sends their events. Made by `open_worker_port`."""

    def __init__(self, clients: Clients, settings: BusSettings, worker_id: str) -> None:
        self.worker_id = worker_id
        self._clients = clients
        self._settings = settings
        self._scripts = Scripts(clients.commands)
        self._keys = Keys(settings.tenant, settings.shards)
        self._queue = TaskQueue(
            clients, self._scripts, settings, self._keys, worker_id=worker_id, reject=self._reject
        )
        self._running: dict[str, _Running] = {}

    def start(self, tasks: TaskGroup) -> None:
        """Start the port's own tasks."""
        self._queue.start(tasks)
        tasks.start_soon(self.show_presence, name="bus presence")

    async def take(self, *, urgent_only: bool = False) -> TaskEntry:
        """Wait for a task: a new one, or one whose worker has been silent for longer than the lease.

        The lease of what is taken runs at once, and is not renewed before `begin`.
        """
        return await self._queue.take(urgent_only=urgent_only)

    async def begin(self, entry: TaskEntry) -> Begun | None:
        """Make the task this worker's; None where there is nothing to run, or another has taken it over."""
        delivery, task_id = Delivery.parse(entry.entry_id), entry.package.task_id
        settings = self._settings
        reply = await self._scripts.insist(
            "begin",
            [*self._task_keys(delivery, task_id), self._keys.dead(delivery.shard)],
            *(task_id, delivery.entry, self.worker_id, uuid4().hex),
            *(settings.max_attempts, settings.lease_ms, settings.retention_ms),
        )
        if reply[0] != "begun":
            return None
        attempt, next_seq, left_ms = map(int, reply[1:4])
        self._running[task_id] = _Running(delivery, attempt)
        return Begun(attempt, next_seq, emitted=_readable(reply[4:]), remaining_s=left_ms / 1000)

    async def emit(
        self, task_id: str, attempt: int, seq: int, event: DelegationEvent, *, finish: bool = False
    ) -> EmitResult:
        """Send one event; with `finish` also end the task and forget its entry, all in one step.

        Raises:
            PackageTooLargeError: the event is larger than the bus carries.
            BusReplyError: the server refused for a reason that repeating cannot mend.
        """
        running = self._running.get(task_id)
        if running is None or running.attempt != attempt:
            return EmitResult(fenced=True)
        seen = running.updates_seen
        reply = await self._send(running, seq, event, finish)
        if reply[0] == "renumber":
            seq = int(reply[1]) + 1
            reply = await self._send(running, seq, event.model_copy(update={"seq": seq}), finish)
        fenced = reply[0] == "fenced"
        # A task ends only once, so the same end seen twice is a call that was repeated: it has succeeded.
        duplicate = reply[0] == "duplicate" and not finish
        if fenced or finish:
            self._forget(task_id, attempt)
        updates = _unseen(running, seen, reply[3:])
        return EmitResult(fenced, duplicate, reply[1] == "1", updates, int(reply[2]))

    async def beat(self, entry: TaskEntry, attempt: int) -> BeatResult:
        """Renew the lease of a task that really runs."""
        task_id = entry.package.task_id
        running = self._running.get(task_id)
        if running is None or running.attempt != attempt:
            return BeatResult(fenced=True)
        tasks, task, _, updates, inbox = self._task_keys(running.delivery, task_id)
        seen = running.updates_seen
        arguments = (running.delivery.entry, attempt, self.worker_id, seen)
        reply = await self._scripts.insist("beat", [tasks, task, updates, inbox], *arguments)
        if reply[0] == "fenced":
            self._forget(task_id, attempt)
            return BeatResult(fenced=True)
        return BeatResult(False, reply[1] == "1", _unseen(running, seen, reply[3:]), int(reply[2]))

    async def enter(self) -> None:
        """Make the group of workers where there is none."""
        await self._queue.enter()

    async def show_presence(self) -> None:
        """Show that this worker lives, until cancelled; now and then forget those that are long gone."""
        clean_at_s = time.monotonic() + _CLEAN_EVERY_S
        ttl_ms = self._settings.presence_ttl_ms
        while True:
            with suppress(RedisError):  # it is shown again in a moment
                await self._scripts.run("presence", [self._keys.workers()], self.worker_id, ttl_ms)
                if time.monotonic() > clean_at_s:
                    clean_at_s = time.monotonic() + _CLEAN_EVERY_S
                    await self._queue.forget_silent()
            await anyio.sleep(self._settings.presence_s)

    async def leave(self) -> None:
        """Take this worker off the list. What it has not finished is given to others after the lease."""
        with suppress(RedisError):
            await command(self._clients.commands, "ZREM", self._keys.workers(), self.worker_id)
            await self._queue.leave()

    async def _send(self, running: _Running, seq: int, event: DelegationEvent, finish: bool) -> list[str]:
        encoded = event.encode()
        if (size := len(encoded.encode())) > INLINE_LIMIT_BYTES:
            raise PackageTooLargeError("delegation event", size=size, limit=INLINE_LIMIT_BYTES)
        return await self._scripts.insist(
            "emit",
            self._task_keys(running.delivery, event.task_id),
            *(running.delivery.entry, running.attempt, seq, encoded, event.kind if finish else ""),
            *(running.updates_seen, self._settings.stored_events, self._settings.retention_ms),
        )

    async def _reject(self, delivery: Delivery, task_id: str) -> None:
        await self._scripts.insist(
            "reject",
            [*self._task_keys(delivery, task_id), self._keys.dead(delivery.shard)],
            *(task_id, delivery.entry, self.worker_id, "schema", self._settings.retention_ms),
        )

    def _task_keys(self, delivery: Delivery, task_id: str) -> list[str]:
        keys, shard = self._keys, delivery.shard
        return [
            keys.lane(shard, delivery.lane),
            keys.task(shard, task_id),
            keys.events(shard, task_id),
            keys.updates(shard, task_id),
            keys.inbox(shard, delivery.runtime_id),
        ]

    def _forget(self, task_id: str, attempt: int) -> None:
        running = self._running.get(task_id)
        if running is not None and running.attempt == attempt:
            del self._running[task_id]


def _unseen(running: _Running, asked_from: int, updates: list[str]) -> tuple[str, ...]:
    """The updates that no call in between has brought: two calls under way may both be told of one."""
    new = updates[max(0, running.updates_seen - asked_from) :]
    running.updates_seen += len(new)
    return tuple(new)


def _readable(encoded: list[str]) -> tuple[DelegationEvent, ...]:
    """The events of earlier attempts, less those that another release wrote in a way that this one cannot read."""
    events: list[DelegationEvent] = []
    for text in encoded:
        with suppress(ProtocolError):
            events.append(DelegationEvent.decode(text))
    return tuple(events)
