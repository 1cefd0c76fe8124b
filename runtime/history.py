"""What was said in a session, by whom, when, and how much of it was heard; the memory of the context package."""

from __future__ import annotations

from collections import deque

from microturn.protocols import Transcript, TurnRecord, UtteranceSource

KEPT_TURNS = 200
"""Turns that are kept; about half an hour of talk. Older ones are dropped."""


PAUSE_MS = 500
"""What the assistant says of its own after a shorter pause goes on with what it said before. Our choice."""


class History:
    """Turns in the order in which they ended. Owned by the beat."""

    def __init__(self, limit: int = KEPT_TURNS) -> None:
        self._turns: deque[TurnRecord] = deque(maxlen=limit)
        self._source: UtteranceSource = "reply"

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

    def assistant_said(
        self,
        text: str,
        heard_words: int,
        start_ms: float,
        end_ms: float,
        *,
        source: UtteranceSource = "reply",
    ) -> None:
        """Note an utterance that has ended, and how much of it was heard.

        Replies without a pause between them are one turn: a model may announce its speech word by word.
        """
        start, end = round(start_ms), round(end_ms)
        before = self._reply_before(start) if source == "reply" else None
        if before is not None:
            self._turns.pop()
            heard_words += len(before.text.split())
            text, start = f"{before.text} {text}", before.start_ms
        heard = None if heard_words >= len(text.split()) else heard_words
        self._source = source
        self._turns.append(
            TurnRecord(speaker="assistant", text=text, start_ms=start, end_ms=end, heard_words=heard)
        )

    def _reply_before(self, start_ms: int) -> TurnRecord | None:
        """The last turn, if it is a reply that was heard to its end, and that what begins now goes on with."""
        last = self._turns[-1] if self._turns else None
        if last is None or last.speaker != "assistant" or self._source != "reply":
            return None
        goes_on = last.heard_words is None and start_ms - last.end_ms < PAUSE_MS
        return last if goes_on else None
