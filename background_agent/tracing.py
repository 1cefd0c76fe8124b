"""The worker's part of a delegation's trace: its attempts, and in them agents, requests to models and calls of tools.

Names and metrics follow the GenAI conventions. Without an OpenTelemetry SDK all of it costs some microseconds and
records nothing. What was said is in no span unless `MICROTURN_TRACE_CONTENT=1` asks for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeAlias

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from microturn.protocols import ContextPackage, DelegationEvent, ToolSpec
from microturn.protocols import telemetry_names as names
from microturn.protocols.trace_ids import SpanIds, agent_ids, attempt_ids, chosen_ids

TRACER = trace.get_tracer("microturn.background_agent")
METER = metrics.get_meter("microturn.background_agent")
Attributes: TypeAlias = dict[str, AttributeValue]
TOOL_ERROR = "tool_error"
"""Kind of error of a call whose result says that it failed."""
CONTENT_VARIABLE = "MICROTURN_TRACE_CONTENT"
"""Set to 1, it lets what users said and tools returned into spans."""
CONTENT_LIMIT_CHARS = 4_000
"""Longest content of one attribute. Our choice."""
EVENT_EVERY = 10
"""Of the pieces of a result, each one of so many is an event in the span; it may have no more than 128."""
_SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
"""Bounds of the buckets, in seconds. Source: the GenAI conventions, `gen_ai.client.operation.duration`."""
_TOKENS = [4**power for power in range(14)]
"""Bounds of the buckets, in tokens. Source: the GenAI conventions, `gen_ai.client.token.usage`."""

_operation_s = METER.create_histogram(
    names.OPERATION_DURATION, "s", explicit_bucket_boundaries_advisory=_SECONDS
)
_first_chunk_s = METER.create_histogram(
    names.TIME_TO_FIRST_CHUNK, "s", explicit_bucket_boundaries_advisory=_SECONDS
)
_tokens = METER.create_histogram(names.TOKEN_USAGE, "{token}", explicit_bucket_boundaries_advisory=_TOKENS)
_tool_s = METER.create_histogram(names.TOOL_DURATION, "s", explicit_bucket_boundaries_advisory=_SECONDS)
_agent_s = METER.create_histogram(names.AGENT_DURATION, "s", explicit_bucket_boundaries_advisory=_SECONDS)
_attempts = METER.create_counter(names.ATTEMPTS, "{attempt}")
_running = METER.create_up_down_counter(names.TASKS_RUNNING, "{task}")


def is_content_wanted() -> bool:
    """Whether the environment asks for what was said in spans."""
    return os.environ.get(CONTENT_VARIABLE) == "1"


@dataclass(slots=True)
class AttemptSpan:
    """An attempt that is being recorded."""

    span: Span
    attempt: int = 1
    _pieces: int = 0
    _runs: int = 0

    def agent_ids(self, task_id: str) -> AbstractContextManager[None]:
        """Ids for the agent that runs next: the first run has those by which a later attempt can stand in for it."""
        self._runs += 1
        return chosen_ids(agent_ids(task_id, self.attempt)) if self._runs == 1 else nullcontext()

    def ended(self, state: str) -> None:
        """Note how the attempt ended."""
        self.span.set_attribute(names.DELEGATION_STATE, state)
        if self._pieces:
            self.span.set_attribute(names.PIECES_SENT, self._pieces)
        _attempts.add(1, {names.DELEGATION_STATE: state})

    def sent(self, events: Sequence[DelegationEvent]) -> None:
        """Note that events were sent; the first, every tenth, questions, and the last are kept."""
        for event in events:
            self._pieces += 1
            if self._pieces % EVENT_EVERY == 1 or event.is_question or event.is_terminal:
                labels: Attributes = {names.EVENT_SEQ: event.seq, names.EVENT_KIND: event.kind}
                if event.speech is not None:
                    labels[names.SPEECH_KIND] = event.speech.kind
                self.span.add_event(names.PIECE_EVENT, labels)

    def answered(self, answers: Mapping[int, str]) -> None:
        """Note that the user answered questions, or does not want to; what was said is not kept."""
        for seq, words in answers.items():
            self.span.add_event(names.ANSWER_EVENT, {names.QUESTION_SEQ: seq, names.IS_ANSWERED: bool(words)})


_attempt: ContextVar[AttemptSpan | None] = ContextVar("attempt span", default=None)


def note_sent(events: Sequence[DelegationEvent]) -> None:
    """Note in the attempt that is being recorded, if one is, that events of it were sent."""
    attempt = _attempt.get()
    if attempt is not None:
        attempt.sent(events)


def note_answers(answers: Mapping[int, str]) -> None:
    """Note in the attempt that is being recorded, if one is, that these answers came, by their questions' numbers."""
    attempt = _attempt.get()
    if attempt is not None:
        attempt.answered(answers)


