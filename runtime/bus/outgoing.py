"""What a runtime has to tell the server of its sessions and tasks, one thing at a time.

Knows which script each is, and what its answers mean; nothing of queues and of outages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, assert_never
from uuid import uuid4

import anyio

from microturn.protocols import INLINE_LIMIT_BYTES, ContextPackage, MicroturnError
from microturn.runtime.bus._errors import PackageTooLargeError
from microturn.runtime.bus.keys import Keys, Lane
from microturn.runtime.bus.ledger_writer import LedgerWriter
from microturn.runtime.bus.notes import answer_note, correction_note
from microturn.runtime.bus.scripts import Scripts
from microturn.runtime.bus.settings import BusSettings

MOST_UPDATES = 64
"""Corrections that one task takes."""
ANSWER_CHARACTERS = 2_000
"""How much of an answer is stored: more is no answer to a question. Our choice."""
INTENT_CHARACTERS = 300
"""How much of what was asked stands in the ledger."""
STORED_WITHIN_S = 5.0
"""How long a session that is left waits until what was said of its words and promises is stored."""
SESSION_OVER = "the session has ended"
"""Reason with which the open tasks of a session are cancelled."""

Outcome: TypeAlias = Literal[
    "accepted",
    "duplicate",
    "full",
    "ended",
    "asked",
    "early",
    "stored",
    "unknown",
    "moved",
    "entered",
    "left",
]


@dataclass(slots=True)
class Item:
    """One thing to tell the server, and what came of it."""

    kind: Literal["submit", "cancel", "update", "answer", "enter", "leave"]
    session_id: str
    """Empty where it is not known."""
    task_id: str
    """Empty for what concerns the session as a whole."""
    shard: int
    give_up_s: float
    """On the port's clock."""
    text: str = ""
    """Reason of a cancel, or text of an update or an answer."""
    seq: int = 0
    """For an answer: number of the question's event."""
    package: ContextPackage | None = None
    began_s: float = 0.0
    """For an entry: when the session's clock was at 0, on the port's clock."""
    call_id: str = field(default_factory=lambda: uuid4().hex)
    """Makes a repeated call the same call."""
    is_awaited: bool = False
    """Whether a caller waits for the answer; otherwise a failed submit is told by an event."""
    is_tracked_anew: bool = False
    """Whether this submit was the first that this port heard of the task."""
    answered: anyio.Event = field(default_factory=anyio.Event)
    outcome: Outcome | None = None
    """None until it is answered, and for ever if it failed or its time was up."""
    owner: str = ""
    """For a duplicate: the task that was accepted before."""
    epoch: float = -1
    """For an entry: the session's epoch; for what was refused because the session has moved: the last one here."""
    error: MicroturnError | None = None
    """Why it cannot be done at all."""

    @property
    def order(self) -> str:
        """What has the same order is told one after another."""
        return self.session_id or self.task_id


