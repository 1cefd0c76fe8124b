"""Ticks as histograms: how long steps take, how late they begin, and why any was missed. Never a span for a tick."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from opentelemetry import metrics

from microturn.protocols import MICRO_TURN_MS
from microturn.protocols import telemetry_names as names
from microturn.runtime.events import SessionEvent, TickDone
from microturn.runtime.telemetry.running_trace import RunningTrace

MissedReason: TypeAlias = Literal["model", "runtime", "loop"]
"""What made a step late: the model's own step, the runtime's work on the sessions, or anything else that held the loop
or the machine."""
_SECONDS: Final = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.4, 1.0, 2.0]
"""Bounds of the buckets, in seconds; a tick's time is 0.2. Our choice."""

_METER = metrics.get_meter("microturn.runtime")
_duration_s = _METER.create_histogram(names.TICK_DURATION, "s", explicit_bucket_boundaries_advisory=_SECONDS)
_runtime_s = _METER.create_histogram(names.TICK_RUNTIME, "s", explicit_bucket_boundaries_advisory=_SECONDS)
_lateness_s = _METER.create_histogram(names.TICK_LATENESS, "s", explicit_bucket_boundaries_advisory=_SECONDS)
_missed = _METER.create_counter(names.TICK_MISSED, "{micro-turn}")


class TickMetrics:
    """An observer that measures the ticks of one host, for all of its sessions.

    A step is one for all sessions, so it is recorded once, by whichever session tells of it first: recording it for
    each of fifty sessions took 4 ms of every tick. What is measured while a delegation runs has an exemplar that leads
    to the trace of the newest one.
    """

    def __init__(self) -> None:
        self._running = RunningTrace()
        self._now: TickDone | None = None
        self._runtime_ms = 0.0
        self._before: tuple[TickDone, float] | None = None

    def __call__(self, event: SessionEvent) -> None:
        """Take in an event of any session."""
        if not isinstance(event, TickDone):
            self._running(event)
            return
        if self._now is None or event.index != self._now.index:
            self._begin(event)
        self._runtime_ms += event.runtime_ms

    def _begin(self, tick: TickDone) -> None:
        """Record the tick that is over, and what is known of the next."""
        context = self._running.context
        if self._now is not None:
            _runtime_s.record(self._runtime_ms / 1000, context=context)
            _duration_s.record((self._now.step_ms + self._runtime_ms) / 1000, context=context)
            self._before = self._now, self._runtime_ms
        _lateness_s.record(tick.lateness_ms / 1000, context=context)
        if tick.count > 1:
            reason = (
                "loop" if self._before is None else missed_reason(self._before[0].step_ms, self._before[1])
            )
            _missed.add(tick.count - 1, {names.MISSED_REASON: reason}, context=context)
        self._now, self._runtime_ms = tick, 0.0


def missed_reason(step_ms: float, runtime_ms: float) -> MissedReason:
    """Why the tick after one that took so long was late; what took most of a micro-turn is the reason."""
    if step_ms > MICRO_TURN_MS / 2:
        return "model"
    if runtime_ms > MICRO_TURN_MS / 2:
        return "runtime"
    return "loop"
