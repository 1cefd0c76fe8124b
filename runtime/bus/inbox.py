"""The runtime's reader of its inbox, and the acknowledgements that empty it.

An event stays in the inbox until it is acknowledged, so a runtime that starts anew under the same id is given again
what was not. Knows the stream and the order of events; nothing of what they say.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
from redis.exceptions import RedisError

from microturn.protocols import DelegationEvent, EventKind, ProtocolError
from microturn.runtime.bus.connection import TRANSIENT, Backoff, Clients
from microturn.runtime.bus.health import HealthMonitor
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.raw import command, entries_by_stream
from microturn.runtime.bus.scripts import Scripts
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.bus.tracks import EventBuffer, Track

READ_COUNT = 100
"""Events taken from the inbox at once."""
READ_BLOCK_S = 1.0
"""How long a read waits for an event before it asks again."""
MOST_REMEMBERED = 4096
"""Tasks of which it is remembered that they were ended here, without the server."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Acknowledgement:
    shard: int
    seq: int = -1
    entries: list[str] = field(default_factory=list)


class Inbox:
    """The events of one runtime's tasks. `read` and `acknowledge_all` are to be started in the owner's task group.

    Only one process may use a runtime id at a time: two would both say what comes.
    """

    def __init__(
        self,
        clients: Clients,
        keys: Keys,
        settings: BusSettings,
        *,
        runtime_id: str,
        health: HealthMonitor,
        clock: Callable[[], float],
        buffer: EventBuffer,
    ) -> None:
        self._clients = clients
        self._scripts = Scripts(clients.commands)
        self._keys = keys
        self._settings = settings
        self._runtime_id = runtime_id
        self._health = health
        self._clock = clock
        self._buffer = buffer
        self._last_ids = {keys.inbox(shard, runtime_id): "0-0" for shard in range(settings.shards)}
        self._shards = {keys.inbox(shard, runtime_id): shard for shard in range(settings.shards)}
        self._pending: dict[str, _Acknowledgement] = {}
        self._has_pending = anyio.Event()
        self._stored = anyio.Event()
        self._ended_here: dict[str, None] = {}
        self.tracks: dict[str, Track] = {}
        """The tasks that are not over, or whose events are not all acknowledged."""

    async def all_stored(self) -> None:
        """Wait until every acknowledgement is stored."""
        while self._pending:
            await self._stored.wait()

    def acknowledge(self, task_id: str, seq: int) -> None:
        """Note that the events of a task up to `seq` are taken in for good. Never waits."""
        track = self.tracks.get(task_id)
        if track is None:
            return
        entries = track.entries_up_to(seq)
        track.settle(seq)
        if track.is_ended and not track.unacknowledged:
            del self.tracks[task_id]
        self._remove(task_id, track.shard, seq, entries)

    def end_here(self, task_id: str, kind: EventKind, reason: str) -> None:
        """Pass on a terminal event of our own for a task of which the server says nothing more."""
        track = self.tracks.pop(task_id, None)
        if track is None or track.is_ended:
            return
        self._ended_here[task_id] = None
        if len(self._ended_here) > MOST_REMEMBERED:
            del self._ended_here[next(iter(self._ended_here))]
        self._remove(task_id, track.shard, track.next_seq - 1, track.entries_up_to(track.next_seq))
        self._buffer.put(
            DelegationEvent(
                task_id=task_id, attempt=0, seq=track.next_seq, kind=kind, detail={"reason": reason}
            )
        )

    def untrack(self, task_id: str) -> None:
        """Forget a task that never was this runtime's, unless events of it have come."""
        if (track := self.tracks.get(task_id)) is not None and not track.unacknowledged:
            del self.tracks[task_id]

    async def read(self) -> None:
        """Pass on what comes in until cancelled, through outages."""
        backoff = Backoff()
        while True:
            await self._buffer.room()
            try:
                await self._read_once()
            except (*TRANSIENT, TimeoutError) as error:
                self._health.fails("reading", error)
                await anyio.sleep(backoff.pause_s())
            except RedisError as error:  # the task boundary: whatever it is, it is shown and tried again
                _log.error("The inbox cannot be read (%s).", type(error).__name__)
                self._health.fails("reading", error)
                await anyio.sleep(backoff.pause_s())
            else:
                self._health.works("reading")
                backoff.reset()

    async def acknowledge_all(self) -> None:
        """Store acknowledgements until cancelled, through outages."""
        backoff = Backoff()
        while True:
            while not self._pending:
                self._has_pending = anyio.Event()
                await self._has_pending.wait()
            task_id = next(iter(self._pending))
            try:
                await self._store(task_id, self._pending[task_id])
            except RedisError:
                await anyio.sleep(backoff.pause_s())
            else:
                backoff.reset()

    async def _read_once(self) -> None:
        with anyio.fail_after(READ_BLOCK_S + self._settings.command_timeout_s):
            reply = await command(
                self._clients.blocking,
                *("XREAD", "COUNT", READ_COUNT, "BLOCK", round(READ_BLOCK_S * 1000)),
                *("STREAMS", *self._last_ids, *self._last_ids.values()),
            )
        for stream, entries in entries_by_stream(reply):
            for entry_id, fields in entries:
                await self._take_in(self._shards[stream], entry_id, fields.get("event", ""))
                self._last_ids[stream] = entry_id

    async def _take_in(self, shard: int, entry_id: str, encoded: str) -> None:
        try:
            event = DelegationEvent.decode(encoded)
        except ProtocolError as error:
            _log.error("An event was dropped: %s", error)
            self._remove(f"unreadable {entry_id}", shard, -1, [entry_id])
            return
        if event.task_id in self._ended_here:
            self._remove(event.task_id, shard, event.seq, [entry_id])
            return
        track = self.tracks.get(event.task_id) or await self._resume(event.task_id, shard)
        passed_on = track.admit(event, entry_id)
        if not passed_on:
            self._remove(event.task_id, shard, -1, [entry_id])
        for item in passed_on:
            self._buffer.put(item)

    async def _resume(self, task_id: str, shard: int) -> Track:
        """Take up a task that an earlier process with this runtime id submitted."""
        acked, left_ms = await self._scripts.run("resume", [self._keys.task(shard, task_id)])
        deadline_s = self._clock() + int(left_ms) / 1000
        track = Track(shard, deadline_s, next_seq=int(acked) + 1, check_at_s=deadline_s)
        return self.tracks.setdefault(task_id, track)

    def _remove(self, task_id: str, shard: int, seq: int, entries: list[str]) -> None:
        waiting = self._pending.setdefault(task_id, _Acknowledgement(shard))
        waiting.seq = max(waiting.seq, seq)
        waiting.entries.extend(entries)
        self._has_pending.set()

    async def _store(self, task_id: str, waiting: _Acknowledgement) -> None:
        seq, entries = waiting.seq, waiting.entries[:READ_COUNT]
        keys = [self._keys.task(waiting.shard, task_id), self._keys.inbox(waiting.shard, self._runtime_id)]
        await self._scripts.run("acknowledge", keys, seq, *entries)
        del waiting.entries[: len(entries)]
        if not waiting.entries and waiting.seq == seq:
            del self._pending[task_id]
            stored, self._stored = self._stored, anyio.Event()
            stored.set()
