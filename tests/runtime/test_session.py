"""One session: what the user says, types, interrupts and cancels, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from microturn.protocols import Cancel, ContextPackage, Delegate, Speech, Update
from microturn.runtime.delegations import NO_WORKER_TEXT, REFUSED_TEXT, UNREACHABLE_TEXT
from microturn.runtime.events import (
    BackgroundHealth,
    BargedIn,
    Delegated,
    ReceiptIssued,
    SpeechBegan,
    SpeechEnded,
    UserSaid,
)
from microturn.runtime.testing import Answer, Result, Stage, UserLine

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

QUESTION = UserLine(0, 1000, "what is it?")


def ask(text: str) -> Answer:
    """Delegate questions, correct and cancel on demand, chat otherwise."""
    if text.endswith("?"):
        return Answer("One moment.", (Delegate(text, 0, 1000),))
    if text.startswith("rather"):
        return Answer(actions=(Update(None, text, 0, 200),))
    if text == "never mind":
        return Answer(actions=(Cancel(None, "the user asked"),))
    return Answer("That is a long story which takes a while to tell.")


def staged(*lines: UserLine, results: Sequence[Result] = ()) -> Stage:
    def work(_: ContextPackage) -> Sequence[Result]:
        return results

    return Stage(lines, ask, work)


def said(stage: Stage) -> list[str]:
    return [event.text for event in stage.seen(SpeechBegan)]


async def test_a_session_is_idle_until_something_is_said_owed_or_awaited() -> None:
    stage = staged()
    await stage.run(400)
    assert stage.session.is_idle
    stage.session.type("hello")
    assert not stage.session.is_idle


async def test_what_was_typed_is_answered_like_what_was_said() -> None:
    stage = staged()
    stage.session.type("tell me")
    await stage.run(6000)
    assert [event.transcript.text for event in stage.seen(UserSaid)] == ["tell me"]
    assert said(stage) == ["That is a long story which takes a while to tell."]
    assert stage.session.is_idle


async def test_only_the_newest_typed_lines_are_kept_when_there_are_too_many() -> None:
    stage = staged()
    for number in range(100):
        stage.session.type(f"line {number}")
    await stage.run(200)
    typed = stage.model.sessions["stage"].inputs[0].text
    assert len(typed) == 64
    assert typed[-1] == "line 99"


async def test_the_history_knows_how_much_of_an_interrupted_answer_was_heard() -> None:
    stage = staged(UserLine(0, 400, "tell me"), UserLine(1800, 2400, "stop it"))
    await stage.run(3000)
    assert stage.seen(BargedIn)
    ended = stage.seen(SpeechEnded)[0]
    assert 0 < ended.words_heard < ended.words_total
    turns = stage.session.history.turns
    cut = next(turn for turn in turns if turn.speaker == "assistant")
    assert cut.heard_words == ended.words_heard


async def test_a_package_carries_the_conversation_so_far() -> None:
    stage = staged(UserLine(0, 400, "tell me"), UserLine(5000, 6000, "and what is that?"))
    await stage.run(7000)
    (package,) = stage.background.packages
    assert [(turn.speaker, turn.text) for turn in package.history] == [
        ("user", "tell me"),
        ("assistant", "That is a long story which takes a while to tell."),
        ("user", "and what is that?"),
    ]


async def test_a_correction_reaches_the_newest_task() -> None:
    stage = staged(QUESTION, UserLine(4000, 4600, "rather the other one"))
    await stage.run(6000)
    (package,) = stage.background.packages
    assert stage.background.updates == [(package.task_id, "rather the other one")]


async def test_a_correction_of_nothing_is_a_task_of_its_own() -> None:
    stage = staged(UserLine(0, 600, "rather the other one"))
    await stage.run(2000)
    assert [package.intent for package in stage.background.packages] == ["rather the other one"]
    assert stage.background.updates == []


async def test_a_task_that_is_cancelled_says_nothing_more() -> None:
    late = Result(4000, "final", Speech(text="It is a cat."))
    stage = staged(QUESTION, UserLine(3000, 3600, "never mind"), results=[late])
    await stage.run(9000)
    assert stage.background.cancelled == [stage.background.packages[0].task_id]
    assert said(stage) == ["One moment."]


async def test_a_completed_request_replaces_the_one_that_was_cut_short() -> None:
    def answer(text: str) -> Answer:
        return Answer(actions=(Delegate(text, 0, 1000, completes_last=text.startswith("and")),))

    stage = Stage([QUESTION, UserLine(1600, 2400, "and where?")], answer)
    await stage.run(4000)
    first, second = stage.background.packages
    assert stage.background.cancelled == [first.task_id]
    assert [event.task_id for event in stage.seen(Delegated)] == [first.task_id, second.task_id]


async def test_every_piece_of_a_result_is_acknowledged_when_it_was_woven() -> None:
    results = [
        Result(500, "accepted"),
        Result(1500, "partial", Speech(text="It has fur.")),
        Result(1600, "final", Speech(text="It is a cat.")),
    ]
    stage = staged(QUESTION, results=results)
    await stage.run(9000)
    task_id = stage.background.packages[0].task_id
    assert stage.background.acknowledged[-1] == (task_id, 3)
    assert [seq for _, seq in stage.background.acknowledged] == sorted(
        seq for _, seq in stage.background.acknowledged
    )
    assert {r.receipt.seq for r in stage.seen(ReceiptIssued) if r.receipt.state == "heard"} == {2, 3}


@pytest.mark.parametrize(
    ("state", "text"), [("no_worker", NO_WORKER_TEXT), ("unreachable", UNREACHABLE_TEXT)]
)
async def test_the_user_is_told_within_two_seconds_that_a_task_waits(state: str, text: str) -> None:
    stage = staged(QUESTION)
    stage.background.state = "no_worker" if state == "no_worker" else "unreachable"
    await stage.run(9000)
    began = next(event for event in stage.seen(SpeechBegan) if event.text == text)
    assert began.at_ms - stage.seen(Delegated)[0].at_ms <= 2000
    assert [event.state for event in stage.seen(BackgroundHealth)] == [state]


async def test_a_full_queue_is_told_and_leaves_nothing_awaited() -> None:
    stage = staged(QUESTION)
    stage.background.limit = 0
    await stage.run(9000)
    assert REFUSED_TEXT in said(stage)
    assert stage.session.is_idle
