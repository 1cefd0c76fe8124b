"""One task of a session: how it stands, what has become of its words, and whether the promise is kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from microturn.protocols import (
    SETTLED,
    TERMINAL,
    Delegate,
    DelegationEvent,
    Promise,
    PromiseState,
    ReceiptState,
    Update,
)
from microturn.runtime.weaver import FILLERS, is_spoken

_FAILURES: dict[str, PromiseState] = {"failed": "failed", "dead": "failed", "expired": "expired"}
_BEFORE_BEGIN = frozenset({"submitted", "accepted"})
"""States before a worker has shown anything of a task; the server itself accepts it, whether anyone works or not."""
_CORRECTABLE = frozenset({"progress", "partial", "tool_started", "tool_finished", "final"})
"""Kinds whose words are worth nothing once the user has corrected the task. That it failed is true all the same."""


@dataclass(slots=True)
class Delegation:
    """One task of this session. Owned by the beat."""

    task_id: str
    order: Delegate
    """What was handed over; its words are as they were before any correction."""
    touched_ms: float
    """When it was handed over, or last heard of, or last spoken of."""
    state: str = "submitted"
    """`submitted`, `refused`, or the kind of the newest event."""
    promise: PromiseState = "open"
    revision: int = 0
    """How often the user has corrected it."""
    known_revision: int = 0
    """How many of the corrections its worker knew when it was last heard of."""
    corrections: list[Update] = field(default_factory=list)
    """The corrections that were sent from here, oldest first."""
    submitted_ms: float = 0.0
    trace: dict[str, str] = field(default_factory=dict)
    """The W3C trace context that went with it; empty for one that another process handed over."""
    shift_ms: int = 0
    """What is added to the times in its events to get this session's: it was handed over by an earlier clock of the
    session."""
    told: bool = False
    """Whether the user was told that it waits."""
    unwanted: bool = False
    """Whether it was cancelled from here: nothing of it is said any more, whatever still arrives."""
    newest_seq: int = -1
    """Number of the newest event that came."""
    unsettled: deque[int] = field(default_factory=deque)
    """Numbers of the events that came and are not acknowledged, in order."""
    settled: set[int] = field(default_factory=set)
    """Those of them that are settled and wait for an earlier one."""
    pieces: dict[int, ReceiptState] = field(default_factory=dict)
    """What became of the words of each event that carries a part of the answer."""

    @classmethod
    def restored(cls, promise: Promise, now_ms: float, shift_ms: int) -> Delegation:
        """The task that a promise of a session that was taken over is about, before any of its events."""
        states = {"queued": "accepted", "running": "progress"}
        return cls(
            promise.task_id,
            Delegate(promise.intent, round(now_ms), round(now_ms)),
            now_ms,
            state=states.get(promise.task_state, promise.task_state),
            promise=promise.state,
            revision=promise.revision,
            submitted_ms=now_ms,
            shift_ms=shift_ms,
            unwanted=promise.state == "declined",
        )

    @classmethod
    def adopted(cls, promise: Promise, now_ms: float) -> Delegation:
        """A task that somebody else has just handed over for the session, before any of its events."""
        order = Delegate(promise.intent, round(now_ms), round(now_ms))
        return cls(promise.task_id, order, now_ms, submitted_ms=now_ms)

    @property
    def is_open(self) -> bool:
        """Whether more may come of it."""
        return self.state not in TERMINAL and self.state != "refused"

    @property
    def is_untouched(self) -> bool:
        """Whether no worker has shown anything of it."""
        return self.state in _BEFORE_BEGIN

    @property
    def is_outdated(self) -> bool:
        """Whether it ended with an answer that knows nothing of the user's newest correction. The bus lets a task
        end so only before the correction has reached it, and says that it came too late."""
        return self.state == "final" and self.known_revision < self.revision and not self.unwanted

    @property
    def intent(self) -> str:
        """What is wanted, corrections from here included."""
        return corrected(self.order.intent, [update.text for update in self.corrections])

    def note(self, event: DelegationEvent) -> None:
        """Keep what an event says of the task."""
        self.newest_seq = event.seq
        self.known_revision = max(self.known_revision, event.revision)
        if self.is_open:
            self.state = event.kind
        if is_spoken(event.speech) and event.kind not in FILLERS:
            self.pieces[event.seq] = "queued"

    def fate_of(self, event: DelegationEvent) -> ReceiptState | None:
        """What becomes of an event's words that are not to be said; None where they are.

        Words for later outlive a correction: what reminds the user was promised on its own, and only a cancel or the
        tool that keeps it takes it back.
        """
        if self.unwanted:
            return "dropped"
        is_for_later = event.speech is not None and event.speech.not_before_ms is not None
        if event.kind in _CORRECTABLE and event.revision < self.revision and not is_for_later:
            return "superseded"
        return None

    def outcome(self) -> PromiseState:
        """What has become of the promise.

        An answer counts as spoken when its last words that nothing better has replaced were heard to their end; so
        does a task that is done and had nothing to say, for nothing more was promised.
        """
        if self.promise != "open":
            return self.promise
        if self.unwanted or self.state == "cancelled":
            return "declined"
        if self.is_open or self.is_outdated or any(state not in SETTLED for state in self.pieces.values()):
            return "open"
        if self.state in _FAILURES:
            return _FAILURES[self.state]
        said = [self.pieces[seq] for seq in sorted(self.pieces) if self.pieces[seq] != "superseded"]
        last = said[-1] if said else ("dropped" if self.pieces else "heard")
        return "spoken" if last == "heard" else "expired" if last == "expired" else "declined"


def corrected(intent: str, corrections: Sequence[str]) -> str:
    """What was asked and how it was corrected, as one request.

    It begins like no request, so that no phrase of a tool fits it: what answers plain requests by their words would
    take the correction for a part of the last word, or pass over it.
    """
    if not corrections:
        return intent
    said = " and then ".join(f'"{correction}"' for correction in corrections)
    return f'The user asked "{intent}" and corrected it: {said}'
