"""The worker's side of the delegation bus: an implementation of `microturn.background_agent.worker_bus.WorkerBus`.

Every method waits through an outage of the server and is safe to repeat. Knows streams and leases; nothing of agents,
models and tools.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Literal
from uuid import uuid4

import anyio
from anyio.abc import TaskGroup
from redis.exceptions import RedisError

from microturn.background_agent.worker_bus import BeatResult, Begun, EmitResult, TaskEntry
from microturn.protocols import INLINE_LIMIT_BYTES, DelegationEvent, Reference
from microturn.runtime.bus._errors import PackageTooLargeError
from microturn.runtime.bus.attachments import AttachmentReader
from microturn.runtime.bus.bell import Bell
from microturn.runtime.bus.connection import Clients, open_clients
from microturn.runtime.bus.delivery import Delivery
from microturn.runtime.bus.keys import Keys, checked_name
from microturn.runtime.bus.layout import agree_on_layout
from microturn.runtime.bus.notes import Notes, read_notes, read_receipts
from microturn.runtime.bus.own_tasks import own_tasks
from microturn.runtime.bus.raw import command
from microturn.runtime.bus.scripts import Scripts
from microturn.runtime.bus.server_check import check_server
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.bus.stored_task import emitted, sections
from microturn.runtime.bus.task_queue import TaskQueue

_CLEAN_EVERY_S = 300.0


@dataclass(slots=True)
class _Running:
    """A task that this worker has begun, or is about to."""

    delivery: Delivery
    attempt: int = 0
    notes_seen: int = 0
    has_news: anyio.Event = field(default_factory=anyio.Event)
    """Set when the bell rings for it, and then replaced."""

    def unseen(self, asked_from: int, notes: Sequence[str]) -> Notes:
        """The notes that no call in between has brought: two calls under way may both be told of one."""
        new = notes[max(0, self.notes_seen - asked_from) :]
        self.notes_seen += len(new)
        return read_notes(new)


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
        UnfitSettingsError: the bus is spread over another number of shards.
    """
    checked_name("tenant", settings.tenant)
    worker_id = checked_name("worker id", worker_id or f"{os.getpid()}-{uuid4().hex[:12]}")
    async with open_clients(settings) as clients:
        await check_server(clients.commands, settings.url)
        port = WorkerPort(clients, settings, worker_id)
        await agree_on_layout(clients.commands, Keys(settings.tenant, settings.shards))
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
        self._attachments = AttachmentReader(clients.bulk, self._keys)
        self._bell = Bell(clients, self._keys, settings, on_ring=self._on_ring)
        self._running: dict[str, _Running] = {}

    def start(self, tasks: TaskGroup) -> None:
        """Start the port's own tasks."""
        self._queue.start(tasks)
        self._bell.start(tasks)
        tasks.start_soon(self.show_presence, name="bus presence")

    async def take(self, *, urgent_only: bool = False) -> TaskEntry:
        """Wait for a task: a new one, or one whose worker has been silent for longer than the lease.

        The lease of what is taken runs at once, and is not renewed before `begin`.
        """
        return await self._queue.take(urgent_only=urgent_only)

    async def begin(self, entry: TaskEntry) -> Begun | None:
        """Make the task this worker's; None where there is nothing to run, or another has taken it over."""
        running, task_id = _Running(Delivery.parse(entry.entry_id)), entry.package.task_id
        settings = self._settings
        reply = await self._call(
            "begin",
            running,
            task_id,
            *(task_id, running.delivery.entry, self.worker_id, uuid4().hex),
            *(settings.max_attempts, settings.lease_ms),
            *(settings.retention_ms, settings.session_retention_ms),
            more_keys=[self._keys.dead(running.delivery.shard)],
        )
        if reply[0] != "begun":
            return None
        running.attempt, next_seq, left_ms = map(int, reply[1:4])
        events, journal, notes, receipts = sections(reply[4:])
        told = running.unseen(0, notes)
        if task_id not in self._running:
            self._bell.begin(running.delivery.shard)
        self._running[task_id] = running
        return Begun(
            running.attempt,
            next_seq,
            emitted=emitted(events, journal),
            remaining_s=left_ms / 1000,
            receipts=tuple(sorted(read_receipts(receipts), key=lambda receipt: receipt.seq)),
            updates=told.corrections,
            answers=told.answers,
        )

    async def emit(
        self, task_id: str, attempt: int, events: Sequence[DelegationEvent], *, finish: bool = False
    ) -> EmitResult:
        """Send events; with `finish` the last one ends the task and forgets its entry; see `WorkerBus`.

        Raises:
            PackageTooLargeError: an event is larger than the bus carries; none was sent.
            BusReplyError: the server refused for a reason that repeating cannot mend.
        """
        running = self._running.get(task_id)
        if running is None or running.attempt != attempt:
            return EmitResult(fenced=True)
        seen = running.notes_seen
        reply = await self._send(running, task_id, events, finish)
        if reply[0] == "renumber":
            last = events[-1].model_copy(update={"seq": int(reply[1]) + 1})
            reply = await self._send(running, task_id, [last], finish)
        fenced, corrected = reply[0] == "fenced", reply[0] == "corrected"
        # A task ends only once, so the same end seen twice is a call that was repeated: it has succeeded.
        duplicate = reply[0] == "duplicate" and not finish
        if fenced or (finish and not corrected):
            self._forget(task_id, attempt)
        told = running.unseen(seen, reply[3:])
        return EmitResult(
            fenced=fenced,
            duplicate=duplicate,
            cancel=reply[1] == "1",
            updates=told.corrections,
            backlog=int(reply[2]),
            receipts=told.receipts,
            answers=told.answers,
            corrected=corrected,
        )

    async def beat(self, entry: TaskEntry, attempt: int) -> BeatResult:
        """Renew the lease of a task that really runs."""
        task_id = entry.package.task_id
        running = self._running.get(task_id)
        if running is None or running.attempt != attempt:
            return BeatResult(fenced=True)
        seen = running.notes_seen
        reply = await self._call(
            "beat", running, task_id, running.delivery.entry, attempt, self.worker_id, seen
        )
        if reply[0] == "fenced":
            self._forget(task_id, attempt)
            return BeatResult(fenced=True)
        told = running.unseen(seen, reply[3:])
        return BeatResult(
            cancel=reply[1] == "1",
            updates=told.corrections,
            backlog=int(reply[2]),
            receipts=told.receipts,
            answers=told.answers,
        )

    async def until_news(self, entry: TaskEntry, attempt: int) -> None:
        """Wait until the bell rings for a running task; for ever where it does not run here."""
        running = self._running.get(entry.package.task_id)
        if running is None or running.attempt != attempt:
            await anyio.sleep_forever()
        else:
            await running.has_news.wait()

    async def load(self, entry: TaskEntry, reference: Reference) -> bytes:
        """Return the bytes that a reference in the task's package stands for; see `WorkerBus`.

        Raises:
            ReferenceGoneError: they are not there any more.
            ReferenceAlteredError: what is there is not what was kept, or the reference is not of the task's session.
            BusReplyError: the server refused for a reason that repeating cannot mend.
        """
        return await self._attachments.load(Delivery.parse(entry.entry_id).shard, reference)

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
        """Take this worker off the list. What it holds is given to others at once."""
        with suppress(RedisError):
            await command(self._clients.commands, "ZREM", self._keys.workers(), self.worker_id)
            await self._queue.leave()

    async def _send(
        self, running: _Running, task_id: str, events: Sequence[DelegationEvent], finish: bool
    ) -> list[str]:
        settings, last = self._settings, events[-1]
        words: list[str] = []
        for event in events:
            words += ("question" if event.is_question else event.kind, _encoded(event))
        return await self._call(
            "emit",
            running,
            task_id,
            *(running.delivery.entry, running.attempt, events[0].seq, "last" if finish else ""),
            *(last.revision, running.notes_seen, settings.stored_events),
            *(settings.retention_ms, settings.session_retention_ms),
            *words,
        )

    async def _reject(self, delivery: Delivery, task_id: str) -> None:
        await self._call(
            "reject",
            _Running(delivery),
            task_id,
            *(task_id, delivery.entry, self.worker_id, "schema"),
            *(self._settings.retention_ms, self._settings.session_retention_ms),
            more_keys=[self._keys.dead(delivery.shard)],
        )

    async def _call(
        self,
        name: Literal["begin", "emit", "beat", "reject"],
        running: _Running,
        task_id: str,
        *arguments: str | int,
        more_keys: Sequence[str] = (),
    ) -> list[str]:
        """Run a script about a task; where its session has moved, again with the inbox that it has now."""
        while True:
            delivery = running.delivery
            keys = self._keys.of_task(delivery.shard, task_id, delivery.runtime_id, delivery.lane)
            reply = await self._scripts.insist(name, [*keys, *more_keys], *arguments)
            if reply[0] != "moved":
                return reply
            running.delivery = replace(delivery, runtime_id=reply[1])

    def _forget(self, task_id: str, attempt: int) -> None:
        running = self._running.get(task_id)
        if running is not None and running.attempt == attempt:
            del self._running[task_id]
            self._bell.end(running.delivery.shard)

    def _on_ring(self, task_id: str) -> None:
        running = self._running.get(task_id)
        if running is not None:
            news, running.has_news = running.has_news, anyio.Event()
            news.set()


def _encoded(event: DelegationEvent) -> str:
    """The event as JSON.

    Raises:
        PackageTooLargeError: it is larger than the bus carries.
    """
    encoded = event.encode()
    # A character takes four bytes at most, so what is short need not be measured.
    if 4 * len(encoded) > INLINE_LIMIT_BYTES and (size := len(encoded.encode())) > INLINE_LIMIT_BYTES:
        raise PackageTooLargeError("delegation event", size=size, limit=INLINE_LIMIT_BYTES)
    return encoded
