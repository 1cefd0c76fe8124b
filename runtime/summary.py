"""The figures of a conversation: how quick it was, what was asked and heard, and how well the beat was held.

An observer; given to the host as a tap too, it measures the time to silence by the sound itself. Knows nothing of
sessions, only of their events, and keeps numbers, never what was said.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from pydantic import JsonValue
from rich.table import Table

from microturn.protocols import (
    MICRO_TURN_MS,
    OUTPUT_RATE_HZ,
    TERMINAL,
    DelegationEvent,
    Floor,
    FloorState,
    Receipt,
    Samples,
)
from microturn.runtime.events import (
    BargedIn,
    Delegated,
    DelegationMoved,
    ReceiptIssued,
    SessionEvent,
    SpeechBegan,
    SpeechEnded,
    TickDone,
    UserSaid,
)

_ANSWER_KINDS: Final = frozenset({"partial", "final"})


@dataclass(slots=True)
class Spread:
    """Measured values of one kind, in milliseconds unless said otherwise."""

    values: array[float] = field(default_factory=lambda: array("d"))

    def add(self, value: float) -> None:
        """Add a value."""
        self.values.append(value)

    def percentile(self, percent: float) -> float | None:
        """The value below which `percent` of them lie; None where there are none."""
        return float(np.percentile(self.values, percent)) if self.values else None


@dataclass(slots=True)
class _Speech:
    """Turns, replies and interruptions."""

    turns: int = 0
    utterances: Counter[str] = field(default_factory=Counter)
    cut_off: int = 0
    to_speech: Spread = field(default_factory=Spread)
    to_content: Spread = field(default_factory=Spread)
    barge_ins: int = 0
    to_silence: Spread = field(default_factory=Spread)
    speaking: set[str] = field(default_factory=set)
    _asked_ms: float | None = None
    """End of the newest turn that has had no speech yet."""
    _asked_content_ms: float | None = None
    _barged_ms: float | None = None

    def user_said(self, event: UserSaid) -> None:
        """Count a turn and wait for what is said to it."""
        if event.transcript.final and event.transcript.text.strip():
            self.turns += 1
            self._asked_ms = self._asked_content_ms = float(event.transcript.end_ms)

    def began(self, event: SpeechBegan) -> None:
        """Measure how long the user waited for it."""
        self.utterances[event.source] += 1
        self.speaking.add(event.utterance_id)
        self._asked_ms = _measured(self.to_speech, self._asked_ms, event.at_ms)
        if event.source not in ("filler", "backchannel"):
            self._asked_content_ms = _measured(self.to_content, self._asked_content_ms, event.at_ms)

    def barged_in(self, at_ms: float) -> None:
        """Note an interruption."""
        self.barge_ins += 1
        self._barged_ms = at_ms

    def ended(self, event: SpeechEnded, last_sound_ms: float | None) -> None:
        """Measure an interruption by the last sound before the silence, or else by the report of it."""
        self.speaking.discard(event.utterance_id)
        self.cut_off += event.words_heard < event.words_total
        if self._barged_ms is not None:
            silent_ms = event.at_ms if last_sound_ms is None else last_sound_ms
            self.to_silence.add(max(0.0, silent_ms - self._barged_ms))
            self._barged_ms = None


@dataclass(slots=True)
class _Piece:
    """One piece of a result on its way to be said."""

    sayable_ms: float | None
    """The first natural pause at or after its arrival."""


@dataclass(slots=True)
class _Results:
    """Delegations and what became of their results."""

    states: dict[str, str] = field(default_factory=dict)
    submitted_ms: dict[str, float] = field(default_factory=dict)
    to_result: Spread = field(default_factory=Spread)
    to_speech: Spread = field(default_factory=Spread)
    receipts: Counter[str] = field(default_factory=Counter)
    is_pause: bool = False
    _answered: set[str] = field(default_factory=set)
    _timed: set[tuple[str, int]] = field(default_factory=set)
    """Pieces that wait for a pause, and for nothing else; the others are late on purpose."""
    _waiting: dict[tuple[str, int], _Piece] = field(default_factory=dict)
    _woven: dict[str, _Piece] = field(default_factory=dict)

    def delegated(self, event: Delegated) -> None:
        """Count a delegation."""
        self.states[event.task_id] = "submitted"
        self.submitted_ms[event.task_id] = event.at_ms

    def moved(self, event: DelegationEvent, at_ms: float) -> None:
        """Note a delegation's state and measure its first result."""
        task_id = event.task_id
        if task_id in self.states and self.states[task_id] not in TERMINAL:
            self.states[task_id] = event.kind
        if event.kind in _ANSWER_KINDS and task_id in self.submitted_ms and task_id not in self._answered:
            self._answered.add(task_id)
            self.to_result.add(at_ms - self.submitted_ms[task_id])
        if event.speech is not None and event.speech.mode == "pause" and event.speech.not_before_ms is None:
            self._timed.add((task_id, event.seq))

    def receipt(self, receipt: Receipt) -> None:
        """Count a receipt and follow its piece."""
        self.receipts[receipt.state] += 1
        key = (receipt.task_id, receipt.seq)
        if receipt.state == "queued" and key in self._timed:
            ready_ms = float(receipt.session_ms)
            self._waiting[key] = _Piece(ready_ms if self.is_pause else None)
        elif key in self._waiting:
            piece = self._waiting.pop(key)
            if piece.sayable_ms is None:  # the pause was found in the same step as the words
                piece.sayable_ms = float(receipt.session_ms)
            if receipt.state == "woven":
                self._woven.setdefault(receipt.task_id, piece)

    def pause(self, is_pause: bool, now_ms: float) -> None:
        """Note after each step whether a result could be said."""
        self.is_pause = is_pause
        for piece in self._waiting.values():
            if is_pause and piece.sayable_ms is None:
                piece.sayable_ms = now_ms

    def spoken(self, task_id: str | None, at_ms: float) -> None:
        """Measure how long after the first natural pause a result began to be heard."""
        piece = self._woven.pop(task_id, None) if task_id is not None else None
        if piece is not None:
            self.to_speech.add(at_ms - (piece.sayable_ms or 0.0))


