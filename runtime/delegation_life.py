"""The life of one delegation, from the words that caused it to the words that were heard, put together from its spans.

Pure: spans in, moments in order of time out. The clocks of processes may differ by some milliseconds; nothing is
corrected. Words are in it only where whoever recorded the spans wanted content in them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from microturn.protocols import telemetry_names as names
from microturn.runtime.telemetry.span_record import SpanEvent, SpanRecord, Value

Phase: TypeAlias = Literal["turn", "queue", "agent", "model", "tool", "pause", "speech", "idle"]
PHASES: Final[tuple[Phase, ...]] = ("turn", "queue", "agent", "model", "tool", "pause", "speech", "idle")
"""In the order in which a delegation goes through them: the user speaks, it waits for a worker, the agent works, of
which a model and tools have their part, a result waits for a pause, and is said; `idle` is what none of them explains."""
_PRECEDENCE: Final[tuple[Phase, ...]] = ("speech", "tool", "model", "agent", "pause", "queue", "turn")
"""Which phase an instant is counted to where several are under way: what the user hears first, then what works."""

NAME_CHARS: Final = 30
"""Characters of the name of a model or a tool's call that are told, so that a moment fits on a line. Our choice."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened."""

    at_ms: float
    """Since the first span of the delegation began."""
    what: str
    """In a few words, none of which was said by anyone."""
    took_ms: float | None = None
    depth: int = 0
    """How far it is inside other things."""
    is_bad: bool = False
    content: tuple[str, ...] = ()
    """What was asked, given or returned; only where content was recorded."""


@dataclass(frozen=True, slots=True)
class Life:
    """One delegation as far as it was recorded."""

    task_id: str
    session_id: str
    agent: str
    trace_id: str
    began_ns: int
    """Nanoseconds since 1970."""
    took_ms: float
    state: str
    """How its newest attempt ended, or how far it came."""
    attempts: int
    words_heard: int
    words_total: int
    moments: tuple[Moment, ...]
    shares_ms: dict[Phase, float]
    """Where the time went; they add up to `took_ms`."""


def lives(spans: Iterable[SpanRecord]) -> list[Life]:
    """The delegations in these spans, oldest first."""
    by_trace: dict[str, list[SpanRecord]] = {}
    for span in spans:
        by_trace.setdefault(span.trace_id, []).append(span)
    found = (life_of(trace) for trace in by_trace.values())
    return sorted((life for life in found if life is not None), key=lambda life: life.began_ns)


def life_of(trace: Sequence[SpanRecord]) -> Life | None:
    """The delegation that the spans of one trace are of; None where they are of none."""
    spans = sorted(trace, key=lambda span: (span.start_ns, -span.end_ns))
    task_ids = [_text(span, names.MESSAGE_ID) for span in spans if names.MESSAGE_ID in span.attributes]
    if not task_ids:
        return None
    began_ns, ended_ns = spans[0].start_ns, max(span.end_ns for span in spans)
    attempts = [span for span in spans if span.name == names.PROCESS_SPAN]
    pieces = [span for span in spans if span.name == names.WEAVE_SPAN]
    return Life(
        task_id=task_ids[0],
        session_id=_first(spans, names.CONVERSATION_ID),
        agent=_first(attempts or spans, names.AGENT_NAME),
        trace_id=spans[0].trace_id,
        began_ns=began_ns,
        took_ms=(ended_ns - began_ns) / 1e6,
        state=_state(spans, attempts),
        attempts=max((int(_number(span, names.DELEGATION_ATTEMPT)) for span in attempts), default=0),
        words_heard=sum(int(_number(span, names.WORDS_HEARD)) for span in pieces),
        words_total=sum(int(_number(span, names.WORDS_TOTAL)) for span in pieces),
        moments=tuple(sorted(_moments(spans, began_ns), key=lambda moment: moment.at_ms)),
        shares_ms=_shares(spans, began_ns, ended_ns),
    )


