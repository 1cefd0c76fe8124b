"""What comes back from the background: the ordered events of one delegated task.

`accepted -> (progress | partial | tool_started | tool_finished)* -> final | failed | cancelled | expired | dead`.
Every event has the attempt that sent it and a number that grows by one over all attempts, so that a reader can
put them in order, see a gap and drop what it has already seen.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

from pydantic import Field, JsonValue

from microturn.protocols._message import Message

EventKind: TypeAlias = Literal[
    "accepted",
    "progress",
    "partial",
    "tool_started",
    "tool_finished",
    "final",
    "failed",
    "cancelled",
    "expired",
    "dead",
]
TERMINAL: frozenset[str] = frozenset({"final", "failed", "cancelled", "expired", "dead"})
"""Kinds after which a task sends nothing more."""

WeaveMode: TypeAlias = Literal["interrupt", "pause", "idle", "silent"]
"""When it may be said: at once, even over speech; at the next natural pause; when nobody has anything to say; never."""

SpeechKind: TypeAlias = Literal["fact", "progress", "question", "final"]
"""What the words are: a part of an answer; how far the work has come; a question to the user, which the task waits to
have answered; the last words of an answer."""


class Speech(Message):
    """Words to be spoken, and the rules for when."""

    VERSION: ClassVar[str] = "1.1"
    v: str = VERSION
    text: str
    """Short sentences made to be heard: no markup."""
    mode: WeaveMode = "pause"
    priority: int = 0
    """Higher is said first."""
    not_before_ms: int | None = None
    """Session time at which it is due, for reminders; None is now."""
    expires_ms: int | None = None
    """Session time after which it is worthless."""
    supersede_key: str | None = None
    """A newer item with the same key replaces those still waiting."""
    kind: SpeechKind = "fact"


class DelegationEvent(Message):
    """One event in the life of a task."""

    VERSION: ClassVar[str] = "1.2"
    v: str = VERSION
    task_id: str
    attempt: int = Field(ge=0)
    seq: int = Field(ge=0)
    kind: EventKind
    speech: Speech | None = None
    text: str = ""
    """The whole text for the screen, which may have markup and links."""
    detail: dict[str, JsonValue] = Field(default_factory=dict)
    """What operators and programs want to know: tool names, durations, the reason of a failure."""
    revision: int = Field(default=0, ge=0)
    """How many of the user's corrections it takes into account. What was built on fewer is not said."""

    @property
    def is_terminal(self) -> bool:
        """Whether the task sends nothing more."""
        return self.kind in TERMINAL

    @property
    def is_question(self) -> bool:
        """Whether it asks the user something. The question is named by the task and the number of this event."""
        return self.kind == "partial" and self.speech is not None and self.speech.kind == "question"
