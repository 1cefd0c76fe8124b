"""The runtime's part of a delegation's trace: the turn that caused it, the hand-over, and what became of each result.

One trace per delegation, whose context travels in the package; never a span for a session or for a tick. Without an
OpenTelemetry SDK nothing is recorded, and the ids still travel, so that a worker that has one can. Nothing that was
said is in a span.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from microturn.protocols import SETTLED, Receipt
from microturn.protocols import telemetry_names as names
from microturn.protocols.trace_ids import chosen_ids, send_ids, turn_ids
from microturn.runtime.events import Delegated, ReceiptIssued, SessionEvent

TRACER = trace.get_tracer("microturn.runtime")
_WAITS_S = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2]
"""Bounds of the buckets, in seconds. Our choice."""
_wait_s = metrics.get_meter("microturn.runtime").create_histogram(
    names.WEAVE_WAIT_TIME, "s", explicit_bucket_boundaries_advisory=_WAITS_S
)
_PROPAGATOR = TraceContextTextMapPropagator()
REMEMBERED_TASKS = 1024
"""Delegations of a session whose context is kept; that of older ones is computed from their ids."""


def trace_hand_over(
    session_id: str, task_id: str, agent: str, said_ago_ms: float, fingerprint: str = ""
) -> dict[str, str]:
    """Record the turn and the hand-over of a task, and return the context that is to travel with it.

    Args:
        session_id: the conversation.
        task_id: the task.
        agent: the background agent that is to do it.
        said_ago_ms: how long ago the words began that caused it.
        fingerprint: the interaction model's; "" where it is not known.
    """
    now_ns = time.time_ns()
    turn = _start_turn(session_id, task_id, now_ns - round(said_ago_ms * 1e6), fingerprint)
    with chosen_ids(send_ids(task_id)):
        send = TRACER.start_span(
            names.SEND_SPAN,
            context=trace.set_span_in_context(turn, Context()),
            kind=SpanKind.PRODUCER,
            start_time=now_ns,
            attributes={
                names.MESSAGING_SYSTEM: "redis",
                names.MESSAGING_OPERATION: "send",
                names.MESSAGE_ID: task_id,
                names.CONVERSATION_ID: session_id,
                names.AGENT_NAME: agent,
            },
        )
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers, trace.set_span_in_context(send, Context()))
    send.end()
    turn.end()
    return headers or headers_of(task_id)


def headers_of(task_id: str) -> dict[str, str]:
    """The context of a task's hand-over where nothing recorded it here, or it was recorded in another process."""
    return {"traceparent": send_ids(task_id).traceparent}


def _start_turn(session_id: str, task_id: str, began_ns: int, fingerprint: str) -> Span:
    with chosen_ids(turn_ids(task_id)):
        return TRACER.start_span(
            names.TURN_SPAN,
            context=Context(),
            start_time=began_ns,
            attributes={
                names.OPERATION_NAME: "invoke_agent",
                names.CONVERSATION_ID: session_id,
                names.MESSAGE_ID: task_id,
                **({names.MODEL_FINGERPRINT: fingerprint} if fingerprint else {}),
            },
        )


@dataclass(slots=True)
class _Piece:
    queued_ns: int
    woven_ns: int | None = None


@dataclass(slots=True)
class WeaveTracer:
    """An observer that records a span for each piece of a result, when its fate is known."""

    session_id: str
    _headers: dict[str, dict[str, str]] = field(default_factory=dict)
    _pieces: dict[tuple[str, int], _Piece] = field(default_factory=dict)

    def __call__(self, event: SessionEvent) -> None:
        """Follow hand-overs and receipts."""
        if isinstance(event, Delegated):
            self._headers[event.task_id] = event.trace
            if len(self._headers) > REMEMBERED_TASKS:
                del self._headers[next(iter(self._headers))]
        elif isinstance(event, ReceiptIssued):
            self._follow(event.receipt)

    def _context_of(self, task_id: str) -> dict[str, str]:
        return self._headers.get(task_id) or headers_of(task_id)

    def _follow(self, receipt: Receipt) -> None:
        key, now_ns = (receipt.task_id, receipt.seq), time.time_ns()
        piece = self._pieces.setdefault(key, _Piece(now_ns))
        if receipt.state == "woven" and piece.woven_ns is None:
            piece.woven_ns = now_ns
        if receipt.state not in SETTLED and receipt.state != "interrupted":
            return
        self._record(receipt, self._pieces.pop(key))

    def _record(self, receipt: Receipt, piece: _Piece) -> None:
        span = TRACER.start_span(
            names.WEAVE_SPAN,
            context=_PROPAGATOR.extract(self._context_of(receipt.task_id), Context()),
            start_time=piece.queued_ns,
            attributes={
                names.CONVERSATION_ID: self.session_id,
                names.MESSAGE_ID: receipt.task_id,
                names.EVENT_SEQ: receipt.seq,
                names.WEAVE_OUTCOME: receipt.state,
                names.WORDS_HEARD: receipt.words_heard,
                names.WORDS_TOTAL: receipt.words_total,
            },
        )
        if piece.woven_ns is not None:
            wait_s = (piece.woven_ns - piece.queued_ns) / 1e9
            span.set_attribute(names.WEAVE_WAIT, wait_s)
            _wait_s.record(wait_s, context=trace.set_span_in_context(span, Context()))
        span.end()