def _state(spans: Sequence[SpanRecord], attempts: Sequence[SpanRecord]) -> str:
    if attempts:
        return _text(attempts[-1], names.DELEGATION_STATE) or "running"
    return "handed over" if any(span.name == names.SEND_SPAN for span in spans) else "unknown"


def _moments(spans: Sequence[SpanRecord], began_ns: int) -> Iterator[Moment]:
    depths = _depths(spans)
    for span in spans:
        at_ms = (span.start_ns - began_ns) / 1e6
        match span.name:
            case names.TURN_SPAN:
                yield Moment(at_ms, "the user's words begin", span.duration_ms)
            case names.SEND_SPAN:
                yield Moment(at_ms, f"handed over to the agent {_text(span, names.AGENT_NAME) or 'default'}")
            case names.PROCESS_SPAN:
                yield from _attempt(span, at_ms, began_ns)
            case names.WEAVE_SPAN:
                yield from _piece(span, at_ms)
            case _:
                yield _work(span, at_ms, depths[span.span_id])


def _attempt(span: SpanRecord, at_ms: float, began_ns: int) -> Iterator[Moment]:
    number = int(_number(span, names.DELEGATION_ATTEMPT))
    who = span.resource.get("service.instance.id") or span.resource.get("process.pid") or "?"
    state = _text(span, names.DELEGATION_STATE)
    if state == names.DELEGATION_LOST:
        yield Moment(at_ms, f"attempt {number} was lost: its worker fell silent", is_bad=True)
        return
    yield Moment(at_ms, f"attempt {number}: taken by worker {who}", is_bad=number > 1)
    for event in span.events:
        if event.name in (names.PIECE_EVENT, names.ANSWER_EVENT):
            yield Moment((event.time_ns - began_ns) / 1e6, _news(event), depth=1)
    error = _text(span, names.ERROR_TYPE)
    how = f"{state or 'ended'}{f' ({error})' if error else ''}"
    is_bad = span.status == "error" or state in ("failed", "dead", "expired")
    yield Moment(at_ms + span.duration_ms, f"attempt {number} over: {how}", span.duration_ms, is_bad=is_bad)


def _news(event: SpanEvent) -> str:
    """What an attempt sent, or was told."""
    if event.name == names.ANSWER_EVENT:
        is_answered = event.attributes.get(names.IS_ANSWERED)
        how = "is answered" if is_answered else "stays open: the user does not want to answer"
        return f"question {event.attributes.get(names.QUESTION_SEQ)} {how}"
    kind, seq = event.attributes.get(names.EVENT_KIND), event.attributes.get(names.EVENT_SEQ)
    is_question = event.attributes.get(names.SPEECH_KIND) == "question"
    return f"event {seq} sent: {kind}{', a question to the user' if is_question else ''}"


def _piece(span: SpanRecord, at_ms: float) -> Iterator[Moment]:
    seq, outcome = int(_number(span, names.EVENT_SEQ)), _text(span, names.WEAVE_OUTCOME)
    yield Moment(at_ms, f"piece {seq} arrives and waits for a pause")
    if names.WEAVE_WAIT in span.attributes:
        wait_ms = _number(span, names.WEAVE_WAIT) * 1000
        yield Moment(at_ms + wait_ms, f"piece {seq} is woven into speech", wait_ms)
    heard, total = int(_number(span, names.WORDS_HEARD)), int(_number(span, names.WORDS_TOTAL))
    how = f"piece {seq} {outcome}"
    if outcome in ("heard", "interrupted"):
        how += f", to word {heard} of {total}"
    yield Moment(at_ms + span.duration_ms, how, is_bad=outcome in ("interrupted", "expired", "dropped"))


