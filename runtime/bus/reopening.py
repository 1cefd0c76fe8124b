"""Takes a session over from the runtime that had it, with all that it is owed.

First the session becomes this runtime's, then each of its tasks; what a task sends meanwhile is held back until it is
known which of its events stand in the ledger. Knows nothing of what will be said of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import uuid4

import anyio

from microturn.protocols import Promise, SessionLedger
from microturn.runtime.bus._errors import BusUnreachableError, UnknownSessionError
from microturn.runtime.bus.inbox import Inbox
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.ledger_writer import LedgerWriter
from microturn.runtime.bus.own_sessions import OwnSessions
from microturn.runtime.bus.patience import until_answered
from microturn.runtime.bus.session_records import SessionRecords, StoredSession
from microturn.runtime.bus.stored_task import StoredTask

WITHIN_S = 10.0
"""How long the server is waited for: somebody is at the other end of the line."""

Result = TypeVar("Result")


class Reopening:
    """Reads and reopens sessions for one runtime, through short outages."""

    def __init__(
        self,
        records: SessionRecords,
        keys: Keys,
        *,
        runtime_id: str,
        inbox: Inbox,
        sessions: OwnSessions,
        writer: LedgerWriter,
    ) -> None:
        self._records = records
        self._keys = keys
        self._runtime_id = runtime_id
        self._inbox = inbox
        self._sessions = sessions
        self._writer = writer

    async def ledger(self, session_id: str) -> SessionLedger:
        """Read a session's ledger; errors as in `reopen`."""
        return await _within_limit(lambda: self._records.read(session_id))

    async def promise(self, session_id: str, task_id: str) -> Promise | None:
        """Read what is promised of one task; None where it is not remembered.

        Raises:
            BusUnreachableError: the server did not answer for 10 s.
        """
        return await _within_limit(lambda: self._records.promise(session_id, task_id, self._runtime_id))

    async def reopen(self, session_id: str) -> SessionLedger:
        """Take a session over. What comes of it later is passed on only after this call has returned.

        Raises:
            UnknownSessionError: it is not remembered.
            SessionTakenError: yet another runtime has taken it over meanwhile.
            BusUnreachableError: the server did not answer for 10 s. The session may be this runtime's or not;
                it can be reopened again, here or elsewhere.
        """
        call_id = uuid4().hex
        self._sessions.expect(session_id)
        try:
            session, tasks = await _within_limit(lambda: self._take_over(session_id, call_id))
        except BaseException as error:
            self._sessions.forget(session_id)
            if not isinstance(error, UnknownSessionError):
                self._inbox.drop(session_id)  # what was held back stands in the ledger of the next call
            raise
        self._sessions.gain(session_id, session.epoch)
        # Nothing is awaited from here on, so that the caller knows the tasks before an event of theirs comes.
        for stored in tasks:
            self._inbox.place(stored.promise.task_id, stored)
        return session.ledger(tasks)

    async def _take_over(self, session_id: str, call_id: str) -> tuple[StoredSession, list[StoredTask]]:
        # What this runtime noted while another had the session is refused as long as that one has it, not later.
        await self._writer.all_stored(session_id)
        session = await self._records.take(session_id, self._runtime_id, call_id=call_id)
        shard = self._keys.shard_of(session_id)
        tasks: list[StoredTask] = []
        for task_id in session.task_ids:
            self._inbox.hold(task_id, shard, session_id)
            stored = await self._records.adopt(session, task_id)
            if stored is None:
                self._inbox.tracks.pop(task_id, None)
            else:
                tasks.append(stored)
        return session, tasks


async def _within_limit(ask: Callable[[], Awaitable[Result]]) -> Result:
    """Ask again while the server is away, for as long as somebody may wait.

    Raises:
        BusUnreachableError: it did not answer in time.
        BusReplyError: it refused.
    """
    with anyio.move_on_after(WITHIN_S):
        return await until_answered(ask, "read a session")
    raise BusUnreachableError(
        "cannot read a session: the Redis server did not answer in time; see the port's health"
    )
