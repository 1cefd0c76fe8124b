"""The tasks that were given up: which they are, what is known of them, and another try.

A task comes here when its workers died of it as often as is tried, or when no release here can read it. Knows the
stream of the dead; what a person sees of it is made elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar
from uuid import uuid4

from redis.exceptions import RedisError

from microturn.protocols import ContextPackage, Promise, ProtocolError
from microturn.protocols.trace_ids import send_ids
from microturn.runtime.bus._errors import UnknownDeadLetterError, UnrepeatableTaskError
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.keys import Keys, Lane, checked_name
from microturn.runtime.bus.link import Link
from microturn.runtime.bus.outgoing import INTENT_CHARACTERS
from microturn.runtime.bus.raw import command, fields_of
from microturn.runtime.bus.scripts import Scripts
from microturn.runtime.bus.server_errors import failed
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.bus.stored_task import StoredTask

PAGE = 500
"""Entries that are looked through in one call when one is searched for. Our choice."""
SHORTEST_PREFIX = 4
"""Characters of an id that are enough to name a task, where no other begins with them."""

RetryOutcome: TypeAlias = Literal["accepted", "full"]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One task that was given up, without its words."""

    shard: int
    entry_id: str
    task_id: str
    """Empty where it was an event that could not be read, and not a task."""
    reason: str
    """`attempts`: its workers died of it; `schema`: this release cannot read it; `record`: it was written over."""
    size_bytes: int

    @property
    def at_ms(self) -> int:
        """When it was given up: milliseconds since 1970 by the server's clock."""
        return int(self.entry_id.partition("-")[0])


@dataclass(frozen=True, slots=True)
class DeadTask:
    """All that is known of one of them."""

    letter: DeadLetter
    package: ContextPackage | None
    """What was to be done, words included; None where it cannot be read."""
    session_state: Literal["open", "ended", "forgotten"]
    attempt: int
    """The last attempt, 0 where its record is gone."""
    promise: Promise | None
    """Its events and receipts, words included; None where its record is gone."""


async def read_newest(scripts: Scripts, keys: Keys, most: int) -> tuple[int, tuple[DeadLetter, ...]]:
    """Count what was given up in all shards, and return the newest of it, newest first.

    Raises:
        redis.exceptions.RedisError: the server did not answer, or refused.
    """
    total, found = 0, list[DeadLetter]()
    for shard in range(keys.shards):
        count, page = await _page(scripts, keys, shard, "+", most)
        total += count
        found += page
    return total, tuple(sorted(found, key=lambda letter: letter.at_ms, reverse=True)[:most])


async def _page(
    scripts: Scripts, keys: Keys, shard: int, before: str, most: int
) -> tuple[int, list[DeadLetter]]:
    reply = await scripts.run("read_dead", [keys.dead(shard)], before, most)
    rows = (reply[start : start + 4] for start in range(1, len(reply), 4))
    return int(reply[0]), [
        DeadLetter(shard, entry, task, reason, int(size)) for entry, task, reason, size in rows
    ]


