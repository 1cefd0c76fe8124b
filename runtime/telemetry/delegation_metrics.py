"""Delegations as their session sees them: handed over, ended, how soon their first word, what was heard of them."""

from __future__ import annotations

from typing import Final

from opentelemetry import metrics

from microturn.protocols import SETTLED, Receipt
from microturn.protocols import telemetry_names as names
from microturn.runtime.events import (
    BackgroundHealth,
    Delegated,
    DelegationMoved,
    ReceiptIssued,
    SessionEvent,
    SpeechBegan,
)
from microturn.runtime.telemetry.running_trace import RunningTrace

REMEMBERED: Final = 1024
"""Delegations of a session whose hand-over is remembered; of older ones no more times are measured. Our choice."""
_SECONDS: Final = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8]
"""Bounds of the buckets, in seconds. Our choice."""

_METER = metrics.get_meter("microturn.runtime")
_handed_over = _METER.create_counter(names.DELEGATIONS, "{delegation}")
_ended = _METER.create_counter(names.DELEGATION_ENDS, "{delegation}")
_duration_s = _METER.create_histogram(
    names.DELEGATION_DURATION, "s", explicit_bucket_boundaries_advisory=_SECONDS
)
_first_word_s = _METER.create_histogram(names.FIRST_WORD, "s", explicit_bucket_boundaries_advisory=_SECONDS)
_receipts = _METER.create_counter(names.RECEIPTS, "{piece}")
_changes = _METER.create_counter(names.BACKGROUND_STATE, "{change}")


class DelegationMetrics:
    """An observer that counts and times the delegations of one session. Times are session time."""

    def __init__(self, running: RunningTrace) -> None:
        self._running = running
        self._handed_over_ms: dict[str, float] = {}
        self._silent: set[str] = set()

    def __call__(self, event: SessionEvent) -> None:
        """Measure what has happened."""
        match event:
            case Delegated():
                self._note_hand_over(event)
            case DelegationMoved():
                self._note_move(event)
            case SpeechBegan(task_id=str() as task_id):
                self._note_word(task_id, event.at_ms)
            case ReceiptIssued():
                self._note_receipt(event.receipt)
            case BackgroundHealth():
                _changes.add(1, {names.BACKGROUND_STATE_NOW: event.state})
            case _:
                pass

    def _note_hand_over(self, event: Delegated) -> None:
        self._handed_over_ms[event.task_id] = event.at_ms
        self._silent.add(event.task_id)
        if len(self._handed_over_ms) > REMEMBERED:
            oldest = next(iter(self._handed_over_ms))
            del self._handed_over_ms[oldest]
            self._silent.discard(oldest)
        _handed_over.add(1, {names.AGENT_NAME: event.agent}, context=self._running.context)

    def _note_move(self, event: DelegationMoved) -> None:
        if not event.event.is_terminal:
            return
        labels = {names.DELEGATION_STATE: event.event.kind}
        _ended.add(1, labels, context=self._running.context)
        began_ms = self._handed_over_ms.get(event.event.task_id)
        if began_ms is not None:
            _duration_s.record((event.at_ms - began_ms) / 1000, labels, context=self._running.context)

    def _note_word(self, task_id: str, at_ms: float) -> None:
        if task_id in self._silent:
            self._silent.discard(task_id)
            seconds = (at_ms - self._handed_over_ms[task_id]) / 1000
            _first_word_s.record(seconds, context=self._running.context)

    def _note_receipt(self, receipt: Receipt) -> None:
        if receipt.state in SETTLED or receipt.state == "interrupted":
            _receipts.add(1, {names.WEAVE_OUTCOME: receipt.state})
