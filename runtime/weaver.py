"""The weaver: what waits to be said, what is being said, and the receipts for both.

It gives every piece of a result exactly one fate: heard, superseded, expired or dropped. When it is said is the
policy's business (`weave_policy.py`), how it sounds the interaction model's.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from microturn.protocols import SETTLED, DelegationEvent, Receipt, ReceiptState, Speech, WovenText
from microturn.runtime.rest import REST_PREFIX, rest_of
from microturn.runtime.weave_policy import Moment, NaturalPause, Waiting, WeavePolicy
from microturn.runtime.woven_item import Stretch, WovenItem

T = TypeVar("T")

REMEMBERED = 4096
"""How many (task, seq) pairs are remembered to drop what comes twice."""
CUTS_LIMIT = 3
"""A piece that was cut off this often is dropped: the user clearly does not want it. Our choice."""
FILLERS = frozenset({"progress", "tool_started"})
"""Kinds of events whose words fill a wait."""
_ENDS_WAIT = frozenset({"partial", "final", "failed", "cancelled", "expired", "dead"})
"""Kinds of events after which words that fill a wait are worth nothing."""


@dataclass(slots=True)
class _Passage:
    """Pieces that are said as one utterance."""

    item: WovenItem
    pieces: list[Waiting]
    settled: int = 0
    """How many of the pieces were heard to their end."""
    is_cut: bool = False
    """Whether it was cut off, and it is not known yet how far it was heard."""
    fate: ReceiptState | None = None
    """What becomes of the rest if it is cut off; None where the rest is offered again."""


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
        self._begun: OrderedDict[str, None] = OrderedDict()
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
        piece = self._admitted(event, now_ms)
        if piece is None:
            return
        self._receipt(piece, "queued", now_ms)
        if not is_spoken(event.speech):
            self._receipt(piece, "dropped", now_ms)
            return
        self._queue(piece, now_ms)

    def refuse(self, event: DelegationEvent, state: ReceiptState, now_ms: float) -> None:
        """Take in the words of an event that are not to be said, and say in a receipt what became of them."""
        piece = self._admitted(event, now_ms)
        if piece is not None:
            self._receipt(piece, state, now_ms)

    def restore(self, event: DelegationEvent, receipt: Receipt | None, now_ms: float) -> None:
        """Take in an event of a session that was taken over: what was not heard of its words waits again.

        Nothing of what was settled; the rest of what was begun, but all of a question; all of what was not.
        """
        if event.is_question and not is_settled(receipt):
            receipt = None
        if receipt is None or not (is_settled(receipt) or receipt.words_heard):
            self.offer(event, now_ms)
            return
        piece = self._admitted(event, now_ms)
        if piece is None:
            return
        if receipt.words_heard:
            self._begin(piece)
        if is_settled(receipt):
            return
        piece.heard = min(receipt.words_heard, piece.words)
        piece.cuts = (
            1 if receipt.state == "interrupted" else 0
        )  # that the process died was not the user's doing
        if piece.heard == piece.words:
            self._receipt(piece, "heard", now_ms)
        else:
            self._queue(rest_of(piece, now_ms), now_ms)

    def weave(self, moment: Moment, *, is_asking: bool = False) -> tuple[WovenText, ...]:
        """Return what is to be said now; at most one utterance per micro-turn.

        While a question is being asked nothing else is said but what interrupts, and no other question.
        """
        now_ms = moment.now_ms
        stale = [p for p in self._waiting if p.speech.expires_ms is not None and p.speech.expires_ms < now_ms]
        self._settle(stale, "expired", now_ms)
        chosen = self.policy.choose(self._sayable(is_asking), moment)
        if not chosen:
            return ()
        for piece in chosen:
            self._waiting.remove(piece)
            self._receipt(piece, "woven", now_ms)
            self._begin(piece)
        prefix = REST_PREFIX if chosen[0].is_rest else ""
        text = prefix + " ".join(piece.speech.text.strip() for piece in chosen)
        stretches = tuple(Stretch(piece.seq, piece.from_word, piece.words) for piece in chosen)
        item = WovenItem(chosen[0].task_id, next(self._names), len(prefix.split()), stretches)
        self._passages[str(item)] = _Passage(item, chosen)
        interrupts = chosen[0].speech.mode == "interrupt"
        return (WovenText(str(item), text, interrupts=interrupts, asks=chosen[-1].asks),)

    def heard(self, item_id: str, words: int, finished: bool, now_ms: float) -> None:
        """Take in the playout's report on an utterance made from `item_id`: how many of its words were played.

        While it is being played, every report that reaches further gives a receipt, so that a crash loses little.
        """
        passage = self._passages.get(item_id)
        if passage is None:
            return
        reached = list(passage.item.reached(words))
        for piece, got in list(zip(passage.pieces, reached, strict=True))[passage.settled :]:
            before, piece.heard = piece.heard, max(piece.heard, piece.from_word + got if got else 0)
            if got == piece.words:
                passage.settled += 1
                self._receipt(piece, "heard", now_ms)
            elif piece.heard > before and not finished:
                self._receipt(piece, "woven", now_ms)
        if finished:
            del self._passages[item_id]
            self._cut(passage, was_begun=any(reached), now_ms=now_ms)

    def conclude(self, item_id: str) -> None:
        """Take what is being said for heard, however it ends: the user has understood it and answered."""
        if item_id in self._passages:
            self._passages[item_id].fate = "heard"

    def cut(self) -> None:
        """Take in that all that is being said was cut off; how far it was heard, its player will tell.

        Until then nothing more of its tasks is said, or it would come before the rest.
        """
        for passage in self._passages.values():
            passage.is_cut = True

    @property
    def under_way(self) -> frozenset[str]:
        """The names of the utterances that were given out and have not ended."""
        return frozenset(self._passages)

    def task_of(self, item_id: str | None) -> str | None:
        """The task whose words are being said as `item_id`; None where it is not one of ours."""
        passage = self._passages.get(item_id) if item_id is not None else None
        return passage.item.task_id if passage is not None else None

    def has_due(self, now_ms: float) -> bool:
        """Whether anything waits whose time has come."""
        return any(piece.is_due(now_ms) for piece in self._waiting)

    def reminded(self, now_ms: float) -> set[str]:
        """The tasks of which something waits for its time to come."""
        return {piece.task_id for piece in self._waiting if not piece.is_due(now_ms)}

    def resume(self) -> None:
        """Say the rest of what was cut off at the next natural pause rather than when all is idle."""
        for piece in self._waiting:
            if piece.is_rest:
                piece.speech = piece.speech.model_copy(update={"mode": "pause"})

    def dismiss(self, now_ms: float) -> None:
        """Drop the rest of what was cut off, and of what is just being cut off."""
        self._settle([piece for piece in self._waiting if piece.cuts or piece.is_rest], "dropped", now_ms)
        for passage in self._passages.values():
            passage.fate = passage.fate or "dropped"

    def drop(self, task_id: str | None, now_ms: float) -> None:
        """Drop what waits of a task, or of all of them but what is for later: the user does not want it any more."""
        self._retract(
            [
                piece
                for piece in self._waiting
                if (task_id is None and piece.speech.not_before_ms is None) or piece.task_id == task_id
            ],
            [p for p in self._passages.values() if task_id is None or p.item.task_id == task_id],
            "dropped",
            now_ms,
        )

    def supersede(self, task_id: str, now_ms: float) -> None:
        """Give up what waits of a task, for something better is on its way.

        What is being said goes on, and words for later stay: they were promised on their own.
        """
        self._retract(
            [p for p in self._waiting if p.task_id == task_id and p.speech.not_before_ms is None],
            [passage for passage in self._passages.values() if passage.item.task_id == task_id],
            "superseded",
            now_ms,
        )

    def withdraw(self, supersede_key: str, now_ms: float) -> None:
        """Give up what waits under a key."""
        self._settle(
            [p for p in self._waiting if p.speech.supersede_key == supersede_key], "superseded", now_ms
        )

    def clear(self) -> None:
        """Forget everything without a word or a receipt: it is another process's to say."""
        self._waiting.clear()
        self._passages.clear()
        self._receipts.clear()

    def take_receipts(self) -> list[Receipt]:
        """Return the receipts since the last call, oldest first."""
        receipts, self._receipts = self._receipts, []
        return receipts

    def _sayable(self, is_asking: bool) -> list[Waiting]:
        unsure = {passage.item.task_id for passage in self._passages.values() if passage.is_cut}
        if not unsure and not is_asking:
            return self._waiting
        return [
            piece
            for piece in self._waiting
            if piece.task_id not in unsure
            and not (is_asking and (piece.asks or piece.speech.mode != "interrupt"))
        ]

    def _admitted(self, event: DelegationEvent, now_ms: float) -> Waiting | None:
        """The piece that an event brings, what it replaces given up; None where it brings none or was seen."""
        key = (event.task_id, event.seq)
        if key in self._seen:
            return None
        if event.kind in _ENDS_WAIT:
            own = [piece for piece in self._waiting if piece.task_id == event.task_id]
            over = [p for p in own if p.is_filler or (p.asks and event.is_terminal)]
            self._settle(over, "superseded", now_ms)
        if event.speech is None:
            return None
        _remember(self._seen, key)
        piece = Waiting(
            event.task_id,
            event.seq,
            _keyed(event, event.speech),
            now_ms,
            is_filler=event.kind in FILLERS,
            has_begun=event.task_id in self._begun,
        )
        if piece.speech.supersede_key is not None:
            self.withdraw(piece.speech.supersede_key, now_ms)
        return piece

    def _queue(self, piece: Waiting, now_ms: float) -> None:
        self._waiting.append(piece)
        if len(self._waiting) > self._limit:
            loser = min(self._waiting, key=lambda p: (p.speech.priority, p.queued_ms))
            self._settle([loser], "dropped", now_ms)

    def _begin(self, piece: Waiting) -> None:
        """Note that a task's answer is being told."""
        if piece.is_filler or piece.task_id in self._begun:
            return
        _remember(self._begun, piece.task_id)
        for other in self._waiting:
            other.has_begun = other.has_begun or other.task_id == piece.task_id

    def _cut(self, passage: _Passage, *, was_begun: bool, now_ms: float) -> None:
        """Offer again what was not heard of a passage: its rest, or all of it where nothing was heard."""
        for piece in passage.pieces[passage.settled :]:
            if passage.fate is not None:
                self._receipt(piece, passage.fate, now_ms)
                continue
            self._receipt(piece, "interrupted", now_ms)
            piece.cuts += 1
            is_whole = not piece.heard and (not was_begun or piece.speech.mode == "interrupt")
            # The end of a question is none: it is asked again from its beginning.
            again = piece if piece.asks or (is_whole and not piece.is_rest) else rest_of(piece, now_ms)
            again.queued_ms = now_ms
            again.has_begun = piece.task_id in self._begun
            if again.cuts >= CUTS_LIMIT:
                self._receipt(again, "dropped", now_ms)
            else:
                self._queue(again, now_ms)

    def _retract(
        self, pieces: list[Waiting], passages: Iterable[_Passage], state: ReceiptState, now_ms: float
    ) -> None:
        self._settle(pieces, state, now_ms)
        for passage in passages:
            passage.fate = state

    def _settle(self, pieces: list[Waiting], state: ReceiptState, now_ms: float) -> None:
        for piece in pieces:
            self._waiting.remove(piece)
            self._receipt(piece, state, now_ms)

    def _receipt(self, piece: Waiting, state: ReceiptState, now_ms: float) -> None:
        self._receipts.append(
            Receipt(
                task_id=piece.task_id,
                seq=piece.seq,
                state=state,
                words_heard=piece.heard,
                words_total=piece.words_total,
                session_ms=round(now_ms),
            )
        )


def is_spoken(speech: Speech | None) -> bool:
    """Whether it is ever to be said."""
    return speech is not None and speech.mode != "silent" and bool(speech.text.strip())


def is_settled(receipt: Receipt | None) -> bool:
    """Whether it says that nothing more happens to its piece."""
    return receipt is not None and receipt.state in SETTLED


def _keyed(event: DelegationEvent, speech: Speech) -> Speech:
    """The speech of an event; of a task's reports on its progress only the newest is worth saying."""
    if event.kind != "progress" or speech.supersede_key is not None:
        return speech
    return speech.model_copy(update={"supersede_key": f"{event.task_id}/progress"})


def _remember(memory: OrderedDict[T, None], key: T) -> None:
    memory[key] = None
    if len(memory) > REMEMBERED:
        memory.popitem(last=False)
