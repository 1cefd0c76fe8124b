"""The events of a runtime's tasks, in order, and the acknowledgements that empty its inbox.

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
from microturn.runtime.bus.connection import Backoff
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.scripts import Scripts
from microturn.runtime.bus.tracks import EventBuffer, Track

STORE_COUNT = 100
"""Entries taken out of the inbox by one call."""
MOST_REMEMBERED = 4096
"""Tasks of which it is remembered that they were ended here, without the server."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Acknowledgement:
    shard: int
    seq: int = -1
    entries: list[str] = field(default_factory=list)


class Inbox:
    """The events of one runtime's tasks. `acknowledge_all` is to be started in the owner's task group.

    Only one process may use a runtime id at a time: two would both say what comes.
    """

    def __init__(
        self,
        scripts: Scripts,
        keys: Keys,
        *,
        runtime_id: str,
        clock: Callable[[], float],
        buffer: EventBuffer,
    ) -> None:
        self._scripts = scripts
        self._keys = keys
        self._runtime_id = runtime_id
        self._clock = clock
        self._buffer = buffer
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

    async def take_in(self, shard: int, entry_id: str, fields: dict[str, str]) -> None:
        """Pass on the event of one entry, unless it was seen before."""
        try:
            event = DelegationEvent.decode(fields.get("event", ""))
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
        seq, entries = waiting.seq, waiting.entries[:STORE_COUNT]
        keys = [self._keys.task(waiting.shard, task_id), self._keys.inbox(waiting.shard, self._runtime_id)]
        await self._scripts.run("acknowledge", keys, seq, *entries)
        del waiting.entries[: len(entries)]
        if not waiting.entries and waiting.seq == seq:
            del self._pending[task_id]
            stored, self._stored = self._stored, anyio.Event()
            stored.set()
