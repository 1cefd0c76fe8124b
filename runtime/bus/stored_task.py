"""What the server keeps of a task, read back: its events, the journal of its tool calls, its promise.

Knows the shape of the scripts' replies; nothing of who asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast, get_args

from microturn.protocols import DelegationEvent, Promise, PromiseState, ProtocolError
from microturn.runtime.bus.notes import read_receipts

_TEXTS = 3
_FIELDS = 8
"""Fields of a record before its sections, texts first; see `record_of` in `task_state.lua`."""


def sections(reply: Sequence[str]) -> list[list[str]]:
    """Take apart lists that stand one after another, each after its length."""
    parts: list[list[str]] = []
    start = 0
    while start < len(reply):
        end = start + 1 + int(reply[start])
        parts.append(list(reply[start + 1 : end]))
        start = end
    return parts


def read_events(encoded: Sequence[str]) -> list[DelegationEvent]:
    """Read events, less those that another release wrote in a way that this one cannot read."""
    events: list[DelegationEvent] = []
    for text in encoded:
        with suppress(ProtocolError):
            events.append(DelegationEvent.decode(text))
    return events


def emitted(events: Sequence[str], journal: Sequence[str]) -> tuple[DelegationEvent, ...]:
    """What the workers of a task have sent, in order: its stored events, after the tool calls from before them."""
    stored = read_events(events)
    first = stored[0].seq if stored else 0
    earlier = [event for event in read_events(journal) if event.seq < first]
    return tuple(event for event in (*earlier, *stored) if event.kind != "accepted")


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A task as the server remembers it."""

    promise: Promise
    """Its events are in the session's present time; see `shift_ms`."""
    seq: int
    """The last number used."""
    left_ms: int
    """Until the deadline."""
    shift_ms: int
    """To be added to a session time in the task's events: it was handed over by an earlier clock of the session."""

    @classmethod
    def read(cls, task_id: str, record: Sequence[str], *, anchor_ms: int) -> StoredTask:
        """Read the reply of a script that ends with `record_of`, its first word left out.

        Args:
            task_id: the task.
            record: fields, then the sections of events and of receipts.
            anchor_ms: when the session's present clock was at 0.
        """
        state, promise, intent = record[:_TEXTS]
        revision, made_ms, seq, left_ms, own_anchor_ms = map(_number, record[_TEXTS:_FIELDS])
        events, receipts = sections(record[_FIELDS:])
        shift_ms = own_anchor_ms - anchor_ms if own_anchor_ms else 0
        return cls(
            promise=Promise(
                task_id=task_id,
                intent=intent,
                state=_promise_state(promise),
                task_state=state,
                revision=max(0, revision),
                made_ms=made_ms,
                events=tuple(shifted(event, shift_ms) for event in read_events(events)),
                receipts=tuple(sorted(read_receipts(receipts), key=lambda receipt: receipt.seq)),
            ),
            seq=seq,
            left_ms=left_ms,
            shift_ms=shift_ms,
        )


def shifted(event: DelegationEvent, shift_ms: int) -> DelegationEvent:
    """Return an event with its session times told by another clock of the session."""
    speech = event.speech
    if not shift_ms or speech is None:
        return event
    times = {"not_before_ms": speech.not_before_ms, "expires_ms": speech.expires_ms}
    moved = {name: time_ms + shift_ms for name, time_ms in times.items() if time_ms is not None}
    return event.model_copy(update={"speech": speech.model_copy(update=moved)}) if moved else event


def _number(text: str) -> int:
    """A number of a record; 0 for one that is not there, as in what an older release wrote."""
    return int(text) if text.removeprefix("-").isdecimal() else 0


def _promise_state(word: str) -> PromiseState:
    return cast("PromiseState", word) if word in get_args(PromiseState) else "open"
