"""Listens to a conversation as its user does: what was said, what of it was heard to the end, and all else."""

from __future__ import annotations

from typing import TypeVar

from microturn.runtime.events import SessionEvent, SpeechBegan, SpeechEnded, TickDone

E = TypeVar("E", bound=SessionEvent)


class Listener:
    """An observer that keeps every event but the ticks, of which it keeps only the figures."""

    def __init__(self) -> None:
        self.events: list[SessionEvent] = []
        self.missed = 0
        """Micro-turns that got no step of their own."""
        self.worst_runtime_ms = 0.0
        """The most that the runtime itself took for a step."""

    def __call__(self, event: SessionEvent) -> None:
        """Keep an event."""
        if isinstance(event, TickDone):
            self.missed += event.count - 1
            self.worst_runtime_ms = max(self.worst_runtime_ms, event.runtime_ms)
        else:
            self.events.append(event)

    def seen(self, kind: type[E]) -> list[E]:
        """Return the events of a kind, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def said(self) -> list[str]:
        """The texts that began to be said, in order."""
        return [event.text for event in self.seen(SpeechBegan)]

    @property
    def heard(self) -> list[str]:
        """The texts that were heard to their last word, in order."""
        whole = {e.utterance_id for e in self.seen(SpeechEnded) if e.words_heard == e.words_total}
        return [event.text for event in self.seen(SpeechBegan) if event.utterance_id in whole]
