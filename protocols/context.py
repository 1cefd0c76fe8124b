"""The context package: all that a background agent needs to know to do one delegated task well.

Never a bare query: it carries the conversation with times, how much of the assistant's own words were really
heard, what else is running, and how long the answer is worth having.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, JsonValue

from microturn.protocols._message import Message

INLINE_LIMIT_BYTES = 256 * 1024
"""Largest encoded package. Sound and pictures travel by reference."""


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
    """Stands for the turns that were dropped to fit the size."""
    dropped_turns: int = 0
    key_frames: tuple[Reference, ...] = ()
    tool_state: dict[str, JsonValue] = Field(default_factory=dict)
    running: tuple[RunningDelegation, ...] = ()
    tone: str | None = None
    language: str | None = None
    trace: dict[str, str] = Field(default_factory=dict)
    """W3C trace context: `traceparent` and, where there is one, `tracestate`."""

    def fitted(self, limit_bytes: int = INLINE_LIMIT_BYTES) -> Self:
        """Return this package, its oldest turns replaced by a summary until it is at most `limit_bytes` long.

        The summary is a count and the first words of each dropped user turn; a model may write a better one
        before. Newest turns go last. Raises nothing: a package whose intent alone is too long is cut there.
        """
        package = self
        while len(package.encode().encode()) > limit_bytes and package.history:
            keep = package.history[max(1, len(package.history) // 4) :]
            gone = self.history[: len(self.history) - len(keep)]
            package = self.model_copy(
                update={
                    "history": keep,
                    "dropped_turns": self.dropped_turns + len(gone),
                    "summary": _summary(gone),
                }
            )
        excess = len(package.encode().encode()) - limit_bytes
        if excess > 0:
            kept = package.intent.encode()[: max(0, len(package.intent.encode()) - excess - 64)]
            package = package.model_copy(update={"intent": kept.decode(errors="ignore"), "tool_state": {}})
        return package


def _summary(gone: tuple[TurnRecord, ...]) -> str:
    """One line for the turns that were dropped, at most about 2 kB."""
    openings = [" ".join(turn.text.split()[:6]) for turn in gone if turn.speaker == "user"]
    return f"{len(gone)} earlier turns left out; the user spoke of: " + "; ".join(openings[-24:])[:2000]
