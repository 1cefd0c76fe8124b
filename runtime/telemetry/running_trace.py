"""Which of a session's delegations runs now: whatever is measured meanwhile is measured in its trace."""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from microturn.runtime.events import Delegated, DelegationMoved, SessionEvent

_PROPAGATOR = TraceContextTextMapPropagator()


class RunningTrace:
    """An observer that knows the trace of the newest delegation of one session that has not ended."""

    def __init__(self) -> None:
        self._contexts: dict[str, Context] = {}

    @property
    def context(self) -> Context | None:
        """The context of that delegation's hand-over; None where none runs."""
        return next(reversed(self._contexts.values()), None)

    def __call__(self, event: SessionEvent) -> None:
        """Follow hand-overs and ends."""
        if isinstance(event, Delegated):
            self._contexts[event.task_id] = _PROPAGATOR.extract(event.trace, Context())
        elif isinstance(event, DelegationMoved) and event.event.is_terminal:
            self._contexts.pop(event.event.task_id, None)
