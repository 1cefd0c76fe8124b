"""The weaver: what waits to be said, what is being said, and the receipts for both.

It gives every piece of a result exactly one fate: heard, superseded, expired or dropped. When it is said is the
policy's business (`weave_policy.py`), how it sounds the interaction model's.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass

from microturn.protocols import DelegationEvent, Receipt, ReceiptState, Speech, WovenText
from microturn.runtime.weave_policy import Moment, NaturalPause, Waiting, WeavePolicy

REMEMBERED = 4096
"""How many (task, seq) pairs are remembered to drop what comes twice."""
REST_PREFIX = "As I was saying: "
LOOK_BACK_WORDS = 7
"""Most words that are said again so that a rest begins at a clause. Our choice."""
REST_KEY = "rest"
"""Supersede key of what was cut off: only the newest is offered, so that old ones are not read out in a row."""
REST_LIFE_MS = 45_000
"""How long a rest is offered before the conversation has moved on. Our choice."""
CUTS_LIMIT = 3
"""A piece that was cut off this often is dropped: the user clearly does not want it. Our choice."""


@dataclass(slots=True)
class _Passage:
    """Pieces that are said as one utterance."""

    pieces: list[Waiting]
    prefix_words: int
    interrupts: bool


class Weaver:
    """Holds the pieces of results of one session. Owned by the beat; nothing here waits.

    Bounded: at most `limit` pieces wait. Overflow policy: the piece of the lowest priority that waits longest is
    dropped, with a receipt that says so.
    """

    def __init__(self, policy: WeavePolicy | None = None, limit: int = 256) -> None:
        self.policy = policy or NaturalPause()
        self._limit = limit
        self._waiting: list[Waiting] = []
        self._passages: dict[str, _Passage] = {}
        self._seen: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._receipts: list[Receipt] = []
        self._names = itertools.count()

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """What waits, in the order of arrival."""
        return tuple(self._waiting)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits and nothing is being said."""
        return not self._waiting and not self._passages

    def offer(self, event: DelegationEvent, now_ms: float) -> None:
        """Take in the words of an event, once: a second copy of the same (task, seq) is ignored."""
        key = (event.task_id, event.seq)
        if event.speech is None or key in self._seen:
            return
        self._seen[key] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        piece = Waiting(event.task_id, event.seq, event.speech, now_ms)
        self._supersede(piece, now_ms)
        self._receipt(piece, "queued", now_ms)
        if event.speech.mode == "silent" or not event.speech.text.strip():
            self._receipt(piece, "dropped", now_ms)
            return
        self._waiting.append(piece)
        if len(self._waiting) > self._limit:
            loser = min(self._waiting, key=lambda p: (p.speech.priority, p.queued_ms))
            self._settle([loser], "dropped", now_ms)

    def weave(self, moment: Moment) -> tuple[WovenText, ...]:
        """Return what is to be said now; at most one utterance per micro-turn."""
        now_ms = moment.now_ms
        stale = [p for p in self._waiting if p.speech.expires_ms is not None and p.speech.expires_ms < now_ms]
        self._settle(stale, "expired", now_ms)
        chosen = self.policy.choose(self._waiting, moment)
        if not chosen:
            return ()
        for piece in chosen:
            self._waiting.remove(piece)
            self._receipt(piece, "woven", now_ms)
        prefix = REST_PREFIX if chosen[0].is_rest else ""
        text = prefix + " ".join(piece.speech.text.strip() for piece in chosen)
        interrupts = chosen[0].speech.mode == "interrupt"
        item_id = f"woven-{next(self._names)}"
        self._passages[item_id] = _Passage(chosen, len(prefix.split()), interrupts)
        return (WovenText(item_id, text, interrupts),)

    def heard(self, item_id: str, words: int, finished: bool, now_ms: float) -> None:
        """Take in the playout's report on an utterance made from `item_id`."""
        if not finished or item_id not in self._passages:
            return
        passage = self._passages.pop(item_id)
        left = max(0, words - passage.prefix_words)
        for piece in passage.pieces:
            got = min(left, piece.words)
            left -= got
            if got >= piece.words:
                self._receipt(piece, "heard", now_ms, got)
            else:
                self._receipt(piece, "interrupted", now_ms, got)
                rest = _rest_of(piece, got, now_ms)
                self._supersede(rest, now_ms)
                self._waiting.append(rest)
                if rest.cuts >= CUTS_LIMIT:
                    self._settle([rest], "dropped", now_ms)

    def task_of(self, item_id: str | None) -> str | None:
        """The task whose words are being said as `item_id`; None where it is not one of ours."""
        passage = self._passages.get(item_id) if item_id is not None else None
        return passage.pieces[0].task_id if passage is not None else None

    def resume(self) -> None:
        """Say the rest of what was cut off at the next natural pause rather than when all is idle."""
        for piece in self._waiting:
            if piece.is_rest:
                piece.speech = piece.speech.model_copy(update={"mode": "pause"})

    def dismiss(self, now_ms: float) -> None:
        """Drop the rest of what was cut off."""
        self._settle([piece for piece in self._waiting if piece.cuts], "dropped", now_ms)

    def drop(self, task_id: str | None, now_ms: float) -> None:
        """Drop what waits of a task, or of all of them: the user does not want it any more."""
        gone = [
            piece
            for piece in self._waiting
            if (task_id is None and piece.speech.not_before_ms is None) or piece.task_id == task_id
        ]
        self._settle(gone, "dropped", now_ms)

    def take_receipts(self) -> list[Receipt]:
        """Return the receipts since the last call, oldest first."""
        receipts, self._receipts = self._receipts, []
        return receipts

    def _supersede(self, newer: Waiting, now_ms: float) -> None:
        key = newer.speech.supersede_key
        if key is not None:
            self._settle([p for p in self._waiting if p.speech.supersede_key == key], "superseded", now_ms)

    def _settle(self, pieces: list[Waiting], state: ReceiptState, now_ms: float) -> None:
        for piece in pieces:
            self._waiting.remove(piece)
            self._receipt(piece, state, now_ms)

    def _receipt(self, piece: Waiting, state: ReceiptState, now_ms: float, heard: int = 0) -> None:
        self._receipts.append(
            Receipt(
                task_id=piece.task_id,
                seq=piece.seq,
                state=state,
                words_heard=heard,
                words_total=piece.words,
                session_ms=round(now_ms),
            )
        )


def _rest_of(piece: Waiting, heard: int, now_ms: float) -> Waiting:
    """What the user did not hear of a piece: the whole piece where nothing was heard, else offered when idle."""
    cuts = piece.cuts + 1
    if heard == 0 and not piece.is_rest:
        return Waiting(piece.task_id, piece.seq, piece.speech, now_ms, cuts=cuts)
    words = piece.speech.text.split()
    rest = " ".join(words[_clause_start(words, heard) :])
    speech = Speech(
        text=rest, mode="idle", priority=piece.speech.priority, expires_ms=piece.speech.expires_ms
    )
    return Waiting(piece.task_id, piece.seq, speech, now_ms, is_rest=True, cuts=cuts)


def _clause_start(words: list[str], heard: int) -> int:
    """Where to take up again: at the beginning of the clause that was cut, as people do, not in its middle."""
    earliest = max(0, heard - LOOK_BACK_WORDS)
    starts = (n for n in range(heard, earliest, -1) if words[n - 1][-1] in ",.;:!?")
    return next(starts, earliest)
