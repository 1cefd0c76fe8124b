"""The runtime's side of the delegation bus.

The beat only ever calls the methods that end in `_nowait` and reads properties; all that talks to the server lives in
the port's own tasks. Through an outage nothing is lost and nothing is done twice: what is to be sent waits until its
deadline, what is to be read waits on the server. Every task that was handed over ends with exactly one terminal
event, if need be one that the port makes itself. Knows nothing of speech.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal, TypeAlias, cast
from uuid import uuid4

import anyio
from anyio.abc import TaskGroup

from microturn.protocols import ContextPackage, Promise, PromiseState, Receipt, Reference, SessionLedger
from microturn.runtime.bus._errors import (
    BusUnreachableError,
    PackageTooLargeError,
    QueueFullError,
    SessionTakenError,
)
from microturn.runtime.bus.answer_writer import AnswerWriter
from microturn.runtime.bus.attachments import AttachmentSender
from microturn.runtime.bus.connection import Clients, open_clients
from microturn.runtime.bus.deadlines import GRACE_S, DeadlineWatch
from microturn.runtime.bus.health import Health, HealthMonitor
from microturn.runtime.bus.inbox import Inbox
from microturn.runtime.bus.inbox_reader import InboxReader
from microturn.runtime.bus.keys import Keys, checked_name
from microturn.runtime.bus.ledger_writer import LedgerWriter
from microturn.runtime.bus.outbox import PATIENCE_S, Outbox
from microturn.runtime.bus.outgoing import Item, Outgoing
from microturn.runtime.bus.own_sessions import OwnSessions
from microturn.runtime.bus.own_tasks import own_tasks
from microturn.runtime.bus.registry import RuntimeRegistry
from microturn.runtime.bus.reopening import Reopening
from microturn.runtime.bus.scripts import Scripts
from microturn.runtime.bus.server_check import check_server
from microturn.runtime.bus.session_records import SessionRecords
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.bus.tracks import BusEvent, EventBuffer, SessionMoved, Track, UpdateRefused
from microturn.runtime.bus.worker_count import WorkerCount

OUTBOX_LIMIT = 1024
"""Submits, cancels and updates that wait to be sent; one more is refused."""
BUFFER_LIMIT = 256
"""Events that wait to be iterated over; then the inbox is not read on."""
CLOSE_WITHIN_S = 1.0
"""How long a port that is closed goes on sending what waits."""

CancelOutcome: TypeAlias = Literal["ended", "asked", "unknown", "moved"]
UpdateOutcome: TypeAlias = Literal["stored", "ended", "full", "unknown", "moved"]
AnswerOutcome: TypeAlias = Literal["stored", "ended", "unknown", "moved"]

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_delegation_port(
    settings: BusSettings,
    *,
    runtime_id: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[DelegationPort]:
    """Open a port and run its tasks until the end of the block; then send what waits for up to 1 s.

    Args:
        settings: where the bus is.
        runtime_id: names the inbox. A process that starts anew under the same id is given again what was not
            acknowledged; never use one id in two processes at a time. None makes a new one.
        clock: monotonic seconds, for deadlines.

    Raises:
        BusNameError: the tenant or the runtime id cannot be part of a key.
        BusUnreachableError: no server answers.
        UnfitServerError: the server would lose tasks.
        UnfitSettingsError: the bus is spread over another number of shards.
        RuntimeIdTakenError: another live process has the runtime id.
    """
    checked_name("tenant", settings.tenant)
    runtime_id = checked_name("runtime id", runtime_id or uuid4().hex)
    async with open_clients(settings) as clients:
        await check_server(clients.commands, settings.url)
        keys = Keys(settings.tenant, settings.shards)
        registry = RuntimeRegistry(clients.commands, keys, settings, runtime_id=runtime_id)
        async with registry.registered(), own_tasks() as tasks:
            tasks.start_soon(registry.run, name="bus registry")
            port = DelegationPort(clients, settings, runtime_id=runtime_id, clock=clock)
            port.start(tasks)
            try:
                yield port
            finally:
                with anyio.CancelScope(shield=True):
                    await port.close()


class DelegationPort:
    """Hands tasks over, and gives back their events in order, each once. Made by `open_delegation_port`."""

    def __init__(
        self, clients: Clients, settings: BusSettings, *, runtime_id: str, clock: Callable[[], float]
    ) -> None:
        self.runtime_id = runtime_id
        self._settings = settings
        self._clock = clock
        self._keys = Keys(settings.tenant, settings.shards)
        self._scripts = Scripts(clients.commands)
        self._health = HealthMonitor(clock)
        self._worker_count = WorkerCount(self._scripts, self._keys, settings, health=self._health)
        self._buffer = EventBuffer(BUFFER_LIMIT)
        self._sessions = OwnSessions(self._on_lost)
        self._inbox = Inbox(
            self._scripts,
            self._keys,
            runtime_id=runtime_id,
            clock=clock,
            health=self._health,
            buffer=self._buffer,
            sessions=self._sessions,
        )
        self._reader = InboxReader(
            clients,
            self._keys,
            settings,
            runtime_id=runtime_id,
            health=self._health,
            room=self._buffer.room,
            take_in=self._inbox.take_in,
        )
        self._writer = LedgerWriter(
            self._scripts,
            self._keys,
            settings,
            runtime_id=runtime_id,
            health=self._health,
            sessions=self._sessions,
        )
        self._attachments = AttachmentSender(clients.bulk, self._keys, ttl_s=settings.attachment_ttl_s)
        outgoing = Outgoing(
            self._scripts, self._keys, settings, runtime_id=runtime_id, clock=clock, writer=self._writer
        )
        self._outbox = Outbox(
            outgoing, health=self._health, clock=clock, on_answer=self._on_answer, limit=OUTBOX_LIMIT
        )
        self._answers = AnswerWriter(outgoing, health=self._health, on_answer=self._on_answer)
        self._deadlines = DeadlineWatch(
            self._inbox, outgoing, self._sessions, buffer=self._buffer, health=self._health, clock=clock
        )
        self._reopening = Reopening(
            SessionRecords(self._scripts, self._keys, settings),
            self._keys,
            runtime_id=runtime_id,
            inbox=self._inbox,
            sessions=self._sessions,
            writer=self._writer,
        )

    def start(self, tasks: TaskGroup) -> None:
        """Start the port's own tasks."""
        tasks.start_soon(self._outbox.run, name="bus outbox")
        tasks.start_soon(self._reader.read, name="bus inbox")
        tasks.start_soon(self._inbox.acknowledge_all, name="bus acknowledgements")
        tasks.start_soon(self._writer.run, name="bus ledgers")
        tasks.start_soon(self._answers.run, name="bus answers")
        tasks.start_soon(self._attachments.run, name="bus attachments")
        tasks.start_soon(self._deadlines.run, name="bus deadlines")
        tasks.start_soon(self._worker_count.run, name="bus workers")

    async def close(self) -> None:
        """Send what waits, for up to 1 s; then the iteration over `events` ends."""
        with anyio.move_on_after(CLOSE_WITHIN_S):
            await self.flush()
        self._buffer.close()

    async def flush(self) -> None:
        """Wait until the server has all that it was told, also by the methods that do not wait."""
        await self._outbox.all_sent()
        await self._writer.all_stored()
        await self._answers.all_stored()
        await self._inbox.all_stored()
        await self._attachments.all_sent()

    @property
    def health(self) -> Health:
        """The state of the bus, and how many workers live. Never waits."""
        return self._health.now

    def enter_nowait(self, session_id: str, session_ms: float) -> bool:
        """Begin a session in this runtime without waiting; False if too much waits already.

        `session_ms` is the session's time now. Of a session that another runtime has, and has not left,
        `SessionMoved` comes from `events`; it can only be reopened. To enter a session anew sets its clock.
        """
        shard, now_s = self._keys.shard_of(checked_name("session id", session_id)), self._clock()
        began_s = now_s - session_ms / 1000
        return self._outbox.put_nowait(Item("enter", session_id, "", shard, math.inf, began_s=began_s))

    def leave_nowait(self, session_id: str) -> None:
        """End a session without waiting: its open tasks are cancelled, and what is still owed is declined.

        Goes out after all that was submitted and noted of the session before. Never refuses.
        """
        shard = self._keys.shard_of(checked_name("session id", session_id))
        self._outbox.put_always(Item("leave", session_id, "", shard, math.inf))

    async def reopen(self, session_id: str) -> SessionLedger:
        """Take a session over, whichever runtime had it, and return what it is owed.

        From now on what comes of its tasks comes here, after the events in the ledger and only after this call has
        returned, and the runtime that had it is told so. The session's clock begins anew at 0 unless `enter_nowait`
        sets it; session times in the ledger's events, and in what its tasks still send here, are by the clock that
        `elapsed_ms` is of.

        Raises:
            BusNameError: the session id cannot be part of a key.
            UnknownSessionError: the session is not remembered.
            SessionTakenError: yet another runtime has taken it over meanwhile.
            BusUnreachableError: the server did not answer for 10 s; it may have done it or not, so reopen again.
        """
        ledger = await self._reopening.reopen(checked_name("session id", session_id))
        earlier = SessionMoved(session_id)
        self._buffer.discard(lambda event: event == earlier)
        return ledger

    async def ledger(self, session_id: str) -> SessionLedger:
        """Read what a session is owed, whichever runtime has it; errors as in `reopen`. Changes nothing."""
        return await self._reopening.ledger(checked_name("session id", session_id))

    def session_of(self, task_id: str) -> str | None:
        """The session of a task of which events come; None of one that is over, or unknown. Never waits."""
        track = self._inbox.tracks.get(task_id)
        return track.session_id if track is not None else None

    async def promise(self, session_id: str, task_id: str) -> Promise | None:
        """Read what is promised of one task of a session; None where it is not remembered. Changes nothing.

        Raises:
            BusUnreachableError: the server did not answer for 10 s.
            BusReplyError: it refused.
        """
        return await self._reopening.promise(session_id, task_id)

    def receipt_nowait(self, session_id: str, receipt: Receipt) -> None:
        """Store what has become of a piece. Never waits, never refuses.

        Of each piece only the newest waits to be stored. A settled state stays, and `words_heard` only grows.
        """
        self._writer.receipt(session_id, receipt)

    def promise_nowait(self, session_id: str, task_id: str, state: PromiseState) -> None:
        """Store how the promise of a task has ended. Never waits, never refuses. The first end stays."""
        self._writer.promise(session_id, task_id, state)

    def keep_nowait(self, session_id: str, data: bytes, media_type: str, time_ms: int) -> Reference | None:
        """Keep bytes for the tasks of a session without waiting, and return what names them in a package.

        None where they are empty or larger than 1 MiB. They are kept for `attachment_ttl_s` from when they are stored.
        Where too much waits to be sent, the oldest that waits is left out, and is gone for whoever asks for it.

        Args:
            session_id: whose tasks may load them.
            data: what is kept, as it is.
            media_type: what it is, such as `image/jpeg`.
            time_ms: session time of what it shows.
        """
        return self._attachments.keep_nowait(
            checked_name("session id", session_id), data, media_type, time_ms
        )

    def submit_nowait(self, package: ContextPackage) -> bool:
        """Hand a task over without waiting; False if too much waits already.

        What becomes of it is told by `events`: `accepted` and so on, or at once a terminal event with the `reason`
        in its detail: `failed` (`queue_full`, `too_large`, `refused`, `moved`: another runtime has the session),
        `expired` (`deadline`: the server did not answer in time), or `cancelled` (`duplicate`: another task has its
        idempotency key). After `SessionMoved` nothing more comes of the tasks that the server has accepted.
        """
        item = self._submission(package)
        if not self._outbox.put_nowait(item):
            return False
        self._track(item)
        return True

    def cancel_nowait(self, task_id: str, reason: str) -> bool:
        """Stop a task without waiting; False if too much waits already. It ends with `cancelled`."""
        return self._outbox.put_nowait(self._order("cancel", task_id, reason))

    def update_nowait(self, task_id: str, text: str) -> bool:
        """Tell a running task what has changed without waiting; False if too much waits already.

        Where it comes too late, or the task takes no more, `UpdateRefused` comes from `events`.
        """
        return self._outbox.put_nowait(self._order("update", task_id, text))

    def answer_nowait(self, task_id: str, seq: int, text: str) -> None:
        """Store what the user answered to a question. Never waits, never refuses.

        The first answer that the server has of a question stays; of those that wait for it, the newest does. To a task
        that has ended it comes too late, and nobody is told.

        Args:
            task_id: the task that asks.
            seq: number of the event that asked.
            text: the user's words; empty where the user will not answer.
        """
        self._answers.put(self._answer_to(task_id, seq, text))

    def acknowledge_nowait(self, task_id: str, seq: int) -> None:
        """Note that a task's events up to `seq` were woven. They will not be given again, and leave the inbox."""
        self._inbox.acknowledge(task_id, seq)

    async def submit(self, package: ContextPackage) -> Literal["accepted", "duplicate"]:
        """Hand a task over and wait until the server has it. Waits through an outage, until the deadline.

        A duplicate of a task of this runtime brings no second events; the first one's go on.

        Raises:
            QueueFullError: the server takes no more tasks now.
            BusUnreachableError: the server did not answer before the deadline.
            PackageTooLargeError: it cannot be cut down to the limit.
            SessionTakenError: another runtime has the session.
        """
        item = self._submission(package, is_awaited=True)
        self._track(item)
        await self._outbox.put(item)
        await self._until_answered(item)
        if item.outcome == "full":
            raise QueueFullError(
                f"cannot submit a task: the queue is at its limit of {self._settings.queue_limit}, or the server's "
                "memory is; start more workers or try again later"
            )
        if item.outcome == "moved":
            raise SessionTakenError(package.session_id)
        return "duplicate" if item.outcome == "duplicate" else "accepted"

    async def cancel(self, task_id: str, reason: str) -> CancelOutcome:
        """Stop a task and wait until the server knows.

        Returns `ended` where it is over now or was before, `asked` where its worker is told with its next sign of
        life. Either way a terminal event follows.

        Raises:
            BusUnreachableError: the server did not answer within 30 s.
        """
        return cast("CancelOutcome", (await self._do(self._order("cancel", task_id, reason))) or "unknown")

    async def update(self, task_id: str, text: str) -> UpdateOutcome:
        """Tell a running task what has changed, and wait until the server knows.

        Raises:
            BusUnreachableError: the server did not answer within 30 s.
        """
        return cast("UpdateOutcome", (await self._do(self._order("update", task_id, text))) or "unknown")

    async def answer(self, task_id: str, seq: int, text: str) -> AnswerOutcome:
        """As `answer_nowait`, and wait until the server knows. `stored` where the question has an answer now.

        Raises:
            BusUnreachableError: the server did not answer within 30 s.
        """
        outcome = await self._do(self._answer_to(task_id, seq, text))
        return cast("AnswerOutcome", outcome or "unknown")

    async def acknowledge(self, task_id: str, seq: int) -> None:
        """As `acknowledge_nowait`, and wait until all that was acknowledged is stored."""
        self._inbox.acknowledge(task_id, seq)
        await self._inbox.all_stored()

    async def events(self) -> AsyncGenerator[BusEvent, None]:
        """Iterate over the events of all this runtime's tasks, until the port is closed. One reader at a time.

        Each task's events come in the order of their numbers, each once; where some are missing, `Lagged` says so
        first. Events that are not acknowledged pile up on the server and slow the workers down.
        """
        while (event := await self._buffer.get()) is not None:
            yield event

    async def workers(self) -> int:
        """Count the workers that live now.

        Raises:
            BusUnreachableError: the server does not answer.
        """
        return await self._worker_count.now()

    def _submission(self, package: ContextPackage, *, is_awaited: bool = False) -> Item:
        checked_name("task id", package.task_id)
        session_id = checked_name("session id", package.session_id)
        return Item(
            "submit",
            session_id,
            package.task_id,
            self._keys.shard_of(session_id),
            self._clock() + package.deadline_s,
            package=package,
            is_awaited=is_awaited,
            epoch=self._sessions.epoch(session_id),
        )

    def _order(self, kind: Literal["cancel", "update", "answer"], task_id: str, text: str) -> Item:
        track = self._inbox.tracks.get(checked_name("task id", task_id)) or Track(0)
        return Item(
            kind,
            track.session_id,
            task_id,
            track.shard,
            self._clock() + PATIENCE_S,
            text=text,
            epoch=self._sessions.epoch(track.session_id),
        )

    def _answer_to(self, task_id: str, seq: int, text: str) -> Item:
        item = self._order("answer", task_id, text)
        item.seq = seq
        return item

    async def _do(self, item: Item) -> str | None:
        item.is_awaited = True
        await self._outbox.put(item)
        await self._until_answered(item)
        return item.outcome

    async def _until_answered(self, item: Item) -> None:
        await item.answered.wait()
        if item.error is not None:
            raise item.error

    def _track(self, item: Item) -> None:
        track = Track(item.shard, item.session_id, item.give_up_s, check_at_s=item.give_up_s + GRACE_S)
        item.is_tracked_anew = self._inbox.tracks.setdefault(item.task_id, track) is track

    def _on_answer(self, item: Item) -> None:
        """Tell of what came to nothing, once the server or the clock has decided."""
        if item.error is not None and item.kind != "submit":
            _log.warning("The bus could not be told: %s", item.error)
        match item.kind:
            case "submit":
                self._on_submitted(item)
            case "update":
                if item.outcome not in ("stored", "moved") and not item.is_awaited:
                    self._buffer.put(UpdateRefused(item.task_id))
            case "enter":
                if item.outcome == "entered":
                    self._sessions.gain(item.session_id, item.epoch)
            case "leave":
                self._sessions.forget(item.session_id)
            case "cancel" | "answer":
                pass
        if item.outcome == "moved" and item.session_id:
            self._sessions.lose(item.session_id, item.epoch + 1)

    def _on_submitted(self, item: Item) -> None:
        if item.outcome == "accepted" or not item.is_tracked_anew:
            return
        if item.is_awaited or (item.outcome == "duplicate" and item.owner == item.task_id):
            self._inbox.untrack(item.task_id)
        else:
            self._inbox.end_here(item.task_id, *_failure(item))

    def _on_lost(self, session_id: str) -> None:
        self._inbox.drop(session_id)
        self._buffer.put(SessionMoved(session_id))


def _failure(item: Item) -> tuple[Literal["failed", "expired", "cancelled"], str]:
    """How a submit that came to nothing is told: the kind of event and the reason."""
    if item.outcome == "duplicate":
        return "cancelled", "duplicate"
    if item.outcome == "full":
        return "failed", "queue_full"
    if item.outcome == "moved":
        return "failed", "moved"
    if isinstance(item.error, BusUnreachableError):
        return "expired", "deadline"
    return "failed", "too_large" if isinstance(item.error, PackageTooLargeError) else "refused"
