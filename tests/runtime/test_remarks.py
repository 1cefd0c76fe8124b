"""Remarks while the background is slow: when they come, and that none comes twice."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from microturn.protocols import Cancel, ContextPackage, Delegate, Floor, FloorState, Speech
from microturn.runtime.delegations import NO_WORKER_TEXT
from microturn.runtime.events import ReceiptIssued, SpeechBegan
from microturn.runtime.remarks import PHRASINGS, REMARK_TASK, Remarks
from microturn.runtime.testing import Answer, Result, Stage, UserLine
from microturn.runtime.weave_policy import Courteous, Moment

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

STOCK = ("Still on it.", "Not yet.", "Soon.")


def answer(text: str) -> Answer:
    if text.endswith("?"):
        return Answer("One moment.", (Delegate(text, 0, 1000),))
    return Answer(actions=(Cancel(None, "the user asked"),)) if text == "never mind" else Answer()


def staged(*results: Result, lines: Sequence[UserLine] = (), stock: Sequence[str] = STOCK) -> Stage:
    def work(_: ContextPackage) -> Sequence[Result]:
        return results

    return Stage([UserLine(0, 1000, "what is it?"), *lines], answer, work, remarks=Remarks(stock))


def said(stage: Stage) -> list[tuple[str, float]]:
    return [(event.text, event.at_ms) for event in stage.seen(SpeechBegan) if event.source == "woven"]


def quiet(now_ms: float) -> Moment:
    return Moment(now_ms, FloorState(Floor.NOBODY, 0))


def test_no_remark_of_the_shipped_ones_comes_twice_in_a_session() -> None:
    remarks, texts = Remarks(), []
    for now_ms in range(0, 3_600_000, 200):
        remarks.watch([f"task{now_ms // 600_000}"], now_ms)
        remark = remarks.due(quiet(now_ms))
        if remark is not None:
            texts.append(remark.text)
    assert texts == list(PHRASINGS)
    assert len(set(PHRASINGS)) == len(PHRASINGS)


async def test_the_distances_grow_and_silence_follows_the_last_one() -> None:
    stage = staged()
    await stage.run(150_000)
    texts = [text for text, _ in said(stage)]
    begins = [at_ms for _, at_ms in said(stage)]
    assert texts == list(STOCK)
    assert 9000 <= begins[0] <= 9600
    assert 16_000 <= begins[1] - begins[0] <= 17_500
    assert 32_000 <= begins[2] - begins[1] <= 33_500


async def test_none_comes_over_the_user_or_in_a_conversation() -> None:
    talk = [UserLine(n, n + 1000, "and so on") for n in range(8000, 20_000, 2000)]
    stage = staged(lines=talk)
    await stage.run(24_000)
    ((_, at_ms),) = said(stage)
    assert at_ms >= 19_000 + 1500


async def test_none_comes_where_a_reminder_is_all_that_is_waited_for() -> None:
    reminder = Result(500, "partial", Speech(text="Stretch.", mode="interrupt", not_before_ms=60_000))
    stage = staged(reminder)
    await stage.run(40_000)
    assert said(stage) == []


async def test_none_comes_where_the_task_has_ended_or_is_not_wanted() -> None:
    ended = staged(Result(500, "final"))
    await ended.run(30_000)
    assert said(ended) == []
    unwanted = staged(lines=[UserLine(3000, 4000, "never mind")])
    await unwanted.run(30_000)
    assert said(unwanted) == []


async def test_nobody_is_said_to_be_working_where_nobody_is() -> None:
    stage = staged()
    stage.background.state = "no_worker"
    await stage.run(30_000)
    assert [text for text, _ in said(stage)] == [NO_WORKER_TEXT]


async def test_a_result_that_comes_with_a_remark_replaces_it() -> None:
    result = Result(8300, "final", Speech(text="A cat."))
    stage = Stage(
        [UserLine(0, 1000, "what is it?"), UserLine(5000, 6400, "hm")],
        answer,
        lambda _: [result],
        Courteous(quiet_ms=3000),  # so that the remark is still waiting when the result comes
        remarks=Remarks(STOCK),
    )
    await stage.run(16_000)
    assert [text for text, _ in said(stage)] == ["A cat."]
    assert [(e.receipt.state) for e in stage.seen(ReceiptIssued) if e.receipt.task_id == REMARK_TASK] == [
        "queued",
        "superseded",
    ]


async def test_one_remark_is_for_all_that_is_waited_for() -> None:
    stage = staged(lines=[UserLine(2000, 3000, "and what is that?")], stock=STOCK)
    await stage.run(20_000)
    assert [text for text, _ in said(stage)] == [STOCK[0]]