class Outgoing:
    """Tells the server. Every call is safe to repeat."""

    def __init__(
        self,
        scripts: Scripts,
        keys: Keys,
        settings: BusSettings,
        *,
        runtime_id: str,
        clock: Callable[[], float],
        writer: LedgerWriter,
    ) -> None:
        self._scripts = scripts
        self._keys = keys
        self._settings = settings
        self._runtime_id = runtime_id
        self._clock = clock
        self._writer = writer

    async def perform(self, item: Item) -> Outcome:
        """Tell one thing.

        Raises:
            PackageTooLargeError: it cannot be cut down to the limit.
            redis.exceptions.RedisError: the server did not answer, or refused.
        """
        match item.kind:
            case "submit":
                return await self._submit(item)
            case "cancel":
                return await self.cancel(item.shard, item.task_id, "cancelled", item.text)
            case "update":
                return await self._update(item)
            case "answer":
                return await self._answer(item)
            case "enter":
                return await self._enter(item)
            case "leave":
                return await self._leave(item)
        assert_never(item.kind)

    async def cancel(
        self, shard: int, task_id: str, kind: Literal["cancelled", "expired"], reason: str
    ) -> Outcome:
        """End a task that nobody runs or whose time is up, or ask its worker to stop."""
        reply = await self._scripts.run(
            "cancel",
            [
                *self._keys.of_task(shard, task_id, self._runtime_id),
                self._keys.lane(shard, "urgent"),
                self._keys.bell(shard),
            ],
            *(task_id, kind, reason, self._settings.retention_ms, self._settings.session_retention_ms),
        )
        return _outcome(reply[0])

    async def _submit(self, item: Item) -> Outcome:
        package, keys, settings = item.package, self._keys, self._settings
        assert package is not None  # a submit is made with its package
        lane: Lane = "urgent" if package.urgent else "tasks"
        reply = await self._scripts.run(
            "submit",
            [
                *keys.of_task(item.shard, item.task_id, self._runtime_id, lane),
                keys.idempotency(item.shard, package.idempotency_key),
                *keys.of_session(item.session_id),
            ],
            *(item.task_id, item.session_id, lane, package.v, _encoded(package)),
            *(package.intent[:INTENT_CHARACTERS], package.said_end_ms),
            max(1, round((item.give_up_s - self._clock()) * 1000)),
            *(settings.queue_limit, item.call_id, settings.retention_ms, settings.session_retention_ms),
        )
        item.owner = reply[1] if reply[0] == "duplicate" else ""
        return _outcome(reply[0])

    async def _update(self, item: Item) -> Outcome:
        keys = [
            *self._keys.of_task(item.shard, item.task_id, self._runtime_id),
            self._keys.bell(item.shard),
        ]
        note = correction_note(item.text)
        return _outcome((await self._scripts.run("update", keys, item.call_id, note, MOST_UPDATES))[0])

    async def _answer(self, item: Item) -> Outcome:
        keys = [
            *self._keys.of_task(item.shard, item.task_id, self._runtime_id),
            self._keys.bell(item.shard),
        ]
        note = answer_note(item.seq, item.text[:ANSWER_CHARACTERS])
        return _outcome((await self._scripts.run("answer", keys, item.seq, note))[0])

    async def _enter(self, item: Item) -> Outcome:
        reply = await self._scripts.run(
            "enter_session",
            self._keys.of_session(item.session_id),
            self._runtime_id,
            round((self._clock() - item.began_s) * 1000),
            self._settings.session_retention_ms,
        )
        if reply[0] == "entered":
            item.epoch = int(reply[1])
        return _outcome(reply[0])

    async def _leave(self, item: Item) -> Outcome:
        """End a session: what is still owed is declined, once all that was said of it is stored."""
        session_id = item.session_id
        with anyio.move_on_after(STORED_WITHIN_S):
            await self._writer.all_stored(session_id)
        reply = await self._scripts.run(
            "leave_session",
            self._keys.of_session(session_id),
            *(self._runtime_id, self._settings.session_retention_ms),
        )
        for task_id in reply[1:] if reply[0] == "left" else []:
            await self.cancel(item.shard, task_id, "cancelled", SESSION_OVER)
            self._writer.promise(session_id, task_id, "declined")
        return _outcome(reply[0])


def _encoded(package: ContextPackage) -> str:
    """The package as JSON, fitted if it is too long.

    Raises:
        PackageTooLargeError: it cannot be fitted.
    """
    encoded = package.encode()
    if len(encoded.encode()) > INLINE_LIMIT_BYTES:
        encoded = package.fitted().encode()
        if (size := len(encoded.encode())) > INLINE_LIMIT_BYTES:
            raise PackageTooLargeError("context package", size=size, limit=INLINE_LIMIT_BYTES)
    return encoded


_OUTCOMES: dict[str, Outcome] = {
    "accepted": "accepted",
    "duplicate": "duplicate",
    "full": "full",
    "ended": "ended",
    "asked": "asked",
    "early": "early",
    "stored": "stored",
    "moved": "moved",
    "entered": "entered",
    "left": "left",
}


def _outcome(word: str) -> Outcome:
    return _OUTCOMES.get(word, "unknown")
