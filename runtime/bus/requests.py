"""What a runtime asks of the server: made from what is known of the tasks here, and what follows from each reply.

Knows what is told to whoever reads the events; nothing of how an item is sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

from microturn.protocols import ContextPackage
from microturn.runtime.bus._errors import BusUnreachableError, PackageTooLargeError
from microturn.runtime.bus.deadlines import GRACE_S
from microturn.runtime.bus.inbox import Inbox
from microturn.runtime.bus.keys import Keys, checked_name
from microturn.runtime.bus.outbox import PATIENCE_S
from microturn.runtime.bus.outgoing import Item
from microturn.runtime.bus.own_sessions import OwnSessions
from microturn.runtime.bus.tracks import EventBuffer, Track, UpdateRefused

_log = logging.getLogger(__name__)


class Requests:
    """The requests of one runtime."""

    def __init__(
        self,
        keys: Keys,
        *,
        clock: Callable[[], float],
        inbox: Inbox,
        sessions: OwnSessions,
        buffer: EventBuffer,
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._inbox = inbox
        self._sessions = sessions
        self._buffer = buffer

    def submission(self, package: ContextPackage, *, is_awaited: bool = False) -> Item:
        """A package to be handed over.

        Raises:
            BusNameError: the task id or the session id cannot be part of a key.
        """
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

    def order(self, kind: Literal["cancel", "update", "answer"], task_id: str, text: str) -> Item:
        """Something to be told to a task. One that this runtime does not follow is looked for in shard 0."""
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

    def answer_to(self, task_id: str, seq: int, text: str) -> Item:
        """An answer to the question that a task asked with event `seq`."""
        item = self.order("answer", task_id, text)
        item.seq = seq
        return item

    def track(self, item: Item) -> None:
        """Follow a task from its submit on: its events are this runtime's."""
        track = Track(item.shard, item.session_id, item.give_up_s, check_at_s=item.give_up_s + GRACE_S)
        item.is_tracked_anew = self._inbox.tracks.setdefault(item.task_id, track) is track

    def on_answer(self, item: Item) -> None:
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
