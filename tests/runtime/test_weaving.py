"""When results are said: a table of situations, on a virtual clock."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from microturn.protocols import (
    Cancel,
    ContextPackage,
    Delegate,
    DelegationEvent,
    Dismiss,
    EventKind,
    FloorState,
    Resume,
    Speech,
    WeaveMode,
)
from microturn.runtime.beat import Tick
from microturn.runtime.events import BargedIn, ReceiptIssued, SpeechBegan, SpeechEnded
from microturn.runtime.testing import WORD_MS, Answer, Result, Stage, UserLine
from microturn.runtime.weave_policy import Moment
from microturn.runtime.weaver import Weaver

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


def ask(text: str) -> Answer:
    """Delegate what ends in a question mark, obey a few words, say nothing else."""
    if text.endswith("?"):
        return Answer("One moment.", (Delegate(text, 0, 1000),))
    if text == "go on":
        return Answer(actions=(Resume(),))
    if text == "stop":
        return Answer(actions=(Dismiss(),))
    if text == "never mind":
        return Answer(actions=(Cancel(None, "user"),))
    return Answer()


def result(after_ms: float, text: str, mode: WeaveMode = "pause", kind: EventKind = "final") -> Result:
    return Result(after_ms, kind, Speech(text=text, mode=mode))


def staged(lines: Sequence[UserLine], *results: Result) -> Stage:
    def work(_: ContextPackage) -> Sequence[Result]:
        return results

    return Stage(lines, ask, work)


QUESTION = UserLine(0, 1000, "what is it?")


def woven(stage: Stage) -> list[SpeechBegan]:
    return [event for event in stage.seen(SpeechBegan) if event.source == "woven"]


def states(stage: Stage) -> list[str]:
    return [event.receipt.state for event in stage.seen(ReceiptIssued)]


async def test_a_result_is_said_at_most_one_micro_turn_after_it_arrives_in_silence() -> None:
    stage = staged([QUESTION], result(4000, "It is a cat."))
    await stage.run(8000)
    (began,) = woven(stage)
    arrived = 1000 + 4000
    assert arrived <= began.at_ms <= arrived + 200
    assert states(stage) == ["queued", "woven", "heard"]


async def test_a_result_waits_until_the_assistant_has_finished_its_own_words() -> None:
    stage = staged([QUESTION], result(100, "It is a cat."))
    await stage.run(6000)
    filler_ends = stage.seen(SpeechEnded)[0].at_ms
    assert woven(stage)[0].at_ms >= filler_ends


async def test_a_result_never_begins_over_the_users_speech() -> None:
    remark = UserLine(4000, 7000, "I am cooking")
    stage = staged([QUESTION, remark], result(3500, "It is a cat."))
    await stage.run(10_000)
    (began,) = woven(stage)
    assert 7000 <= began.at_ms <= 7400


async def test_a_thinking_pause_is_no_natural_pause() -> None:
    first, second = UserLine(4000, 5000, "and then", finished=False), UserLine(6000, 7000, "I went")
    stage = staged([QUESTION, first, second], result(3500, "It is a cat."))
    await stage.run(10_000)
    assert woven(stage)[0].at_ms >= 7000


async def test_an_interrupting_result_is_said_over_the_user() -> None:
    remark = UserLine(4000, 9000, "a long story")
    stage = staged([QUESTION, remark], result(4500, "Fire!", "interrupt"))
    await stage.run(10_000)
    assert woven(stage)[0].at_ms <= 5800


async def test_a_reminder_begins_at_its_time() -> None:
    speech = Speech(text="Time to stretch.", mode="interrupt", not_before_ms=11_000)
    stage = staged([QUESTION], Result(500, "partial", speech), Result(510, "final"))
    await stage.run(14_000)
    assert abs(woven(stage)[0].at_ms - 11_000) <= 200


async def test_an_idle_result_waits_for_a_longer_silence() -> None:
    stage = staged([QUESTION], result(100, "By the way.", "idle"))
    await stage.run(8000)
    filler_ends = stage.seen(SpeechEnded)[0].at_ms
    assert woven(stage)[0].at_ms >= filler_ends + 1400


async def test_a_silent_result_is_never_said() -> None:
    stage = staged([QUESTION], result(100, "A note.", "silent"))
    await stage.run(8000)
    assert woven(stage) == []
    assert states(stage) == ["queued", "dropped"]


async def test_partials_that_waited_together_are_said_as_one() -> None:
    remark = UserLine(2500, 6000, "I am cooking")
    stage = staged(
        [QUESTION, remark],
        result(2000, "First part.", kind="partial"),
        result(2500, "Second part.", kind="partial"),
        result(3000, "Last part."),
    )
    await stage.run(12_000)
    assert [began.text for began in woven(stage)] == ["First part. Second part. Last part."]


async def test_a_newer_piece_supersedes_the_one_that_waits() -> None:
    remark = UserLine(2500, 6000, "I am cooking")
    old, new = (
        Result(after, "progress", Speech(text=text, supersede_key="progress"))
        for after, text in ((2000, "Still looking."), (2500, "Almost there."))
    )
    stage = staged([QUESTION, remark], old, new)
    await stage.run(9000)
    assert [began.text for began in woven(stage)] == ["Almost there."]
    assert "superseded" in states(stage)


async def test_an_expired_piece_is_not_said() -> None:
    remark = UserLine(2500, 8000, "I am cooking")
    stage = staged([QUESTION, remark], Result(2000, "final", Speech(text="Now.", expires_ms=5000)))
    await stage.run(10_000)
    assert woven(stage) == []
    assert states(stage) == ["queued", "expired"]


async def test_the_same_event_delivered_twice_is_said_once() -> None:
    stage = staged([QUESTION])
    await stage.run(2000)
    task = stage.background.packages[0].task_id
    event = DelegationEvent(task_id=task, attempt=1, seq=1, kind="final", speech=Speech(text="Once."))
    stage.background.deliver(event)
    stage.background.deliver(event)
    stage.session.weaver.offer(event, 2000)
    assert sum(piece.task_id == task for piece in stage.session.weaver.waiting) == 1
    stage.session.weaver.offer(event, 2100)
    assert sum(piece.task_id == task for piece in stage.session.weaver.waiting) == 1


LONG = "One two three four five six seven eight nine ten."


async def test_a_barge_in_silences_the_assistant_within_one_micro_turn() -> None:
    stage = staged([QUESTION, UserLine(5100, 6000, "wait")], result(2000, LONG))
    await stage.run(9000)
    (barge_in,) = stage.seen(BargedIn)
    assert barge_in.at_ms - 5100 <= 200
    silent_from = int((barge_in.at_ms - 200) * 24) + 240
    assert not np.any(stage.played[silent_from : silent_from + 24 * 600])


async def test_the_rest_of_what_was_cut_off_is_offered_when_all_is_idle() -> None:
    stage = staged([QUESTION, UserLine(5100, 6000, "wait")], result(2000, LONG))
    await stage.run(16_000)
    first, rest = woven(stage)
    cut = next(e for e in stage.seen(SpeechEnded) if e.utterance_id == first.utterance_id)
    assert 0 < cut.words_heard < 10
    again = max(0, cut.words_heard - 7)
    assert rest.text == "As I was saying: " + " ".join(LONG.split()[again:])
    assert rest.at_ms >= 6000 + 1500
    assert states(stage)[-1] == "heard"


async def test_the_rest_is_taken_up_at_the_beginning_of_the_clause_that_was_cut() -> None:
    text = "It rains in Bergen, with wind from the west, and will stay so."
    stage = staged([QUESTION, UserLine(5100, 6000, "wait")], result(2000, text))
    await stage.run(16_000)
    assert woven(stage)[1].text == "As I was saying: with wind from the west, and will stay so."


async def test_the_rest_comes_at_once_when_the_user_says_go_on() -> None:
    lines = [QUESTION, UserLine(5100, 6000, "wait"), UserLine(6600, 7000, "go on")]
    stage = staged(lines, result(2000, LONG))
    await stage.run(14_000)
    assert woven(stage)[1].at_ms <= 7400


async def test_the_rest_is_dropped_when_the_user_says_stop() -> None:
    stage = staged([QUESTION, UserLine(5100, 6000, "stop")], result(2000, LONG))
    await stage.run(16_000)
    assert len(woven(stage)) == 1
    assert states(stage)[-1] == "dropped"


async def test_cancelling_reaches_the_background_and_drops_what_waits() -> None:
    stage = staged(
        [QUESTION, UserLine(2500, 4000, "never mind")], result(2000, "It is a cat.", kind="partial")
    )
    await stage.run(9000)
    assert stage.background.cancelled == [stage.background.packages[0].task_id]
    assert woven(stage) == []


async def test_the_user_is_told_within_two_seconds_that_nobody_works() -> None:
    stage = staged([QUESTION])
    stage.background.state = "no_worker"
    await stage.run(8000)
    (notice,) = woven(stage)
    assert notice.at_ms - 1000 <= 2000
    assert "kept" in notice.text


async def test_a_full_queue_is_told_to_the_user() -> None:
    stage = staged([QUESTION])
    stage.background.limit = 0
    await stage.run(8000)
    assert "too much waiting" in woven(stage)[0].text


async def test_words_heard_are_counted_by_what_was_played() -> None:
    stage = staged([QUESTION, UserLine(5100, 6000, "stop")], result(2000, LONG))
    await stage.run(9000)
    began = woven(stage)[0]
    ended = next(e for e in stage.seen(SpeechEnded) if e.utterance_id == began.utterance_id)
    played_ms = ended.at_ms - began.at_ms
    assert abs(ended.words_heard - played_ms / WORD_MS) <= 1


async def test_a_completed_request_replaces_the_one_that_was_cut_short() -> None:
    def answer(text: str) -> Answer:
        return Answer("One moment.", (Delegate(text, 0, 1000, completes_last=text.endswith("?")),))

    stage = Stage([UserLine(0, 1000, "what is six times"), UserLine(1800, 2600, "six times seven?")], answer)
    stage.background.work = lambda package: (result(3000, f"About {package.intent}"),)
    await stage.run(9000)
    first, second = stage.background.packages
    assert stage.background.cancelled == [first.task_id]
    assert [began.text for began in woven(stage)] == [f"About {second.intent}"]


async def test_what_still_arrives_of_a_cancelled_task_is_not_said() -> None:
    stage = staged([QUESTION, UserLine(2500, 4000, "never mind")])
    await stage.run(4400)
    task = stage.background.packages[0].task_id
    late = DelegationEvent(task_id=task, attempt=1, seq=1, kind="final", speech=Speech(text="Too late."))
    stage.background.deliver(late)
    stage.session.prepare(Tick(22, 1, 0.0))
    assert stage.session.weaver.waiting == ()
    assert stage.background.acknowledged == [(task, 1)]


async def test_a_result_that_waited_follows_the_assistants_words_within_a_micro_turn() -> None:
    stage = staged([QUESTION], result(100, "It is a cat."))
    await stage.run(6000)
    filler = stage.seen(SpeechBegan)[0]
    words_end = filler.at_ms + WORD_MS * len(filler.text.split())
    assert woven(stage)[0].at_ms - words_end <= 200 + 150


async def test_what_follows_waits_until_it_is_known_how_far_a_cut_was_heard() -> None:
    weaver = Weaver()
    pause = Moment(1000, FloorState())
    first, second = (
        DelegationEvent(task_id="t", attempt=1, seq=seq, kind="partial", speech=Speech(text=text))
        for seq, text in ((1, LONG), (2, "And that is all."))
    )
    weaver.offer(first, 1000)
    (woven_text,) = weaver.weave(pause)
    weaver.cut()
    weaver.offer(second, 1100)
    assert weaver.weave(pause) == ()
    weaver.heard(woven_text.item_id, 5, True, 1200)
    (rest,) = weaver.weave(Moment(5000, FloorState()))
    assert rest.text.startswith("As I was saying:")
    assert rest.text.endswith("And that is all.")
