"""Ticks as histograms: how long steps take, how late they begin, and why any was missed. Never a span for a tick."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from opentelemetry import metrics
from opentelemetry.context import Context

from microturn.protocols import MICRO_TURN_MS
from microturn.protocols import telemetry_names as names
from microturn.runtime.events import SessionEvent, TickDone
from microturn.runtime.telemetry.running_trace import RunningTrace

MissedReason: TypeAlias = Literal["model", "runtime", "loop"]
"""What made a step late: the model's own step, the runtime's work on the session, or anything else that held the loop
or the machine."""
_SECONDS: Final = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.4, 1.0, 2.0]
"""Bounds of the buckets, in seconds; a tick's time is 0.2. Our choice."""

_METER = metrics.get_meter("microturn.runtime")
_duration_s = _METER.create_histogram(names.TICK_DURATION, "s", explicit_bucket_boundaries_advisory=_SECONDS)
_runtime_s = _METER.create_histogram(names.TICK_RUNTIME, "s", explicit_bucket_boundaries_advisory=_SECONDS)
_lateness_s = _METER.create_histogram(names.TICK_LATENESS, "s", explicit_bucket_boundaries_advisory=_SECONDS)
_missed = _METER.create_counter(names.TICK_MISSED, "{micro-turn}")


class TickMetrics:
    """An observer that measures the ticks of one session.

    What is measured while a delegation runs has an exemplar that leads to its trace.
    """

    def __init__(self, running: RunningTrace) -> None:
        self._running = running
        self._before: TickDone | None = None

    def __call__(self, event: SessionEvent) -> None:
        """Measure a tick."""
        if not isinstance(event, TickDone):
            return
        context = self._running.context
        _duration_s.record((event.step_ms + event.runtime_ms) / 1000, context=context)
        _runtime_s.record(event.runtime_ms / 1000, context=context)
        _lateness_s.record(event.lateness_ms / 1000, context=context)
        if event.count > 1:
            self._count(event, context)
        self._before = event

    def _count(self, event: TickDone, context: Context | None) -> None:
        _missed.add(event.count - 1, {names.MISSED_REASON: missed_reason(self._before)}, context=context)


def missed_reason(before: TickDone | None) -> MissedReason:
    """Why the tick after `before` was late; what took most of a micro-turn is the reason."""
    if before is not None and before.step_ms > MICRO_TURN_MS / 2:
        return "model"
    if before is not None and before.runtime_ms > MICRO_TURN_MS / 2:
        return "runtime"
    return "loop"