class DeadLetters:
    """Reads the tasks that were given up, drops them, and hands them over anew. Made by `open_dead_letters`."""

    def __init__(self, link: Link, settings: BusSettings) -> None:
        self._link = link
        self._settings = settings
        self._scripts = Scripts(link)
        self._keys = Keys(settings.tenant, settings.shards)

    async def newest(self, most: int) -> tuple[int, tuple[DeadLetter, ...]]:
        """How many there are, and the newest of them, newest first.

        Raises:
            BusUnreachableError: the server does not answer.
            BusReplyError: the server refused.
        """
        return await _asked("read the dead letters", lambda: read_newest(self._scripts, self._keys, most))

    async def find(self, name: str) -> DeadLetter:
        """The newest whose task id, or entry id, begins with `name`.

        Raises:
            UnknownDeadLetterError: there is none, or several tasks begin so.
            BusUnreachableError: the server does not answer.
            BusReplyError: the server refused.
        """
        found = await _asked("read the dead letters", lambda: self._matching(name))
        if len({letter.task_id or letter.entry_id for letter in found}) != 1:
            raise UnknownDeadLetterError(name, len(found))
        return found[0]

    async def read(self, letter: DeadLetter) -> DeadTask:
        """All that is known of one.

        Raises:
            UnknownDeadLetterError: it was dropped meanwhile.
            BusUnreachableError: the server does not answer.
            BusReplyError: the server refused.
        """
        return await _asked("read a dead letter", lambda: self._read(letter))

    async def drop(self, letter: DeadLetter) -> None:
        """Delete one for good. What its session remembers of it stays.

        Raises:
            BusUnreachableError: the server does not answer.
            BusReplyError: the server refused.
        """
        key = self._keys.dead(letter.shard)
        await _asked("drop a dead letter", lambda: command(self._link, "XDEL", key, letter.entry_id, key=key))

    async def retry(self, letter: DeadLetter) -> tuple[RetryOutcome, str]:
        """Hand it over anew, as a new task of the same session, and take it out of the dead ones once it is accepted.

        Its events go to the runtime that has the session. It stands in the session's ledger like any other task.

        Returns:
            The outcome, and the id of the new task.

        Raises:
            UnrepeatableTaskError: it cannot be read, or its session has ended or is forgotten.
            UnknownDeadLetterError: it was dropped meanwhile.
            BusUnreachableError: the server does not answer.
            BusReplyError: the server refused.
        """
        dead = await self.read(letter)
        if dead.package is None:
            raise UnrepeatableTaskError(letter.task_id, "what was to be done cannot be read by this release")
        if dead.session_state != "open":
            raise UnrepeatableTaskError(letter.task_id, f"its session is {dead.session_state}")
        package = _anew(dead.package)
        outcome = await _asked("hand a task over anew", lambda: self._submit(package))
        if outcome == "accepted":
            await self.drop(letter)
        return outcome, package.task_id

    async def _matching(self, name: str) -> list[DeadLetter]:
        found: list[DeadLetter] = []
        for shard in range(self._keys.shards):
            before = "+"
            while True:
                _, page = await _page(self._scripts, self._keys, shard, before, PAGE)
                found += [each for each in page if _is_meant(each, name)]
                if len(page) < PAGE:
                    break
                before = page[-1].entry_id
        return sorted(found, key=lambda letter: letter.at_ms, reverse=True)

    async def _read(self, letter: DeadLetter) -> DeadTask:
        key = self._keys.dead(letter.shard)
        reply = await command(self._link, "XRANGE", key, letter.entry_id, letter.entry_id, key=key)
        if not isinstance(reply, list) or not reply:
            raise UnknownDeadLetterError(letter.task_id or letter.entry_id, 0)
        package = _package(fields_of(reply[0][1]))
        attempt, promise = await self._record(letter)
        state = await self._session_state(package.session_id) if package is not None else "forgotten"
        return DeadTask(letter, package, state, attempt, promise)

    async def _record(self, letter: DeadLetter) -> tuple[int, Promise | None]:
        if not letter.task_id:
            return 0, None
        key = self._keys.task(letter.shard, letter.task_id)
        keys = self._keys.of_task(letter.shard, letter.task_id, "operator")
        reply = await self._scripts.run("recall", keys)
        if reply[0] != "known":
            return 0, None
        attempt = await command(self._link, "HGET", key, "attempt", key=key)
        return int(str(attempt or 0)), StoredTask.read(letter.task_id, reply[1:], anchor_ms=0).promise

    async def _session_state(self, session_id: str) -> Literal["open", "ended", "forgotten"]:
        key = self._keys.of_session(session_id)[0]
        owner = await command(self._link, "HGET", key, "rt", key=key)
        if owner is None:
            return "forgotten"
        is_closed = await command(self._link, "HEXISTS", key, "closed", key=key)
        return "ended" if is_closed else "open"

    async def _submit(self, package: ContextPackage) -> RetryOutcome:
        keys, shard = self._keys, self._keys.shard_of(package.session_id)
        lane: Lane = "urgent" if package.urgent else "tasks"
        session_key = keys.of_session(package.session_id)[0]
        owner = await command(self._link, "HGET", session_key, "rt", key=session_key)
        reply = await self._scripts.run(
            "submit",
            [
                *keys.of_task(shard, package.task_id, str(owner), lane),
                keys.idempotency(shard, package.idempotency_key),
                *keys.of_session(package.session_id),
            ],
            *(package.task_id, package.session_id, lane, package.v, package.encode()),
            package.intent[:INTENT_CHARACTERS],
            *(package.said_end_ms, round(package.deadline_s * 1000), self._settings.queue_limit),
            *(uuid4().hex, self._settings.retention_ms, self._settings.session_retention_ms),
        )
        if reply[0] == "moved":
            raise UnrepeatableTaskError(package.task_id, "its session has just changed its process")
        return "full" if reply[0] == "full" else "accepted"


@asynccontextmanager
async def open_dead_letters(settings: BusSettings) -> AsyncIterator[DeadLetters]:
    """Connect to a bus for its dead letters.

    Raises:
        BusAddressError: the URL is no address of a bus.
        BusNameError: the tenant cannot be part of a key.
    """
    checked_name("tenant", settings.tenant)
    async with open_clients(settings) as clients:
        yield DeadLetters(clients.commands, settings)


async def _asked(doing: str, ask: Callable[[], Awaitable[Result]]) -> Result:
    try:
        return await ask()
    except RedisError as error:
        raise failed(doing, error) from error


def _is_meant(letter: DeadLetter, name: str) -> bool:
    if name in (letter.task_id, letter.entry_id):
        return True
    return len(name) >= SHORTEST_PREFIX and letter.task_id.startswith(name)


def _package(fields: dict[str, str]) -> ContextPackage | None:
    try:
        return ContextPackage.decode(fields.get("package", ""))
    except ProtocolError:
        return None


def _anew(package: ContextPackage) -> ContextPackage:
    """The same work as a new task, in a trace of its own: the old id stands for what was given up."""
    task_id = uuid4().hex
    return package.model_copy(
        update={
            "task_id": task_id,
            "idempotency_key": f"{package.session_id}:{task_id}",
            "running": (),
            "trace": {"traceparent": send_ids(task_id).traceparent},
        }
    )