@dataclass(slots=True)
class _Beat:
    """How well the 200 ms were held."""

    ticks: int = 0
    missed: int = 0
    last_ms: float = 0.0
    step: Spread = field(default_factory=Spread)
    runtime: Spread = field(default_factory=Spread)
    lateness: Spread = field(default_factory=Spread)

    def tick(self, event: TickDone) -> None:
        """Add a step."""
        self.ticks += 1
        self.missed += event.count - 1
        self.last_ms = (event.index + 1) * float(MICRO_TURN_MS)
        self.step.add(event.step_ms)
        self.runtime.add(event.runtime_ms)
        self.lateness.add(event.lateness_ms)


class Summary:
    """Gathers the figures of one conversation; an observer, and a tap if wanted."""

    def __init__(self) -> None:
        self._speech = _Speech()
        self._results = _Results()
        self._beat = _Beat()
        self._floor = FloorState()
        self._played_samples = 0
        self._last_sound_ms: float | None = None

    def __call__(self, event: SessionEvent) -> None:
        """Take in an event."""
        match event:
            case TickDone():
                self._beat.tick(event)
                self._floor = event.floor
                self._results.pause(self._is_natural_pause(), self._beat.last_ms)
            case UserSaid():
                self._speech.user_said(event)
            case SpeechBegan():
                self._speech.began(event)
                if event.source == "woven":
                    self._results.spoken(event.task_id, event.at_ms)
            case SpeechEnded():
                self._speech.ended(event, self._last_sound_ms)
                self._results.pause(self._is_natural_pause(), event.at_ms)
            case BargedIn():
                self._speech.barged_in(event.at_ms)
            case Delegated():
                self._results.delegated(event)
            case DelegationMoved(at_ms, moved):
                self._results.moved(moved, at_ms)
            case ReceiptIssued(receipt):
                self._results.receipt(receipt)
            case _:
                pass

    def heard(self, audio: Samples) -> None:
        """What the person says is not measured."""

    def played(self, audio: Samples) -> None:
        """Find out when the assistant was last heard, by its sound."""
        before = self._played_samples
        self._played_samples += len(audio)
        sounding = np.flatnonzero(audio)
        if len(sounding):
            sample = before + int(sounding[-1]) + 1
            self._last_sound_ms = sample * 1000 / OUTPUT_RATE_HZ + MICRO_TURN_MS

    def as_dict(self) -> dict[str, JsonValue]:
        """All figures, ready for JSON; milliseconds to a thousandth, None where nothing was measured."""
        speech, results, beat = self._speech, self._results, self._beat
        return {
            "duration_s": beat.last_ms / 1000,
            "user_turns": speech.turns,
            "utterances": dict(speech.utterances),
            "cut_off": speech.cut_off,
            "response_ms": _figures(speech.to_speech, (50, 95)),
            "response_content_ms": _figures(speech.to_content, (50, 95)),
            "barge_ins": speech.barge_ins,
            "barge_in_to_silence_ms": _figures(speech.to_silence, (50, 95)),
            "delegations": dict(Counter(results.states.values())),
            "delegation_to_first_result_ms": _figures(results.to_result, (50, 95)),
            "pause_to_result_speech_ms": _figures(results.to_speech, (50, 95)),
            "receipts": dict(results.receipts),
            "ticks": beat.ticks,
            "missed": beat.missed,
            "lateness_ms": _figures(beat.lateness, (50, 99)),
            "step_ms": _figures(beat.step, (50, 99)),
            "runtime_ms": _figures(beat.runtime, (50, 99)),
        }

    def table(self) -> Table:
        """The figures for a screen; what did not happen is left out."""
        table = Table(title="Conversation", title_justify="left", box=None, padding=(0, 2, 0, 0))
        table.add_column("figure", style="dim")
        table.add_column("value", justify="right")
        for name, value in self._rows():
            table.add_row(name, value)
        return table

    def _rows(self) -> list[tuple[str, str]]:
        speech, results, beat = self._speech, self._results, self._beat
        return [
            ("length", f"{beat.last_ms / 1000:.1f} s"),
            ("user turns", str(speech.turns)),
            ("utterances", _counts(speech.utterances, f"{speech.cut_off} cut off" if speech.cut_off else "")),
            *_row("user stops → first speech", speech.to_speech, (50, 95)),
            *_row("user stops → first content", speech.to_content, (50, 95)),
            *([("barge-ins", str(speech.barge_ins))] if speech.barge_ins else []),
            *_row("barge-in → silence", speech.to_silence, (50, 95)),
            *([("delegations", _counts(Counter(results.states.values())))] if results.states else []),
            *_row("hand-over → first result", results.to_result, (50, 95)),
            *_row("natural pause → result is spoken", results.to_speech, (50, 95)),
            *([("receipts", _counts(results.receipts))] if results.receipts else []),
            ("micro-turns", f"{beat.ticks} steps, {beat.missed} missed"),
            *_row("lateness of a step", beat.lateness, (50, 99)),
            *_row("a step takes", beat.step, (50, 99)),
            *_row("of which the runtime", beat.runtime, (50, 99), digits=2),
        ]

    def _is_natural_pause(self) -> bool:
        """Whether a result could be said now; the same rule as the weaving policy's."""
        floor = self._floor
        return (
            floor.holder is Floor.NOBODY
            and floor.user_finished
            and not floor.reply_due
            and not self._speech.speaking
        )


def _measured(spread: Spread, since_ms: float | None, at_ms: float) -> float | None:
    """Add the time since `since_ms`, once; what began before it answers something older."""
    if since_ms is None or at_ms < since_ms:
        return since_ms
    spread.add(at_ms - since_ms)
    return None


def _figures(spread: Spread, percents: Sequence[int]) -> JsonValue:
    figures: dict[str, JsonValue] = {"count": len(spread.values)}
    for percent in percents:
        value = spread.percentile(percent)
        figures[f"p{percent}"] = None if value is None else round(value, 3)
    return figures


def _row(name: str, spread: Spread, percents: Sequence[int], digits: int = 0) -> list[tuple[str, str]]:
    if not spread.values:
        return []
    values = (f"p{percent} {spread.percentile(percent):.{digits}f} ms" for percent in percents)
    return [(name, "  ".join(values))]


def _counts(counter: Counter[str], more: str = "") -> str:
    parts = [f"{count} {name}" for name, count in counter.most_common()]
    return ", ".join([*parts, more] if more else parts) or "none"
