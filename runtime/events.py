"""What can be seen of a session from outside: one type for each thing that happens.

Observers (the live view, the timeline, the recorder, tests) are called on the beat with these; they must be quick
and must not raise. All times are session time in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from microturn.protocols import DelegationEvent, FloorState, Receipt, Transcript, UtteranceSource


@dataclass(frozen=True, slots=True)
class TickDone:
    """A step was taken."""

    index: int
    count: int
    """Micro-turns in it; more than 1 means that the ones before were missed."""
    step_ms: float
    """How long the model took."""
    runtime_ms: float
    """How long the runtime itself took, model excluded."""
    lateness_ms: float
    """How long after it was due the step began."""
    floor: FloorState
    heard_peak: float
    """Largest absolute sample heard in it, 0 to 1."""


@dataclass(frozen=True, slots=True)
class UserSaid:
    """The model understood something, finally or for now."""

    transcript: Transcript
    typed: bool = False


@dataclass(frozen=True, slots=True)
class SpeechBegan:
    """The first sample of an utterance was played."""

    at_ms: float
    utterance_id: str
    text: str
    source: UtteranceSource
    task_id: str | None


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """No more of an utterance will be played."""

    at_ms: float
    utterance_id: str
    words_heard: int
    words_total: int


@dataclass(frozen=True, slots=True)
class BargedIn:
    """The user took the floor while the assistant spoke."""

    at_ms: float


@dataclass(frozen=True, slots=True)
class Delegated:
    """A task was handed to the background."""

    at_ms: float
    task_id: str
    intent: str
    agent: str
    trace: dict[str, str] = field(default_factory=dict)
    """The W3C trace context that travels with it."""


@dataclass(frozen=True, slots=True)
class DelegationMoved:
    """An event of a delegated task arrived."""

    at_ms: float
    event: DelegationEvent


@dataclass(frozen=True, slots=True)
class ReceiptIssued:
    """A piece of a result changed its state."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class BackgroundHealth:
    """The way to the background became worse or better."""

    at_ms: float
    state: Literal["ok", "no_worker", "unreachable"]


@dataclass(frozen=True, slots=True)
class SessionMoved:
    """Another process has taken the session over; this one says and hands over nothing more."""

    at_ms: float


SessionEvent: TypeAlias = (
    TickDone
    | UserSaid
    | SpeechBegan
    | SpeechEnded
    | BargedIn
    | Delegated
    | DelegationMoved
    | ReceiptIssued
    | BackgroundHealth
    | SessionMoved
)
Observer: TypeAlias = Callable[[SessionEvent], None]
