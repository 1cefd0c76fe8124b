"""The runtime's side of the delegation bus.

The beat only ever calls the methods that end in `_nowait` and reads properties; all that talks to the server lives in
the port's own tasks. Through an outage nothing is lost and nothing is done twice: what is to be sent waits until its
deadline, what is to be read waits on the server. Every task that was handed over ends with exactly one terminal
event, if need be one that the port makes itself. Knows nothing of speech.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal, TypeAlias, cast
from uuid import uuid4

import anyio

from microturn.protocols import ContextPackage, Promise, PromiseState, Receipt, Reference, SessionLedger
from microturn.runtime.bus._errors import (
    QueueFullError,
    SessionTakenError,
)
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.health import Health
from microturn.runtime.bus.keys import Keys, checked_name
from microturn.runtime.bus.outgoing import Item
from microturn.runtime.bus.own_tasks import own_tasks
from microturn.runtime.bus.port_parts import PortParts
from microturn.runtime.bus.registry import RuntimeRegistry
from microturn.runtime.bus.server_check import check_server
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.bus.tracks import BusEvent, SessionMoved

CLOSE_WITHIN_S = 1.0
"""How long a port that is closed goes on sending what waits."""

CancelOutcome: TypeAlias = Literal["ended", "asked", "unknown", "moved"]
UpdateOutcome: TypeAlias = Literal["stored", "ended", "full", "unknown", "moved"]
AnswerOutcome: TypeAlias = Literal["stored", "ended", "unknown", "moved"]


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
            parts = PortParts(clients, settings, runtime_id=runtime_id, clock=clock)
            parts.start(tasks)
            port = DelegationPort(parts, settings, runtime_id=runtime_id, clock=clock)
            try:
                yield port
            finally:
                with anyio.CancelScope(shield=True):
                    await port.close()


class DelegationPort:
    """Hands tasks over, and gives back their events in order, each once. Made by `open_delegation_port`."""

    def __init__(
        self, parts: PortParts, settings: BusSettings, *, runtime_id: str, clock: Callable[[], float]
    ) -> None:
        self.runtime_id = runtime_id
        self._parts = parts
        self._requests = parts.requests
        self._outbox = parts.outbox
        self._settings = settings
        self._clock = clock
        self._keys = Keys(settings.tenant, settings.shards)

    async def close(self) -> None:
        """Send what waits, for up to 1 s; then the iteration over `events` ends."""
        with anyio.move_on_after(CLOSE_WITHIN_S):
            await self.flush()
        self._parts.buffer.close()

    async def flush(self) -> None:
        """Wait until the server has all that it was told, also by the methods that do not wait."""
        await self._parts.all_sent()

    @property
    def health(self) -> Health:
        """The state of the bus, and how many workers live. Never waits."""
        return self._parts.health.now

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
        ledger = await self._parts.reopening.reopen(checked_name("session id", session_id))
        earlier = SessionMoved(session_id)
        self._parts.buffer.discard(lambda event: event == earlier)
        return ledger

    async def ledger(self, session_id: str) -> SessionLedger:
        """Read what a session is owed, whichever runtime has it; errors as in `reopen`. Changes nothing."""
        return await self._parts.reopening.ledger(checked_name("session id", session_id))

    def session_of(self, task_id: str) -> str | None:
        """The session of a task of which events come; None of one that is over, or unknown. Never waits."""
        track = self._parts.inbox.tracks.get(task_id)
        return track.session_id if track is not None else None

    async def promise(self, session_id: str, task_id: str) -> Promise | None:
        """Read what is promised of one task of a session; None where it is not remembered. Changes nothing.

        Raises:
            BusUnreachableError: the server did not answer for 10 s.
            BusReplyError: it refused.
        """
        return await self._parts.reopening.promise(session_id, task_id)

    def receipt_nowait(self, session_id: str, receipt: Receipt) -> None:
        """Store what has become of a piece. Never waits, never refuses.

        Of each piece only the newest waits to be stored. A settled state stays, and `words_heard` only grows.
        """
        self._parts.writer.receipt(session_id, receipt)

    def promise_nowait(self, session_id: str, task_id: str, state: PromiseState) -> None:
        """Store how the promise of a task has ended. Never waits, never refuses. The first end stays."""
        self._parts.writer.promise(session_id, task_id, state)

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
        return self._parts.attachments.keep_nowait(
            checked_name("session id", session_id), data, media_type, time_ms
        )

    def submit_nowait(self, package: ContextPackage) -> bool:
        """Hand a task over without waiting; False if too much waits already.

        What becomes of it is told by `events`: `accepted` and so on, or at once a terminal event with the `reason`
        in its detail: `failed` (`queue_full`, `too_large`, `refused`, `moved`: another runtime has the session),
        `expired` (`deadline`: the server did not answer in time), or `cancelled` (`duplicate`: another task has its
        idempotency key). After `SessionMoved` nothing more comes of the tasks that the server has accepted.
        """
        item = self._requests.submission(package)
        if not self._outbox.put_nowait(item):
            return False
        self._requests.track(item)
        return True

    def cancel_nowait(self, task_id: str, reason: str) -> bool:
        """Stop a task without waiting; False if too much waits already. It ends with `cancelled`."""
        return self._outbox.put_nowait(self._requests.order("cancel", task_id, reason))

    def update_nowait(self, task_id: str, text: str) -> bool:
        """Tell a running task what has changed without waiting; False if too much waits already.

        Where it comes too late, or the task takes no more, `UpdateRefused` comes from `events`.
        """
        return self._outbox.put_nowait(self._requests.order("update", task_id, text))

    def answer_nowait(self, task_id: str, seq: int, text: str) -> None:
        """Store what the user answered to a question. Never waits, never refuses.

        The first answer that the server has of a question stays; of those that wait for it, the newest does. To a task
        that has ended it comes too late, and nobody is told.

        Args:
            task_id: the task that asks.
            seq: number of the event that asked.
            text: the user's words; empty where the user will not answer.
        """
        self._parts.answers.put(self._requests.answer_to(task_id, seq, text))

    def acknowledge_nowait(self, task_id: str, seq: int) -> None:
        """Note that a task's events up to `seq` were woven. They will not be given again, and leave the inbox."""
        self._parts.inbox.acknowledge(task_id, seq)

    async def submit(self, package: ContextPackage) -> Literal["accepted", "duplicate"]:
        """Hand a task over and wait until the server has it. Waits through an outage, until the deadline.

        A duplicate of a task of this runtime brings no second events; the first one's go on.

        Raises:
            QueueFullError: the server takes no more tasks now.
            BusUnreachableError: the server did not answer before the deadline.
            PackageTooLargeError: it cannot be cut down to the limit.
            SessionTakenError: another runtime has the session.
        """
        item = self._requests.submission(package, is_awaited=True)
        self._requests.track(item)
        await self._outbox.put(item)
        await _until_answered(item)
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
        return cast(
            "CancelOutcome", (await self._do(self._requests.order("cancel", task_id, reason))) or "unknown"
        )

    async def update(self, task_id: str, text: str) -> UpdateOutcome:
        """Tell a running task what has changed, and wait until the server knows.

        Raises:
            BusUnreachableError: the server did not answer within 30 s.
        """
        return cast(
            "UpdateOutcome", (await self._do(self._requests.order("update", task_id, text))) or "unknown"
        )

    async def answer(self, task_id: str, seq: int, text: str) -> AnswerOutcome:
        """As `answer_nowait`, and wait until the server knows. `stored` where the question has an answer now.

        Raises:
            BusUnreachableError: the server did not answer within 30 s.
        """
        outcome = await self._do(self._requests.answer_to(task_id, seq, text))
        return cast("AnswerOutcome", outcome or "unknown")

    async def acknowledge(self, task_id: str, seq: int) -> None:
        """As `acknowledge_nowait`, and wait until all that was acknowledged is stored."""
        self._parts.inbox.acknowledge(task_id, seq)
        await self._parts.inbox.all_stored()

    async def events(self) -> AsyncGenerator[BusEvent, None]:
        """Iterate over the events of all this runtime's tasks, until the port is closed. One reader at a time.

        Each task's events come in the order of their numbers, each once; where some are missing, `Lagged` says so
        first. Events that are not acknowledged pile up on the server and slow the workers down.
        """
        while (event := await self._parts.buffer.get()) is not None:
            yield event

    async def workers(self) -> int:
        """Count the workers that live now.

        Raises:
            BusUnreachableError: the server does not answer.
        """
        return await self._parts.worker_count.now()

    async def _do(self, item: Item) -> str | None:
        item.is_awaited = True
        await self._outbox.put(item)
        await _until_answered(item)
        return item.outcome


async def _until_answered(item: Item) -> None:
    await item.answered.wait()
    if item.error is not None:
        raise item.error
