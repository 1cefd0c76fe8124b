"""What a session needs to go on where another process left it: its ledger, and how its times have to be read.

A session that is taken over has a new clock; the times in its ledger, and in what still comes of the tasks in it, are
those of the old one. Knows nothing of the bus.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from microturn.protocols import Promise, Receipt, SessionLedger
from microturn.runtime._errors import WovenItemError
from microturn.runtime.woven_item import WovenItem

RECALLED_CHARS = 2000
"""Longest account of what was asked and answered before; our choice."""


@dataclass(frozen=True, slots=True)
class Reopened:
    """A session that was taken over."""

    ledger: SessionLedger
    """All that was promised and what became of it, a client's own account merged in."""
    now_ms: float = 0.0
    """Time of the session that goes on, on its own clock, when the ledger was read; 0 before its beat has begun."""

    @property
    def shift_ms(self) -> int:
        """What is added to a time of the old clock to get one of the new."""
        return round(self.now_ms) - self.ledger.elapsed_ms

    def recalled(self) -> str | None:
        """What was asked and answered before, for a model; None where nothing was.

        The conversation itself is not kept on the bus: its small talk, its times and what was being said when the
        process ended are lost.
        """
        parts = [_recalled(promise) for promise in self.ledger.promises]
        if not parts:
            return None
        opening = "The conversation was interrupted and its words were lost. Before that: "
        return (opening + " ".join(parts))[:RECALLED_CHARS]


def _recalled(promise: Promise) -> str:
    """One sentence on a promise: what was asked, and what of the answer was heard."""
    reach = {receipt.seq: receipt.words_heard for receipt in promise.receipts}
    heard = " ".join(
        " ".join(event.speech.text.split()[: reach.get(event.seq, 0)])
        for event in promise.events
        if event.speech is not None and reach.get(event.seq, 0)
    )
    asked = f"The user asked {promise.intent!r}"
    return f"{asked} and has heard {heard!r}." if heard else f"{asked} and has heard no answer yet."


def passed_over(promise: Promise) -> frozenset[int]:
    """The pieces that were given up although no receipt says so, as it was lost with the process.

    An answer is told in its order, so what comes before words that were heard will not be told any more. Of pieces
    with a time or a way of their own nothing follows.
    """
    receipts = {receipt.seq: receipt for receipt in promise.receipts}
    told = [
        event.seq
        for event in promise.events
        if event.speech is not None and event.speech.mode == "pause" and event.speech.not_before_ms is None
    ]
    newest = max((seq for seq in told if seq in receipts and receipts[seq].words_heard), default=-1)
    whole = {seq for seq, receipt in receipts.items() if receipt.words_heard == receipt.words_total}
    return frozenset(seq for seq in told if seq < newest and seq not in whole)


def with_words_heard(ledger: SessionLedger, heard: Mapping[str, int]) -> SessionLedger:
    """Merge a client's own account of what it has played into a ledger; whichever is further counts.

    Args:
        ledger: as the bus has it.
        heard: names of woven utterances, and how many words of each were played. Names that are not ours are
            passed over, since a client may remember other utterances too.
    """
    furthest: dict[tuple[str, int], int] = {}
    for name, words in heard.items():
        for task_id, seq, reach in _reaches(name, words):
            furthest[task_id, seq] = max(reach, furthest.get((task_id, seq), 0))
    promises = tuple(_merged(promise, furthest, ledger.elapsed_ms) for promise in ledger.promises)
    return ledger.model_copy(update={"promises": promises})


def _reaches(name: str, words: int) -> Iterator[tuple[str, int, int]]:
    """The task, the event, and the words of its piece that a client has heard."""
    try:
        item = WovenItem.parse(name)
    except WovenItemError:
        return
    for stretch, got in zip(item.stretches, item.reached(words), strict=True):
        if got:
            yield item.task_id, stretch.seq, stretch.from_word + got


def _merged(promise: Promise, furthest: Mapping[tuple[str, int], int], now_ms: int) -> Promise:
    """A promise whose receipts reach as far as the client's account."""
    receipts = {receipt.seq: receipt for receipt in promise.receipts}
    for event in promise.events:
        total = len(event.speech.text.split()) if event.speech is not None else 0
        reach = min(total, furthest.get((promise.task_id, event.seq), 0))
        known = receipts.get(event.seq)
        if reach > (known.words_heard if known is not None else 0):
            receipts[event.seq] = Receipt(
                task_id=promise.task_id,
                seq=event.seq,
                state=known.state if known is not None and known.state != "queued" else "woven",
                words_heard=reach,
                words_total=total,
                session_ms=now_ms,
            )
    return promise.model_copy(update={"receipts": tuple(receipts[seq] for seq in sorted(receipts))})
