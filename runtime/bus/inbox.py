"""The events of a runtime's tasks, in order, and the acknowledgements that empty its inbox.

An event stays in the inbox until it is acknowledged, so a runtime that starts anew under the same id is given again
what was not. Knows the stream and the order of events; nothing of what they say.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from pydantic_core import from_json
from redis.exceptions import RedisError

from microturn.protocols import TERMINAL, DelegationEvent, EventKind, ProtocolError
from microturn.runtime.bus._errors import BusNameError
from microturn.runtime.bus.health import HealthMonitor
from microturn.runtime.bus.keys import Keys, checked_name
from microturn.runtime.bus.own_sessions import OwnSessions
from microturn.runtime.bus.pending_writes import PendingWrites
from microturn.runtime.bus.scripts import Scripts
from microturn.runtime.bus.server_errors import TRANSIENT
from microturn.runtime.bus.stored_task import StoredTask
from microturn.runtime.bus.tracks import EventBuffer, Lagged, Track

STORE_COUNT = 100
"""Entries taken out of the inbox by one call."""
GATHER_S = 0.005
"""How long an acknowledgement waits for others. A runtime that dies is given again what it says again or drops by its
receipts either way; meanwhile the server has time for the worker that has just been given the task. Our choice."""
MOST_REMEMBERED = 4096
"""Tasks of which it is remembered that they were ended here, without the server."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Acknowledgement:
    shard: int
    session_id: str
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
        health: HealthMonitor,
        buffer: EventBuffer,
        sessions: OwnSessions,
    ) -> None:
        self._scripts = scripts
        self._keys = keys
        self._runtime_id = runtime_id
        self._clock = clock
        self._buffer = buffer
        self._sessions = sessions
        self._pending: dict[str, _Acknowledgement] = {}
        self._writes = PendingWrites(self._store, health=health, gather_s=GATHER_S)
        self._ended_here: dict[str, None] = {}
        self.tracks: dict[str, Track] = {}
        """The tasks that are not over, or whose events are not all acknowledged."""

    async def all_stored(self) -> None:
        """Wait until every acknowledgement is stored."""
        await self._writes.all_stored()

    async def acknowledge_all(self) -> None:
        """Store acknowledgements until cancelled, through outages."""
        await self._writes.run()

    def acknowledge(self, task_id: str, seq: int) -> None:
        """Note that the events of a task up to `seq` are taken in for good. Never waits."""
        track = self.tracks.get(task_id)
        if track is None:
            return
        entries = track.settle(seq)
        if track.is_over:
            del self.tracks[task_id]
            self._note_ended(
                task_id
            )  # its last event may be known from a ledger, and still unread in the inbox
        self._remove(task_id, track, seq, entries)

    def end_here(self, task_id: str, kind: EventKind, reason: str) -> None:
        """Pass on a terminal event of our own for a task of which the server says nothing more."""
        track = self.tracks.pop(task_id, None)
        if track is None or track.is_ended:
            return
        self._note_ended(task_id)
        self._remove(task_id, track, track.next_seq - 1, track.settle(track.next_seq))
        self._buffer.put(
            DelegationEvent(
                task_id=task_id, attempt=0, seq=track.next_seq, kind=kind, detail={"reason": reason}
            )
        )

    def untrack(self, task_id: str) -> None:
        """Forget a task that never was this runtime's, unless events of it have come."""
        if (track := self.tracks.get(task_id)) is not None and not track.unacknowledged:
            del self.tracks[task_id]

    def drop(self, session_id: str) -> None:
        """Forget the tasks of a session that is no longer this runtime's, and what of them is still in the inbox.

        Left there, it would be taken for a backlog, for which the workers of all other sessions wait.
        """
        for task_id, track in list(self.tracks.items()):
            if track.session_id == session_id:
                held = [entry_id for _, entry_id in track.take_held()]
                self._remove(task_id, track, -1, [*track.settle(track.next_seq), *held])
                del self.tracks[task_id]

    def hold(self, task_id: str, shard: int, session_id: str) -> None:
        """Keep back what comes of a task until `place` says where it stands."""
        self._ended_here.pop(task_id, None)
        self.tracks.setdefault(task_id, Track(shard, session_id)).is_held = True

    def place(self, task_id: str, stored: StoredTask) -> None:
        """Go on with a task that was held: what is stored is known and not given again, what came since is passed on."""
        track = self.tracks[task_id]
        track.place(stored, self._clock())
        self._buffer.discard(lambda event: isinstance(event, DelegationEvent) and event.task_id == task_id)
        for event, entry_id in track.take_held():
            self._pass_on(track, event, entry_id)
        if track.is_over:
            del self.tracks[task_id]
            self._note_ended(task_id)  # its last events may still be in this runtime's inbox, unread

    async def take_in(self, shard: int, entry_id: str, fields: dict[str, str]) -> None:
        """Pass on the event of one entry, unless it was seen before or is not for this runtime."""
        if "moved" in fields:
            self._drop(shard, entry_id)
            with suppress(
                ValueError
            ):  # no epoch, no loss: what this runtime next says of the session will tell
                self._sessions.lose(fields["moved"], int(fields.get("epoch", "0")))
            return
        try:
            event = DelegationEvent.decode(fields.get("event", ""))
            checked_name("task id", event.task_id)
        except (ProtocolError, BusNameError) as error:
            _log.error("An event was given up: %s", error)
            await self._give_up(shard, entry_id, fields.get("event", ""))
            return
        track = self.tracks.get(event.task_id)
        if track is None and event.task_id not in self._ended_here:
            track = await self._resume(event.task_id, shard)
        if track is None:
            self._drop(shard, entry_id)
        elif track.is_held:
            track.held.append((event, entry_id))
        else:
            self._pass_on(track, event, entry_id)

    def _pass_on(self, track: Track, event: DelegationEvent, entry_id: str) -> None:
        items = track.admit(event, entry_id)
        if not items:
            self._remove(event.task_id, track, -1, [entry_id])
        for item in items:
            self._buffer.put(item)

    async def _give_up(self, shard: int, entry_id: str, encoded: str) -> None:
        """Move an event that cannot be read to the dead ones, and let nobody wait for it."""
        keys = [self._keys.inbox(shard, self._runtime_id), self._keys.dead(shard)]
        await self._scripts.run("discard", keys, entry_id, "schema")
        task_id, seq, kind = _outline(encoded)
        track = self.tracks.get(task_id)
        if track is None:
            return
        if kind in TERMINAL:
            self.end_here(task_id, "failed", "schema")
        elif seq >= track.next_seq:
            self._buffer.put(Lagged(task_id, track.next_seq, seq + 1))
            track.next_seq = seq + 1

    async def _resume(self, task_id: str, shard: int) -> Track | None:
        """Take up a task that an earlier process with this runtime id submitted; None if it is not ours now."""
        keys = [self._keys.inbox(shard, self._runtime_id), self._keys.task(shard, task_id)]
        try:
            reply = await self._scripts.run("resume", keys)
        except TRANSIENT:
            raise
        except RedisError as error:  # what stands at the key is no task, and will never be one
            _log.error("An event was dropped: its task cannot be read (%s).", type(error).__name__)
            return None
        # Its session may have been reopened here meanwhile, and the task have been found to be over.
        if reply[0] != "own" or task_id in self._ended_here:
            return None
        deadline_s = self._clock() + int(reply[2]) / 1000
        track = Track(shard, reply[3], deadline_s, next_seq=int(reply[1]) + 1, check_at_s=deadline_s)
        return self.tracks.setdefault(task_id, track)

    def _note_ended(self, task_id: str) -> None:
        """Let nothing more come of a task, whatever is still in the inbox."""
        self._ended_here[task_id] = None
        if len(self._ended_here) > MOST_REMEMBERED:
            del self._ended_here[next(iter(self._ended_here))]

    def _drop(self, shard: int, entry_id: str) -> None:
        """Remove an entry that is of no task here; the name is none that a task can have."""
        self._remove(f"~{shard}", Track(shard), -1, [entry_id])

    def _remove(self, task_id: str, track: Track, seq: int, entries: list[str]) -> None:
        waiting = self._pending.setdefault(task_id, _Acknowledgement(track.shard, track.session_id))
        waiting.seq = max(waiting.seq, seq)
        waiting.entries.extend(entries)
        self._writes.put(task_id)

    async def _store(self, task_id: str) -> bool:
        waiting = self._pending.get(task_id)
        if waiting is None:  # it was put again while it was stored, and all of it has been
            return True
        seq, entries, epoch = (
            waiting.seq,
            waiting.entries[:STORE_COUNT],
            self._sessions.epoch(waiting.session_id),
        )
        keys = [self._keys.inbox(waiting.shard, self._runtime_id), self._keys.task(waiting.shard, task_id)]
        reply = await self._scripts.run("acknowledge", keys, seq, *entries)
        if reply[0] == "moved" and waiting.session_id:
            self._sessions.lose(waiting.session_id, epoch + 1)
        del waiting.entries[: len(entries)]
        if waiting.entries or waiting.seq != seq:
            return False
        del self._pending[task_id]
        return True


def _outline(encoded: str) -> tuple[str, int, str]:
    """Task, number and kind of an event that cannot be read otherwise, as far as they can be told."""
    try:
        raw = from_json(encoded)
    except ValueError:
        raw = None
    found = raw if isinstance(raw, dict) else {}
    task_id, seq, kind = found.get("task_id"), found.get("seq"), found.get("kind")
    return (
        task_id if isinstance(task_id, str) else "",
        seq if isinstance(seq, int) else -1,
        kind if isinstance(kind, str) else "",
    )
