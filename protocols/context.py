"""The context package: all that a background agent needs to know to do one delegated task well.

Never a bare query: it carries the conversation with times, how much of the assistant's own words were really
heard, what else is running, and how long the answer is worth having.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, JsonValue
from pydantic_core import to_json

from microturn.protocols._message import Message

INLINE_LIMIT_BYTES = 256 * 1024
"""Largest encoded package. Sound and pictures travel by reference."""
_SUMMARY_BYTES = 4096
"""Longest encoded summary of turns that were dropped. Our choice."""
_OPENINGS = 48
"""Dropped turns, the newest, of which the summary tells the first words, as far as the user said them. Our choice."""
_OPENINGS_CHARS = 1500
_ROOM_BYTES = 64
"""For the names of fields and the digits of counts that change while a package is cut."""


class TurnRecord(Message):
    """One turn of the conversation so far."""

    speaker: Literal["user", "assistant"]
    text: str
    start_ms: int
    end_ms: int
    heard_words: int | None = None
    """For the assistant: how many words of `text` the user heard; None where all of them were."""


class Reference(Message):
    """Bytes that live elsewhere under a key, for a limited time."""

    key: str
    sha256: str
    media_type: str
    time_ms: int
    """Session time of what it shows."""
    ttl_s: float


class RunningDelegation(Message):
    """Another task of the same session that has not ended."""

    task_id: str
    intent: str
    state: str


class ContextPackage(Message):
    """One delegated task and its surroundings."""

    VERSION: ClassVar[str] = "1.1"
    v: str = VERSION
    task_id: str
    session_id: str
    idempotency_key: str
    """Two packages with the same key are one task."""
    intent: str
    agent: str = "default"
    urgent: bool = False
    """Whether it overtakes whatever waits; a worker keeps a lane free for such tasks."""
    said_start_ms: int
    said_end_ms: int
    """Session time of the words that caused it. What is to be said at a time counts from `said_end_ms`."""
    local_time: str
    """The user's wall time when the words ended: ISO 8601 with offset."""
    deadline_s: float = Field(gt=0)
    """Seconds from submission after which an answer is worthless."""
    history: tuple[TurnRecord, ...] = ()
    summary: str | None = None
    """Stands for the turns that are not in `history`: they were dropped to fit the size, or were lost."""
    dropped_turns: int = 0
    key_frames: tuple[Reference, ...] = ()
    """What the user has shown of late, oldest first."""
    tool_state: dict[str, JsonValue] = Field(default_factory=dict)
    """What tools said in earlier tasks of the session, by tool, the newest last: `result`, its text; `arguments`, where
    they are short; and `time_ms`, its session time, where that is known."""
    running: tuple[RunningDelegation, ...] = ()
    tone: str | None = None
    language: str | None = None
    trace: dict[str, str] = Field(default_factory=dict)
    """W3C trace context: `traceparent` and, where there is one, `tracestate`."""

    def fitted(self, limit_bytes: int = INLINE_LIMIT_BYTES) -> Self:
        """Return this package, its oldest turns replaced by a summary until it is at most `limit_bytes` long.

        The summary is a count and the first words of each dropped user turn, before what it was until now; a model may
        write a better one before. Newest turns go last, then what the tools said, what else runs, and the end of the
        intent. Takes time in proportion to the size, and no more than one encoding where it fits. Raises nothing.
        """
        if _size(self) <= limit_bytes:
            return self
        bare = self.model_copy(update={"history": (), "summary": None})
        room = limit_bytes - _size(bare) - _SUMMARY_BYTES - _ROOM_BYTES
        kept = _newest_within(self.history, room)
        gone = self.history[: len(self.history) - kept]
        package = self.model_copy(
            update={
                "history": self.history[len(gone) :],
                "dropped_turns": self.dropped_turns + len(gone),
                "summary": _summary(gone, self.summary),
            }
        )
        return package if kept else package._without_the_rest(limit_bytes)

    def _without_the_rest(self, limit_bytes: int) -> Self:
        """This package, which has no turns, cut where it is still too long."""
        package = self
        for name, empty in (("tool_state", {}), ("running", ()), ("summary", None)):
            if _size(package) <= limit_bytes:
                return package
            package = package.model_copy(update={name: empty})
        excess = max(0, _size(package) - limit_bytes)
        intent = package.intent.encode()
        return package.model_copy(
            update={"intent": intent[: max(0, len(intent) - excess)].decode(errors="ignore")}
        )


def _size(message: Message) -> int:
    """Bytes of the message once it is encoded."""
    return len(to_json(message, exclude_none=True))


def _newest_within(turns: tuple[TurnRecord, ...], room_bytes: int) -> int:
    """How many of the newest turns have room; those that do not are not looked at."""
    for kept, turn in enumerate(reversed(turns)):
        room_bytes -= _size(turn) + 1
        if room_bytes < 0:
            return kept
    return len(turns)


def _summary(gone: tuple[TurnRecord, ...], before: str | None) -> str | None:
    """One line for the turns that were dropped and for what stood for those before them, at most `_SUMMARY_BYTES`."""
    if not gone:
        return before
    openings = [" ".join(turn.text.split()[:6]) for turn in gone[-_OPENINGS:] if turn.speaker == "user"]
    spoken = "; ".join(openings)[:_OPENINGS_CHARS]
    summary = f"{len(gone)} earlier turns left out; the user spoke of: {spoken}"
    if before:
        summary = f"{summary}. Before that: {before}"
    while (size := len(to_json(summary))) > _SUMMARY_BYTES:
        summary = summary[: len(summary) * _SUMMARY_BYTES // size]
    return summary
