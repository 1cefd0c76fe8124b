"""The records of sessions on the server: which runtime has one, and its ledger of promises.

Reading changes nothing; taking over makes one runtime the owner of a session, and then of each of its tasks. What
dies in between does no harm: whoever asks next takes over all of it. Knows nothing of outages and of what waits here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from microturn.protocols import Promise, SessionLedger
from microturn.runtime.bus._errors import SessionTakenError, UnknownSessionError
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.scripts import Scripts
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.bus.stored_task import StoredTask


@dataclass(frozen=True, slots=True)
class StoredSession:
    """What the server remembers of a session itself."""

    session_id: str
    runtime_id: str
    epoch: int
    elapsed_ms: int
    """Session time, had it gone on without a break."""
    anchor_ms: int
    """When the clock of that time was at 0, by the server's clock."""
    task_ids: tuple[str, ...]

    def ledger(self, tasks: Iterable[StoredTask]) -> SessionLedger:
        """The session's ledger with these tasks."""
        return SessionLedger(
            session_id=self.session_id,
            runtime_id=self.runtime_id,
            epoch=self.epoch,
            elapsed_ms=self.elapsed_ms,
            promises=tuple(task.promise for task in tasks),
        )


class SessionRecords:
    """Reads and takes over sessions. Every method is safe to repeat.

    All raise `redis.exceptions.RedisError` where the server does not answer or refuses.
    """

    def __init__(self, scripts: Scripts, keys: Keys, settings: BusSettings) -> None:
        self._scripts = scripts
        self._keys = keys
        self._settings = settings

    async def read(self, session_id: str) -> SessionLedger:
        """What is promised in a session. Changes nothing.

        Raises:
            UnknownSessionError: it is not remembered.
        """
        reply = await self._scripts.run("read_session", self._keys.of_session(session_id))
        if reply[0] != "known":
            raise UnknownSessionError(session_id)
        session = _session(session_id, reply[1], reply[2:])
        shard = self._keys.shard_of(session_id)
        tasks: list[StoredTask] = []
        for task_id in session.task_ids:
            keys = self._keys.of_task(shard, task_id, session.runtime_id)
            record = await self._scripts.run("recall", keys)
            if record[0] == "known":
                tasks.append(StoredTask.read(task_id, record[1:], anchor_ms=session.anchor_ms))
        return session.ledger(tasks)

    async def promise(self, session_id: str, task_id: str, runtime_id: str) -> Promise | None:
        """Read what is promised of one task of a session that `runtime_id` has; None where it is not remembered."""
        keys = self._keys.of_task(self._keys.shard_of(session_id), task_id, runtime_id)
        record = await self._scripts.run("recall", keys)
        return StoredTask.read(task_id, record[1:], anchor_ms=0).promise if record[0] == "known" else None

    async def take(self, session_id: str, runtime_id: str, *, call_id: str) -> StoredSession:
        """Make a runtime the owner of a session, and tell the one that had it. Its tasks are to be adopted next.

        Args:
            session_id: the session.
            runtime_id: its new owner; may be the present one.
            call_id: the same in a repeated call.

        Raises:
            UnknownSessionError: it is not remembered.
        """
        owner, shard = runtime_id, self._keys.shard_of(session_id)
        while True:
            reply = await self._scripts.run(
                "reopen_session",
                [*self._keys.of_session(session_id), self._keys.inbox(shard, owner)],
                *(runtime_id, session_id, call_id, self._settings.session_retention_ms),
            )
            if reply[0] == "reopened":
                return _session(session_id, runtime_id, reply[1:])
            if reply[0] != "owner":
                raise UnknownSessionError(session_id)
            owner = reply[1]

    async def adopt(self, session: StoredSession, task_id: str) -> StoredTask | None:
        """Let a task follow its session to the runtime that has it; None where it is no longer remembered.

        What it sends from now on goes to that runtime's inbox; what it has sent is in the record.

        Raises:
            SessionTakenError: yet another runtime has taken the session over meanwhile.
        """
        shard = self._keys.shard_of(session.session_id)
        reply = await self._scripts.run(
            "adopt",
            [
                *self._keys.of_task(shard, task_id, session.runtime_id),
                *self._keys.of_session(session.session_id),
            ],
            *(task_id, self._settings.retention_ms, self._settings.session_retention_ms),
        )
        if reply[0] == "moved":
            raise SessionTakenError(session.session_id)
        if reply[0] != "known":
            return None
        return StoredTask.read(task_id, reply[1:], anchor_ms=session.anchor_ms)


def _session(session_id: str, runtime_id: str, reply: list[str]) -> StoredSession:
    epoch, elapsed_ms, anchor_ms = map(int, reply[:3])
    return StoredSession(session_id, runtime_id, epoch, elapsed_ms, anchor_ms, tuple(reply[3:]))
