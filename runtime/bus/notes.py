"""Notes for a task's worker: the user's corrections and answers, and what became of the words that it sent.

Knows how they are written and how a worker is told of each once; nothing of streams.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from microturn.protocols import ProtocolError, Receipt


def correction_note(text: str) -> str:
    """Write a correction down as a note."""
    return json.dumps({"correction": text})


def answer_note(seq: int, text: str) -> str:
    """Write an answer down as a note; `seq` is the number of the question's event."""
    return json.dumps({"answer": {"seq": seq, "text": text}})


@dataclass(frozen=True, slots=True)
class Notes:
    """Some notes, told apart."""

    corrections: tuple[str, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    answers: Mapping[int, str] = field(default_factory=dict)
    """What was answered, by the number of the question's event."""


def read_notes(encoded: Sequence[str]) -> Notes:
    """Read notes, oldest first. What another release wrote in a way that this one cannot read is left out."""
    corrections: list[str] = []
    receipts: list[Receipt] = []
    answers: dict[int, str] = {}
    for text in encoded:
        try:
            note = json.loads(text)
        except ValueError:
            continue
        if not isinstance(note, dict):
            continue
        if isinstance(correction := note.get("correction"), str):
            corrections.append(correction)
        elif "receipt" in note:
            receipts.extend(read_receipts([json.dumps(note["receipt"])]))
        elif isinstance(answer := note.get("answer"), dict):
            answers |= _read_answer(answer.get("seq"), answer.get("text"))
    return Notes(tuple(corrections), tuple(receipts), answers)


def _read_answer(seq: object, text: object) -> dict[int, str]:
    """An answer by its question; nothing where it is none."""
    return {seq: text} if isinstance(seq, int) and isinstance(text, str) else {}


def read_receipts(encoded: Sequence[str]) -> tuple[Receipt, ...]:
    """Read receipts, in the order given. What cannot be read is left out."""
    receipts: list[Receipt] = []
    for text in encoded:
        try:
            receipts.append(Receipt.decode(text))
        except ProtocolError:
            continue
    return tuple(receipts)
