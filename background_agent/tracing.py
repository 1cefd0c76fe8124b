"""The worker's part of a delegation's trace: one span for each attempt, in the trace that the package brings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from microturn.protocols import ContextPackage
from microturn.protocols import telemetry_names as names

TRACER = trace.get_tracer("microturn.background_agent")


@contextmanager
def attempt_span(package: ContextPackage, attempt: int) -> Iterator[Span]:
    """Record one attempt; what is traced inside becomes part of it.

    Child of the hand-over and linked to it: there is one message and one handler, so operators get one tree.
    """
    context = TraceContextTextMapPropagator().extract(package.trace, Context())
    sent = trace.get_current_span(context).get_span_context()
    with TRACER.start_as_current_span(
        names.PROCESS_SPAN,
        context=context,
        kind=SpanKind.CONSUMER,
        links=[Link(sent)] if sent.is_valid else [],
        record_exception=False,  # the text of a foreign error may hold what was said
        set_status_on_exception=False,
        attributes={
            names.MESSAGING_SYSTEM: "redis",
            names.MESSAGING_OPERATION: "process",
            names.MESSAGE_ID: package.task_id,
            names.CONVERSATION_ID: package.session_id,
            names.AGENT_NAME: package.agent,
            names.DELEGATION_ATTEMPT: attempt,
        },
    ) as span:
        yield span