def _work(span: SpanRecord, at_ms: float, depth: int) -> Moment:
    error = _text(span, names.ERROR_TYPE)
    content = (names.INTENT, names.TOOL_ARGUMENTS, names.TOOL_RESULT)
    return Moment(
        at_ms,
        f"{_short(span.name)}{_details(span)}{f': {error}' if error else ''}",
        span.duration_ms,
        depth,
        is_bad=span.status == "error",
        content=tuple(str(span.attributes[name]) for name in content if name in span.attributes),
    )


def _short(name: str) -> str:
    """A span's name; that of a model may be a file's."""
    return name if len(name) <= NAME_CHARS else f"{name[: NAME_CHARS - 1]}…"


def _details(span: SpanRecord) -> str:
    details: list[str] = []
    if names.INPUT_TOKENS in span.attributes or names.OUTPUT_TOKENS in span.attributes:
        given, made = _number(span, names.INPUT_TOKENS), _number(span, names.OUTPUT_TOKENS)
        details.append(f"{given:.0f} tokens in, {made:.0f} out")
    details += [_text(span, name) for name in (names.ENGINE, names.TOOL_ISOLATION) if _text(span, name)]
    return f" ({', '.join(details)})" if details else ""


def _depths(spans: Sequence[SpanRecord]) -> dict[str, int]:
    """How far each span is inside an attempt; parents may be missing."""
    parents = {span.span_id: span.parent for span in spans}
    tops = {span.span_id for span in spans if span.name in (names.PROCESS_SPAN, names.SEND_SPAN)}
    depths: dict[str, int] = {}
    for span in spans:
        depth, at = 0, span.parent
        while at is not None and at not in tops and at in parents and depth < len(parents):
            depth, at = depth + 1, parents[at]
        depths[span.span_id] = depth + 1
    return depths


def _shares(spans: Sequence[SpanRecord], began_ns: int, ended_ns: int) -> dict[Phase, float]:
    """Count each instant to one phase."""
    intervals = list(_intervals(spans))
    edges = sorted({began_ns, ended_ns, *(edge for _, start, end in intervals for edge in (start, end))})
    shares: dict[Phase, float] = dict.fromkeys(PHASES, 0.0)
    for start, end in itertools.pairwise(edges):
        under_way = {phase for phase, since, until in intervals if since <= start and end <= until}
        phase: Phase = next((each for each in _PRECEDENCE if each in under_way), "idle")
        shares[phase] += (end - start) / 1e6
    return shares


def _intervals(spans: Sequence[SpanRecord]) -> Iterator[tuple[Phase, int, int]]:
    sent_ns = next((span.end_ns for span in spans if span.name == names.SEND_SPAN), None)
    taken_ns = next((span.start_ns for span in spans if span.name == names.PROCESS_SPAN), None)
    if sent_ns is not None and taken_ns is not None and sent_ns < taken_ns:
        yield "queue", sent_ns, taken_ns
    for span in spans:
        if span.name == names.WEAVE_SPAN:
            woven_ns = span.start_ns + round(_number(span, names.WEAVE_WAIT) * 1e9)
            is_woven = names.WEAVE_WAIT in span.attributes
            yield "pause", span.start_ns, woven_ns if is_woven else span.end_ns
            if is_woven:
                yield "speech", woven_ns, span.end_ns
        elif (phase := _phase(span)) is not None:
            yield phase, span.start_ns, span.end_ns


def _phase(span: SpanRecord) -> Phase | None:
    if span.name == names.TURN_SPAN:
        return "turn"
    if span.name == names.PROCESS_SPAN:
        return "agent"
    match _text(span, names.OPERATION_NAME):
        case "chat":
            return "model"
        case "execute_tool":
            return "tool"
        case _:
            return None


def _first(spans: Sequence[SpanRecord], name: str) -> str:
    return next((_text(span, name) for span in spans if name in span.attributes), "")


def _text(span: SpanRecord, name: str) -> str:
    value: Value = span.attributes.get(name, "")
    return str(value)


def _number(span: SpanRecord, name: str) -> float:
    value = span.attributes.get(name, 0)
    return float(value) if isinstance(value, int | float) else 0.0
