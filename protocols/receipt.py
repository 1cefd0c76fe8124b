"""Receipts: what became of each piece of a result, down to the words that were heard."""

from __future__ import annotations

from typing import Literal, Self, TypeAlias

from microturn.protocols._message import Message

ReceiptState: TypeAlias = Literal[
    "queued", "woven", "heard", "interrupted", "superseded", "expired", "dropped"
]
SETTLED: frozenset[str] = frozenset({"heard", "superseded", "expired", "dropped"})
"""States after which nothing more happens to a piece; the rest of an interrupted one is offered again."""


class Receipt(Message):
    """The state of one event's words, from the playout's report."""

    task_id: str
    seq: int
    state: ReceiptState
    words_heard: int = 0
    """How far the user has heard it, in words from its beginning, over all the times that it was begun."""
    words_total: int = 0
    session_ms: int
    """Session time at which the state was reached."""

    def followed_by(self, newer: Self) -> Self:
        """What holds once `newer` has come: a settled state stays, and words cannot be unheard.

        The bus merges receipts by the same rule where they are stored.
        """
        words_heard = max(self.words_heard, newer.words_heard)
        kept = self if self.state in SETTLED else newer
        return kept.model_copy(update={"words_heard": words_heard})
