"""What was said in a session, by whom, when, and how much of it was heard; the memory of the context package."""

from __future__ import annotations

from collections import deque

from microturn.protocols import Transcript, TurnRecord

KEPT_TURNS = 200
"""Turns that are kept; about half an hour of talk. Older ones are dropped."""


class History:
    """Turns in the order in which they ended. Owned by the beat."""

    def __init__(self, limit: int = KEPT_TURNS) -> None:
        self._turns: deque[TurnRecord] = deque(maxlen=limit)

    @property
    def turns(self) -> tuple[TurnRecord, ...]:
        """All turns that are kept, oldest first."""
        return tuple(self._turns)

    def user_said(self, transcript: Transcript) -> None:
        """Note a final transcript; an empty one is nothing said."""
        if transcript.final and transcript.text.strip():
            self._turns.append(
                TurnRecord(
                    speaker="user",
                    text=transcript.text,
                    start_ms=transcript.start_ms,
                    end_ms=transcript.end_ms,
                )
            )

    def assistant_said(self, text: str, heard_words: int, start_ms: float, end_ms: float) -> None:
        """Note an utterance that has ended, and how much of it was heard."""
        total = len(text.split())
        self._turns.append(
            TurnRecord(
                speaker="assistant",
                text=text,
                start_ms=round(start_ms),
                end_ms=round(end_ms),
                heard_words=None if heard_words >= total else heard_words,
            )
        )
