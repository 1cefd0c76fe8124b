"""The messages: what is written today can be read tomorrow, and what cannot be read says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microturn.protocols import (
    INLINE_LIMIT_BYTES,
    ContextPackage,
    DelegationEvent,
    Promise,
    ProtocolError,
    Receipt,
    Reference,
    RunningDelegation,
    SessionLedger,
    Speech,
    ToolSpec,
    TurnRecord,
    UnknownVersionError,
)
from microturn.protocols.runtime_status import RuntimeStatus, SessionStatus

pytestmark = pytest.mark.unit

GOLDEN = Path(__file__).parent / "golden"

PACKAGE = ContextPackage(
    task_id="task-1",
    session_id="session-1",
    idempotency_key="session-1:1200:2600:0",
    intent="What is the weather like in Bergen?",
    said_start_ms=1200,
    said_end_ms=2600,
    local_time="2026-03-01T09:30:00+01:00",
    deadline_s=60,
    history=(
        TurnRecord(speaker="user", text="Hi there.", start_ms=0, end_ms=600),
        TurnRecord(
            speaker="assistant", text="Hello, good to hear you.", start_ms=800, end_ms=1100, heard_words=2
        ),
    ),
    summary="earlier",
    dropped_turns=3,
    key_frames=(Reference(key="f:1", sha256="00", media_type="image/jpeg", time_ms=900, ttl_s=60),),
    tool_state={"notes": 2},
    running=(RunningDelegation(task_id="task-0", intent="a timer", state="accepted"),),
    tone="calm",
    language="en",
    trace={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
)
EVENT = DelegationEvent(
    task_id="task-1",
    attempt=2,
    seq=5,
    kind="partial",
    speech=Speech(
        text="Is it raining?",
        priority=1,
        not_before_ms=4000,
        expires_ms=9000,
        supersede_key="w",
        kind="question",
    ),
    text="It is *raining*.",
    detail={"tool": "weather", "duration_ms": 12},
    revision=1,
)
RECEIPT = Receipt(task_id="task-1", seq=5, state="interrupted", words_heard=2, words_total=3, session_ms=5000)
TOOL = ToolSpec(
    name="weather",
    description="Say the weather.",
    parameters={"type": "object"},
    egress=("api.example.org",),
    approval="Shall I ask for {place}?",
)

LEDGER = SessionLedger(
    session_id="session-1",
    runtime_id="runtime-1",
    epoch=1,
    elapsed_ms=8000,
    promises=(
        Promise(
            task_id="task-1",
            intent=PACKAGE.intent,
            state="open",
            task_state="running",
            revision=1,
            made_ms=1_770_000_000_000,
            events=(EVENT,),
            receipts=(RECEIPT,),
        ),
    ),
)


STATUS = RuntimeStatus(
    runtime_id="runtime-1",
    host="den",
    pid=4711,
    sessions=(
        SessionStatus(
            session_id="session-1", floor="assistant", age_s=8.5, open_tasks=2, task_ids=("task-0", "task-1")
        ),
    ),
    session_count=1,
    ticks=300,
    tick_p50_ms=12.5,
    tick_p99_ms=31.0,
    missed=2,
)


@pytest.mark.parametrize(
    "message", [PACKAGE, EVENT, RECEIPT, TOOL, LEDGER, STATUS], ids=lambda m: type(m).__name__
)
def test_a_message_is_written_as_its_golden_file_and_read_back(
    message: ContextPackage | DelegationEvent | Receipt | ToolSpec | SessionLedger | RuntimeStatus,
) -> None:
    golden = GOLDEN / f"{type(message).__name__}.v1.json"
    assert message.encode() == golden.read_text().strip()
    assert type(message).decode(golden.read_bytes()) == message


def test_what_the_first_release_wrote_is_still_read() -> None:
    package = ContextPackage.decode((GOLDEN / "ContextPackage.v1.0.json").read_bytes())
    assert (package.intent, package.urgent) == (PACKAGE.intent, False)
    event = DelegationEvent.decode((GOLDEN / "DelegationEvent.v1.0.json").read_bytes())
    assert event.speech is not None
    assert (event.speech.text, event.speech.kind, event.revision) == ("It is raining.", "fact", 0)
    spec = ToolSpec.decode((GOLDEN / "ToolSpec.v1.0.json").read_bytes())
    assert (spec.name, spec.approval) == (TOOL.name, None)


def test_an_event_from_before_there_were_questions_asks_nothing() -> None:
    event = DelegationEvent.decode((GOLDEN / "DelegationEvent.v1.1.json").read_bytes())
    assert event.speech is not None
    assert (event.speech.kind, event.is_question, event.revision) == ("fact", False, 1)
    assert EVENT.is_question


def test_a_newer_minor_version_with_unknown_fields_is_read() -> None:
    newer = PACKAGE.encode().replace(f'"v":"{PACKAGE.v}"', '"v":"1.7","mood":"new"')
    assert ContextPackage.decode(newer).intent == PACKAGE.intent


def test_another_major_version_is_refused_before_its_fields_are_looked_at() -> None:
    with pytest.raises(UnknownVersionError, match=r"'2\.0'"):
        ContextPackage.decode('{"v":"2.0"}')


def test_a_message_that_is_no_json_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="not JSON"):
        DelegationEvent.decode(b"\xff\x00")


def test_an_error_names_the_fields_and_never_what_was_said() -> None:
    bad = PACKAGE.encode().replace('"deadline_s":60.0', '"deadline_s":"my secret"')
    with pytest.raises(ProtocolError, match="deadline_s") as caught:
        ContextPackage.decode(bad)
    assert "secret" not in str(caught.value)


def history(turns: int, words: int) -> tuple[TurnRecord, ...]:
    return tuple(
        TurnRecord(speaker="user", text=f"turn{n} " + "word " * words, start_ms=n, end_ms=n)
        for n in range(turns)
    )


def test_a_package_over_budget_loses_its_oldest_turns_and_says_so() -> None:
    package = PACKAGE.model_copy(update={"history": history(400, 300)}).fitted()
    assert len(package.encode().encode()) <= INLINE_LIMIT_BYTES
    assert package.history[-1].text.startswith("turn399")
    assert package.dropped_turns == 3 + 400 - len(package.history)
    assert package.summary is not None
    assert package.summary.startswith(f"{400 - len(package.history)} earlier turns")


def test_a_package_within_budget_is_left_alone() -> None:
    assert PACKAGE.fitted() is PACKAGE


@given(words=st.integers(0, 400), turns=st.integers(0, 60), limit=st.integers(4_000, 20_000))
def test_a_fitted_package_is_never_larger_than_the_limit(words: int, turns: int, limit: int) -> None:
    package = PACKAGE.model_copy(update={"history": history(turns, words)}).fitted(limit)
    assert len(package.encode().encode()) <= limit


def test_as_many_turns_stay_as_have_room() -> None:
    package = PACKAGE.model_copy(update={"history": history(400, 300)}).fitted()
    assert len(package.encode().encode()) > 0.97 * INLINE_LIMIT_BYTES


def test_what_stood_for_earlier_turns_is_not_forgotten_with_the_next_ones() -> None:
    package = PACKAGE.model_copy(update={"history": history(60, 300)}).fitted(20_000)
    assert package.summary is not None
    assert package.summary.endswith("Before that: earlier")


@given(
    turn=st.text(max_size=3_000),
    known=st.text(max_size=6_000),
    running=st.text(max_size=6_000),
    summary=st.text(max_size=6_000),
)
def test_whatever_is_too_long_is_cut_to_fit(turn: str, known: str, running: str, summary: str) -> None:
    package = PACKAGE.model_copy(
        update={
            "history": (TurnRecord(speaker="user", text=turn, start_ms=0, end_ms=1),) * 3,
            "tool_state": {"look_up": {"result": known}},
            "running": (RunningDelegation(task_id="task-0", intent=running, state="accepted"),),
            "summary": summary,
        }
    ).fitted(6_000)
    assert len(package.encode().encode()) <= 6_000
    assert package.intent == PACKAGE.intent


@given(st.text(min_size=1, max_size=30_000))
def test_an_enormous_intent_is_cut_to_fit(intent: str) -> None:
    package = PACKAGE.model_copy(update={"intent": intent, "history": (), "tool_state": {}}).fitted(6_000)
    assert len(package.encode().encode()) <= 6_000
