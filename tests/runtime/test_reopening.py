"""A session goes on in another process: just what the user has not heard is offered again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from microturn.protocols import ContextPackage, Delegate, DelegationEvent, Speech, Update
from microturn.runtime.events import ReceiptIssued, SessionMoved, SpeechBegan
from microturn.runtime.testing import Answer, Result, Stage, UserLine

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

TEN = "One two three four five six seven eight nine ten."
ASKS = UserLine(0, 1000, "what is it?")


def answer(text: str) -> Answer:
    if text.endswith("?"):
        return Answer("One moment.", (Delegate(text, 600, 1000),))
    if text.startswith("no, "):
        return Answer(actions=(Update(None, text, 0, 0),))
    return Answer()


def staged(*results: Result, lines: Sequence[UserLine] = ()) -> Stage:
    def work(_: ContextPackage) -> Sequence[Result]:
        return results

    return Stage([ASKS, *lines], answer, work)


def final(after_ms: float, text: str = TEN, **rules: object) -> Result:
    return Result(after_ms, "final", Speech.model_validate({"text": text, **rules}))


def partial(after_ms: float, text: str, **rules: object) -> Result:
    return Result(after_ms, "partial", Speech.model_validate({"text": text, **rules}))


def woven(stage: Stage) -> list[tuple[str, float]]:
    return [(event.text, event.at_ms) for event in stage.seen(SpeechBegan) if event.source == "woven"]


def texts(stage: Stage) -> list[str]:
    return [text for text, _ in woven(stage)]


def words_stored(stage: Stage) -> int:
    return max(receipt.words_heard for receipt in stage.background.receipts)


async def test_what_was_heard_to_its_end_is_never_said_again() -> None:
    first = staged(partial(1500, "It has fur."), final(1600, "It is a cat."))
    await first.run(7000)
    second = first.taken_over()
    await second.run(9000)
    assert texts(second) == []
    assert second.session.is_idle
    assert first.background.promises == [(first.background.packages[0].task_id, "spoken")]


async def test_words_are_stored_while_they_are_played_at_most_once_a_micro_turn() -> None:
    stage = staged(final(2000))
    await stage.run(5200)
    receipts = [receipt for receipt in stage.background.receipts if receipt.state == "woven"]
    heard = [receipt.words_heard for receipt in receipts]
    assert heard == sorted(set(heard))
    assert heard[-1] >= 5
    assert len(receipts) <= 2 + (5200 - 3000) // 200
    shown = [event.receipt.state for event in stage.seen(ReceiptIssued)]
    assert shown == ["queued", "woven"]


async def test_what_was_being_said_goes_on_from_its_clause_where_the_process_died() -> None:
    text = "It rains in Bergen, with wind from the west, and will stay so."
    first = staged(final(2000, text))
    await first.run(5400)
    assert 4 <= words_stored(first) <= 9
    second = first.taken_over()
    await second.run(9000)
    assert texts(second) == ["As I was saying: with wind from the west, and will stay so."]
    assert words_stored(second) == 13
    task_id = first.background.packages[0].task_id
    assert second.background.promises == [(task_id, "spoken")]


async def test_a_client_that_has_played_more_is_believed() -> None:
    text = "It rains in Bergen, with wind from the west, and will stay so."
    first = staged(final(2000, text))
    await first.run(3600)
    (item_id,) = {given.woven[0].item_id for given in first.model.sessions["stage"].inputs if given.woven}
    second = first.taken_over(heard={item_id: 10})
    await second.run(9000)
    assert texts(second) == ["As I was saying: and will stay so."]


async def test_a_client_that_has_played_everything_settles_the_promise() -> None:
    first = staged(final(2000))
    await first.run(3600)
    (item_id,) = {given.woven[0].item_id for given in first.model.sessions["stage"].inputs if given.woven}
    second = first.taken_over(heard={item_id: 10})
    await second.run(6000)
    assert texts(second) == []
    assert second.background.promises == [(first.background.packages[0].task_id, "spoken")]


async def test_what_was_not_begun_is_said_whole() -> None:
    first = staged(final(2500, "It is a cat."), lines=[UserLine(3000, 9000, "I am cooking")])
    await first.run(5000)
    second = first.taken_over()
    await second.run(4000)
    assert texts(second) == ["It is a cat."]


async def test_what_comes_only_later_is_said_too() -> None:
    first = staged(partial(1500, "It has fur."), final(9000, "It is a cat."))
    await first.run(5000)
    second = first.taken_over(after_ms=1000)
    await second.run(8000)
    assert [(text, round(at_ms, -2)) for text, at_ms in woven(second)] == [("It is a cat.", 4000)]


async def test_a_reminder_keeps_its_time_on_the_new_clock() -> None:
    reminder = partial(500, "Time to stretch.", mode="interrupt", not_before_ms=14_000)
    first = staged(reminder, final(600, "Okay."))
    await first.run(5000)
    second = first.taken_over(after_ms=3000)
    await second.run(10_000)
    ((text, at_ms),) = woven(second)
    assert text == "Time to stretch."
    assert abs(at_ms - 6000) <= 200


async def test_a_reminder_that_comes_after_the_change_keeps_its_time_too() -> None:
    reminder = partial(6000, "Time to stretch.", mode="interrupt", not_before_ms=14_000)
    first = staged(reminder, final(6100, "Okay."))
    await first.run(5000)
    second = first.taken_over(after_ms=1000)
    await second.run(12_000)
    assert abs(dict(woven(second))["Time to stretch."] - 8000) <= 200


async def test_what_expired_while_nobody_had_the_session_is_not_said() -> None:
    first = staged(final(2500, "Now.", expires_ms=9000), lines=[UserLine(3000, 9000, "I am cooking")])
    await first.run(5000)
    second = first.taken_over(after_ms=5000)
    await second.run(4000)
    assert texts(second) == []
    assert second.background.promises == [(first.background.packages[0].task_id, "expired")]


async def test_a_session_can_change_its_process_twice_in_one_answer() -> None:
    text = " ".join(f"word{n}," for n in range(30))
    first = staged(final(2000, text))
    await first.run(5000)
    second = first.taken_over(after_ms=700)
    await second.run(5000)
    third = second.taken_over(after_ms=700)
    await third.run(20_000)
    spoken = [f"word{n}," for n in range(30)]
    heard: list[str] = []
    for stage in (first, second, third):
        ((said, _),) = woven(stage)
        words = said.removeprefix("As I was saying: ").split()
        assert words == spoken[30 - len(words) :]
        assert spoken[: 30 - len(words)] == heard[: 30 - len(words)]
        heard = spoken[: words_stored(stage)]
    assert third.background.promises == [(first.background.packages[0].task_id, "spoken")]


async def test_an_event_that_is_delivered_again_after_the_change_is_said_once() -> None:
    first = staged(final(2500, "It is a cat."), lines=[UserLine(3000, 9000, "I am cooking")])
    await first.run(5000)
    second = first.taken_over()
    (event,) = first.background.arrived
    second.background.deliver(event)
    second.at(3000, lambda: second.background.deliver(event))
    await second.run(6000)
    assert texts(second) == ["It is a cat."]


async def test_what_was_said_of_a_cancelled_or_corrected_task_is_not_taken_up() -> None:
    stale = Result(2500, "partial", Speech(text="Rome: rain."), revision=0)
    first = staged(stale, lines=[UserLine(2000, 3000, "no, Paris"), UserLine(3400, 9000, "I am cooking")])
    await first.run(5000)
    first.background.receipts.clear()  # as if the process had died before they were stored
    second = first.taken_over()
    await second.run(4000)
    assert texts(second) == []
    assert [receipt.state for receipt in second.background.receipts] == ["superseded"]


async def test_what_a_later_piece_was_heard_after_is_not_taken_up() -> None:
    first = staged(partial(2000, "It has fur."), final(5000))
    await first.run(8400)
    assert words_stored(first) >= 1
    given_up = first.background.arrived[
        0
    ].seq  # as if it had been, and its process had died before that was stored
    first.background.receipts[:] = [r for r in first.background.receipts if r.seq != given_up]
    second = first.taken_over()
    await second.run(9000)
    (said,) = texts(second)
    assert "fur" not in said and said.endswith("ten.")
    states = {receipt.seq: receipt.state for receipt in second.background.receipts}
    assert states[given_up] == "dropped"


async def test_a_promise_whose_words_were_all_heard_is_settled_by_whoever_takes_over() -> None:
    first = staged(final(2000, "It is a cat."))
    await first.run(6000)
    first.background.promises.clear()  # as if the process had died before it was stored
    second = first.taken_over()
    await second.run(1000)
    assert second.background.promises == [(first.background.packages[0].task_id, "spoken")]
    assert texts(second) == []


async def test_a_correction_after_the_change_reaches_the_task() -> None:
    first = staged(final(9000, "It is a cat."))
    await first.run(3000)
    second = first.taken_over([UserLine(1000, 2000, "no, the other one")], answer)
    await second.run(9000)
    (package,) = second.background.packages
    assert second.background.updates == [(package.task_id, "no, the other one")]
    assert texts(second) == ["It is a cat."]


async def test_what_was_asked_before_travels_with_the_next_task() -> None:
    first = staged(final(2000, "It is a cat."))
    await first.run(6000)
    second = first.taken_over([UserLine(1000, 2000, "and what does it eat?")], answer)
    await second.run(3000)
    package = second.background.packages[1]
    assert package.summary is not None
    assert "'what is it?'" in package.summary
    assert "'It is a cat.'" in package.summary
    assert [turn.text for turn in package.history] == ["and what does it eat?"]
    assert package.idempotency_key != second.background.packages[0].idempotency_key


async def test_a_session_that_was_taken_away_falls_silent_at_once() -> None:
    stage = staged(final(2000), lines=[UserLine(8000, 9000, "what else is it?")])
    stored: list[int] = []

    def lose() -> None:
        stage.background.state = "moved"
        stored.append(len(stage.background.receipts))

    stage.at(4000, lose)
    await stage.run(10_000)
    (moved,) = stage.seen(SessionMoved)
    assert moved.at_ms == 4200
    assert not stage.played[(4200 + 20 - 200) * 24 :].any()
    assert len(stage.background.receipts) == stored[0] > 0
    assert len(stage.background.packages) == 1
    assert stage.background.promises == []
    assert stage.session.is_idle


async def test_what_comes_of_a_strange_task_is_neither_said_nor_accounted_for() -> None:
    stage = staged()
    speech = Speech(text="Hello.")
    stage.background.deliver(
        DelegationEvent(task_id="strange", attempt=1, seq=1, kind="final", speech=speech)
    )
    await stage.run(3000)
    assert texts(stage) == []
    assert stage.background.promises == []
    assert stage.background.receipts == []
