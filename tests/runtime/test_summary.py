"""The figures of scripted conversations, which can be worked out by hand."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import pytest
from rich.console import Console

from microturn.protocols import (
    Delegate,
    DelegationEvent,
    Floor,
    FloorState,
    Receipt,
    Speech,
    Transcript,
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
from microturn.runtime.summary import Summary
from microturn.runtime.testing import Answer, Result, Stage, UserLine

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

LONG = "One two three four five six seven eight nine ten."


def answer(text: str) -> Answer:
    if text.endswith("?"):
        return Answer("One moment.", (Delegate(text, 0, 1000),))
    return Answer("Very well.") if text == "hello" else Answer()


def figures(summary: Summary) -> dict[str, Any]:  # Any: the shape of the figures is what the tests look at
    loaded: dict[str, Any] = json.loads(json.dumps(summary.as_dict()))
    return loaded


def of(*events: SessionEvent) -> dict[str, Any]:
    summary = Summary()
    for event in events:
        summary(event)
    return figures(summary)


async def held(lines: Sequence[UserLine], *results: Result, until_ms: int = 9000) -> Summary:
    """The summary of a staged conversation, to which it is observer and tap."""
    stage = Stage(lines, answer, lambda _: results)
    summary = Summary()
    stage.session._observers = (*stage.session._observers, summary)
    seat = stage.host._seats["stage"]
    seat.player._taps = (*seat.player._taps, summary)  # type: ignore[attr-defined]  # because Stage takes no taps
    await stage.run(until_ms)
    return summary


def said(end_ms: int, text: str = "hello", *, final: bool = True) -> UserSaid:
    return UserSaid(Transcript(0, text, end_ms - 500, end_ms, final))


def filler(at_ms: float) -> SpeechBegan:
    return SpeechBegan(at_ms, f"f{at_ms}", "Hm.", "filler", None)


def reply(at_ms: float) -> SpeechBegan:
    return SpeechBegan(at_ms, f"r{at_ms}", "Yes.", "reply", None)


def tick(index: int, holder: Floor = Floor.NOBODY, *, count: int = 1, step_ms: float = 10.0) -> TickDone:
    return TickDone(index, count, step_ms, 0.5, 3.0, FloorState(holder), 0.0)


def test_response_time_counts_the_first_speech_and_the_first_content_of_each_turn() -> None:
    got = of(said(1000), filler(1300), reply(2500), reply(3000), said(5000), reply(5400))
    assert got["response_ms"] == {"count": 2, "p50": 350, "p95": 395}
    assert got["response_content_ms"] == {"count": 2, "p50": 950, "p95": 1445}


def test_a_turn_without_an_answer_and_one_that_is_not_final_are_not_measured() -> None:
    got = of(said(1000), said(3000), said(3500, final=False), said(3600, "  "), reply(3400))
    assert got["user_turns"] == 2
    assert got["response_ms"] == {"count": 1, "p50": 400, "p95": 400}


def test_speech_that_began_before_the_turn_ended_is_no_answer_to_it() -> None:
    assert of(said(1000), reply(900))["response_ms"]["count"] == 0


async def test_a_staged_reply_begins_in_the_micro_turn_after_the_user_stopped() -> None:
    got = figures(await held([UserLine(0, 1000, "hello")]))
    assert got["utterances"] == {"reply": 1}
    assert 0 <= got["response_ms"]["p50"] <= 200
    assert got["duration_s"] == 9.0


async def test_silence_after_a_barge_in_is_measured_by_the_sound_itself() -> None:
    lines = [UserLine(0, 1000, "what?"), UserLine(5100, 6000, "wait")]
    got = figures(await held(lines, Result(2000, "final", Speech(text=LONG))))
    assert got["barge_ins"] == 1
    assert got["cut_off"] == 1
    assert 0 <= got["barge_in_to_silence_ms"]["p50"] <= 11


def test_without_the_sound_a_barge_in_is_measured_by_the_report() -> None:
    got = of(reply(1000), BargedIn(1400), SpeechEnded(1610, "r1000", 0, 1))
    assert got["barge_in_to_silence_ms"]["p50"] == pytest.approx(210)


async def test_a_delegation_is_measured_from_hand_over_to_its_first_result() -> None:
    results = [
        Result(100, "accepted"),
        Result(1950, "partial", Speech(text="It is a cat.")),
        Result(4000, "final"),
    ]
    got = figures(await held([UserLine(0, 1000, "what?")], *results))
    assert got["delegations"] == {"final": 1}
    assert got["delegation_to_first_result_ms"] == {"count": 1, "p50": 2000, "p95": 2000}
    assert got["receipts"]["heard"] == 1


async def test_a_result_that_waits_for_a_pause_is_measured_from_the_pause_on() -> None:
    remark = UserLine(2500, 6000, "I am cooking")
    got = figures(await held([UserLine(0, 1000, "what?"), remark], Result(2000, "final", Speech(text=LONG))))
    assert 0 <= got["pause_to_result_speech_ms"]["p50"] <= 200


async def test_a_result_that_waits_for_the_assistants_own_words_is_measured_from_their_end_on() -> None:
    got = figures(await held([UserLine(0, 1000, "what?")], Result(100, "final", Speech(text="A cat."))))
    assert got["pause_to_result_speech_ms"]["count"] == 1
    assert 0 <= got["pause_to_result_speech_ms"]["p50"] <= 200


def test_a_result_that_is_said_too_late_shows_in_the_figures() -> None:
    event = DelegationEvent(task_id="t", attempt=1, seq=1, kind="final", speech=Speech(text="A cat."))
    got = of(
        Delegated(200, "t", "what", "default"),
        tick(4),
        DelegationMoved(1000, event),
        ReceiptIssued(Receipt(task_id="t", seq=1, state="queued", session_ms=1000)),
        ReceiptIssued(Receipt(task_id="t", seq=1, state="woven", session_ms=1800)),
        SpeechBegan(1900, "w", "A cat.", "woven", "t"),
    )
    assert got["pause_to_result_speech_ms"]["p50"] == 900


def test_a_result_for_an_idle_moment_is_late_on_purpose_and_not_measured() -> None:
    speech = Speech(text="By the way.", mode="idle")
    event = DelegationEvent(task_id="t", attempt=1, seq=1, kind="final", speech=speech)
    got = of(
        DelegationMoved(1000, event),
        ReceiptIssued(Receipt(task_id="t", seq=1, state="queued", session_ms=1000)),
        ReceiptIssued(Receipt(task_id="t", seq=1, state="woven", session_ms=3000)),
        SpeechBegan(3100, "w", "By the way.", "woven", "t"),
    )
    assert got["pause_to_result_speech_ms"]["count"] == 0


def test_the_beat_is_summed_up_with_what_it_missed() -> None:
    ticks = [tick(n, step_ms=float(n + 1)) for n in range(100)]
    got = of(*ticks, tick(102, count=3, step_ms=450))
    assert (got["ticks"], got["missed"]) == (101, 2)
    assert got["step_ms"]["p50"] == 51
    assert got["step_ms"]["p99"] == 100
    assert got["lateness_ms"]["p99"] == 3
    assert got["runtime_ms"]["p99"] == 0.5


def test_an_empty_conversation_has_no_figures_and_no_error() -> None:
    got = of()
    assert got["response_ms"] == {"count": 0, "p50": None, "p95": None}
    assert "none" in drawn(Summary())


def drawn(summary: Summary) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(summary.table())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


async def test_the_table_names_every_figure_that_was_measured_and_nothing_that_was_said() -> None:
    lines = [UserLine(0, 1000, "what?"), UserLine(5100, 6000, "wait")]
    text = drawn(await held(lines, Result(2000, "final", Speech(text=LONG))))
    for part in (
        "user turns",
        "user stops → first speech",
        "barge-in → silence",
        "hand-over → first result",
        "natural pause → result is spoken",
        "1 final",
        "1 interrupted",
        "0 missed",
        "1 cut off",
    ):
        assert part in text, part
    assert "what?" not in text
    assert "nine" not in text
