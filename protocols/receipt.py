"""Receipts: what became of each piece of a result, down to the words that were heard."""

from __future__ import annotations

from typing import Literal, TypeAlias

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