@contextmanager
def attempt_span(package: ContextPackage, attempt: int) -> Iterator[AttemptSpan]:
    """Record one attempt; what is traced inside becomes part of it.

    Child of the hand-over and linked to it: there is one message and one handler, so operators get one tree. A later
    attempt is linked to the first, too, and stands in for the one before it, whose worker could not tell its end.
    """
    context = TraceContextTextMapPropagator().extract(package.trace, Context())
    sent = trace.get_current_span(context).get_span_context()
    if attempt > 1:
        _stand_in_for(package, attempt - 1, context, sent)
    links = [Link(sent)] if sent.is_valid else []
    if attempt > 1 and sent.is_valid:
        links.append(Link(_context_of(sent, attempt_ids(package.task_id, 1)), {names.DELEGATION_ATTEMPT: 1}))
    _running.add(1)
    try:
        with _current(_begun(package, attempt, context, links)) as span:
            recorded = AttemptSpan(span, attempt)
            token = _attempt.set(recorded)
            try:
                yield recorded
            finally:
                _attempt.reset(token)
    finally:
        _running.add(-1)


def _begun(package: ContextPackage, attempt: int, context: Context, links: Sequence[Link]) -> Span:
    with chosen_ids(attempt_ids(package.task_id, attempt)):
        return TRACER.start_span(
            names.PROCESS_SPAN,
            context=context,
            kind=SpanKind.CONSUMER,
            links=links,
            attributes={
                names.MESSAGING_SYSTEM: "redis",
                names.MESSAGING_OPERATION: "process",
                names.MESSAGE_ID: package.task_id,
                names.CONVERSATION_ID: package.session_id,
                names.AGENT_NAME: package.agent,
                names.DELEGATION_ATTEMPT: attempt,
            },
        )


def _stand_in_for(package: ContextPackage, attempt: int, context: Context, sent: SpanContext) -> None:
    """Record an attempt whose worker fell silent, and its agent, so that what was recorded in them has a parent."""
    if not sent.is_valid:
        return
    span = _begun(package, attempt, context, [Link(sent)])
    with chosen_ids(agent_ids(package.task_id, attempt)):
        agent = TRACER.start_span(
            names.AGENT_SPAN.format(agent=package.agent), trace.set_span_in_context(span, Context())
        )
    for each in (agent, span):
        each.set_attributes(
            {names.DELEGATION_STATE: names.DELEGATION_LOST, names.ERROR_TYPE: names.DELEGATION_LOST}
        )
        each.set_status(Status(StatusCode.ERROR))
        each.end()


