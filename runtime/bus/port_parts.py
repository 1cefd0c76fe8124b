"""The parts of a runtime's port: made for each other, started together, and waited for together.

Knows which part needs which; nothing of what is asked of them.
"""

from __future__ import annotations

from collections.abc import Callable

from anyio.abc import TaskGroup

from microturn.runtime.bus.answer_writer import AnswerWriter
from microturn.runtime.bus.attachments import AttachmentSender
from microturn.runtime.bus.connection import Clients
from microturn.runtime.bus.deadlines import DeadlineWatch
from microturn.runtime.bus.health import HealthMonitor
from microturn.runtime.bus.inbox import Inbox
from microturn.runtime.bus.inbox_reader import InboxReader
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.ledger_writer import LedgerWriter
from microturn.runtime.bus.outbox import Outbox
from microturn.runtime.bus.outgoing import Outgoing
from microturn.runtime.bus.own_sessions import OwnSessions
from microturn.runtime.bus.reopening import Reopening
from microturn.runtime.bus.requests import Requests
from microturn.runtime.bus.scripts import Scripts
from microturn.runtime.bus.session_records import SessionRecords
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.bus.tracks import EventBuffer, SessionMoved
from microturn.runtime.bus.worker_count import WorkerCount

OUTBOX_LIMIT = 1024
"""Submits, cancels and updates that wait to be sent; one more is refused."""
BUFFER_LIMIT = 256
"""Events that wait to be iterated over; then the inbox is not read on."""


class PortParts:
    """The parts of one port."""

    def __init__(
        self, clients: Clients, settings: BusSettings, *, runtime_id: str, clock: Callable[[], float]
    ) -> None:
        keys, scripts = Keys(settings.tenant, settings.shards), Scripts(clients.commands)
        self.health = HealthMonitor(clock)
        self.worker_count = WorkerCount(scripts, keys, settings, health=self.health)
        self.buffer = EventBuffer(BUFFER_LIMIT)
        self.sessions = OwnSessions(self._on_lost)
        self.inbox = Inbox(
            scripts,
            keys,
            runtime_id=runtime_id,
            clock=clock,
            health=self.health,
            buffer=self.buffer,
            sessions=self.sessions,
        )
        self._reader = InboxReader(
            clients,
            keys,
            settings,
            runtime_id=runtime_id,
            health=self.health,
            room=self.buffer.room,
            take_in=self.inbox.take_in,
        )
        self.writer = LedgerWriter(
            scripts,
            keys,
            settings,
            runtime_id=runtime_id,
            health=self.health,
            sessions=self.sessions,
        )
        self.attachments = AttachmentSender(clients.bulk, keys, ttl_s=settings.attachment_ttl_s)
        self.requests = Requests(
            keys, clock=clock, inbox=self.inbox, sessions=self.sessions, buffer=self.buffer
        )
        outgoing = Outgoing(scripts, keys, settings, runtime_id=runtime_id, clock=clock, writer=self.writer)
        self.outbox = Outbox(
            outgoing, health=self.health, clock=clock, on_answer=self.requests.on_answer, limit=OUTBOX_LIMIT
        )
        self.answers = AnswerWriter(outgoing, health=self.health, on_answer=self.requests.on_answer)
        self._deadlines = DeadlineWatch(
            self.inbox, outgoing, self.sessions, buffer=self.buffer, health=self.health, clock=clock
        )
        self.reopening = Reopening(
            SessionRecords(scripts, keys, settings),
            keys,
            runtime_id=runtime_id,
            inbox=self.inbox,
            sessions=self.sessions,
            writer=self.writer,
        )

    def start(self, tasks: TaskGroup) -> None:
        """Start the tasks of all parts."""
        tasks.start_soon(self.outbox.run, name="bus outbox")
        tasks.start_soon(self._reader.read, name="bus inbox")
        tasks.start_soon(self.inbox.acknowledge_all, name="bus acknowledgements")
        tasks.start_soon(self.writer.run, name="bus ledgers")
        tasks.start_soon(self.answers.run, name="bus answers")
        tasks.start_soon(self.attachments.run, name="bus attachments")
        tasks.start_soon(self._deadlines.run, name="bus deadlines")
        tasks.start_soon(self.worker_count.run, name="bus workers")

    async def all_sent(self) -> None:
        """Wait until the server has all that it was told, also by the methods that do not wait."""
        await self.outbox.all_sent()
        await self.writer.all_stored()
        await self.answers.all_stored()
        await self.inbox.all_stored()
        await self.attachments.all_sent()

    def _on_lost(self, session_id: str) -> None:
        self.inbox.drop(session_id)
        self.buffer.put(SessionMoved(session_id))