def _context_of(sent: SpanContext, ids: SpanIds) -> SpanContext:
    return SpanContext(sent.trace_id, ids.span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


@contextmanager
def agent_span(package: ContextPackage, engine: str) -> Iterator[Span]:
    """Record one run of an engine at a package.

    Args:
        package: the task.
        engine: the engine's name, such as `loop`.
    """
    labels: Attributes = {
        names.OPERATION_NAME: "invoke_agent",
        names.AGENT_NAME: package.agent,
        names.ENGINE: engine,
    }
    attempt = _attempt.get()
    with nullcontext() if attempt is None else attempt.agent_ids(package.task_id):
        span = TRACER.start_span(names.AGENT_SPAN.format(agent=package.agent), attributes=labels)
    span.set_attribute(names.CONVERSATION_ID, package.session_id)
    if is_content_wanted():
        span.set_attribute(names.INTENT, package.intent[:CONTENT_LIMIT_CHARS])
    with _current(span), _timed(_agent_s, labels):
        yield span


@dataclass(slots=True)
class ChatSpan:
    """A request to a model that is being recorded. Set what is known of the answer before it ends."""

    span: Span
    labels: Attributes
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    finish_reason: str | None = None
    _began_s: float = field(default_factory=time.perf_counter)
    _has_chunk: bool = False

    def chunk(self) -> None:
        """Say that a piece of the answer has come; only the first counts."""
        if not self._has_chunk:
            self._has_chunk = True
            _first_chunk_s.record(time.perf_counter() - self._began_s, self.labels)

    def end(self) -> None:
        """Write down what is known of the answer. `chat_span` calls it."""
        for name, kind, count in (
            (names.INPUT_TOKENS, "input", self.input_tokens),
            (names.OUTPUT_TOKENS, "output", self.output_tokens),
        ):
            if count is not None:
                self.span.set_attribute(name, count)
                _tokens.record(count, {**self.labels, names.TOKEN_TYPE: kind})
        if self.cached_tokens is not None:
            self.span.set_attribute(names.CACHED_TOKENS, self.cached_tokens)
        if self.finish_reason is not None:
            self.span.set_attribute(names.FINISH_REASONS, (self.finish_reason,))


@contextmanager
def chat_span(model: str, provider: str) -> Iterator[ChatSpan]:
    """Record one request to a model, until its answer is whole.

    Args:
        model: the model's name.
        provider: who serves it, such as `openai`.
    """
    labels: Attributes = {
        names.OPERATION_NAME: "chat",
        names.PROVIDER_NAME: provider,
        names.REQUEST_MODEL: model,
    }
    span = TRACER.start_span(names.CHAT_SPAN.format(model=model), kind=SpanKind.CLIENT, attributes=labels)
    with _current(span), _timed(_operation_s, labels):
        chat = ChatSpan(span, labels)
        try:
            yield chat
        finally:
            chat.end()


@dataclass(slots=True)
class ToolSpan:
    """A call of a tool that is being recorded."""

    span: Span
    labels: Attributes

    def arguments(self, as_json: str) -> None:
        """Note the arguments, where content is wanted."""
        self._content(names.TOOL_ARGUMENTS, as_json)

    def result(self, text: str, *, is_error: bool) -> None:
        """Note how the call ended, and what it returned where content is wanted."""
        if is_error:
            self.labels[names.ERROR_TYPE] = TOOL_ERROR
            self.span.set_attribute(names.ERROR_TYPE, TOOL_ERROR)
            self.span.set_status(Status(StatusCode.ERROR))
        self._content(names.TOOL_RESULT, text)

    def _content(self, name: str, text: str) -> None:
        if is_content_wanted():
            self.span.set_attribute(name, text[:CONTENT_LIMIT_CHARS])


@contextmanager
def tool_span(spec: ToolSpec, call_id: str) -> Iterator[ToolSpan]:
    """Record one call of a tool.

    An engine that records the call itself has opened its span already; that one is then used, so that no call is there
    twice.

    Args:
        spec: the tool.
        call_id: which call it is, told apart from all others of the task.
    """
    labels: Attributes = {names.OPERATION_NAME: "execute_tool", names.TOOL_NAME: spec.name}
    with _current_or_new(names.TOOL_SPAN.format(tool=spec.name)) as span, _timed(_tool_s, labels):
        span.set_attributes(
            {
                **labels,
                names.TOOL_CALL_ID: call_id,
                names.TOOL_SIDE_EFFECT: spec.side_effect,
                names.TOOL_ISOLATION: spec.isolation,
            }
        )
        yield ToolSpan(span, labels)


@contextmanager
def _current_or_new(name: str) -> Iterator[Span]:
    current = trace.get_current_span()
    if getattr(current, "name", None) == name:
        yield current
    else:
        with _current(TRACER.start_span(name)) as span:
            yield span


@contextmanager
def _current(span: Span) -> Iterator[Span]:
    """Let what is traced inside be part of a span, and end it; of an error only its kind is kept.

    The text of a foreign error may hold what was said.
    """
    try:
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            yield span
    except Exception as error:
        span.set_attribute(names.ERROR_TYPE, type(error).__name__)
        span.set_status(Status(StatusCode.ERROR))
        raise
    except BaseException as error:
        span.set_attribute(names.ERROR_TYPE, type(error).__name__)  # cancelled, which is no fault
        raise
    finally:
        span.end()


@contextmanager
def _timed(histogram: Histogram, labels: Attributes) -> Iterator[None]:
    """Record how long the block takes, with the kind of an error that leaves it; the labels may grow inside."""
    began_s = time.perf_counter()
    try:
        yield
    except BaseException as error:
        labels[names.ERROR_TYPE] = type(error).__name__
        raise
    finally:
        histogram.record(time.perf_counter() - began_s, labels)
