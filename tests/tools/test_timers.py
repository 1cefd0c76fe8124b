"""Timers: what is scheduled for when, under which key, and how it is cancelled."""

from __future__ import annotations

from dataclasses import replace

import pytest

from microturn.protocols import Speech
from microturn.tools import ToolContext, ToolRegistry, ToolRetry
from microturn.tools.builtin.timers import cancel_timer, list_timers, reminder, set_timer, spoken_duration

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


def later(context: ToolContext, call_index: int, said_end_ms: int = 5_000) -> ToolContext:
    package = context.package.model_copy(update={"said_end_ms": said_end_ms})
    return replace(context, package=package, idempotency_key=ToolContext.key("task", call_index))


async def test_a_timer_is_due_counted_from_the_end_of_the_users_words(
    context: ToolContext, said: list[Speech]
) -> None:
    result = await set_timer(context, 10, "stretch")

    assert said == [
        Speech(
            text="Time to stretch.",
            mode="interrupt",
            priority=10,
            not_before_ms=15_000,
            supersede_key="timer:stretch",
        )
    ]
    assert result.say == "Okay, I will remind you in 10 seconds."


async def test_a_plain_timer_says_how_long_it_ran(context: ToolContext, said: list[Speech]) -> None:
    await set_timer(context, 300)

    assert (said[0].text, said[0].supersede_key) == ("Your timer for 5 minutes is done.", "timer:5 minutes")


async def test_two_timers_of_one_name_do_not_replace_each_other(
    context: ToolContext, said: list[Speech]
) -> None:
    await set_timer(later(context, 0), 10, "stretch")
    await set_timer(later(context, 1), 20, "stretch")
    await set_timer(later(context, 2, said_end_ms=16_000), 60, "stretch")
    await set_timer(later(context, 3, said_end_ms=500_000), 60, "stretch")

    keys = [speech.supersede_key for speech in said]
    assert keys == ["timer:stretch", "timer:stretch 2", "timer:stretch 3", "timer:stretch"]


async def test_a_repeated_attempt_sets_the_same_timer_again(context: ToolContext, said: list[Speech]) -> None:
    await set_timer(context, 10, "stretch")
    await set_timer(context, 10, "stretch")

    assert said[0] == said[1]
    assert (await list_timers(context)).text == "stretch: 10 seconds left"


async def test_cancelling_supersedes_the_waiting_words_silently(
    context: ToolContext, said: list[Speech]
) -> None:
    await set_timer(later(context, 0), 60, "take out the pizza")
    await cancel_timer(later(context, 1), "the pizza timer")

    assert (said[1].mode, said[1].supersede_key) == ("silent", said[0].supersede_key)
    assert (await list_timers(context)).text == "No timer is running."


async def test_a_repeated_attempt_to_cancel_cancels_no_other_timer(
    context: ToolContext, said: list[Speech]
) -> None:
    await set_timer(later(context, 0), 60, "stretch")
    await cancel_timer(later(context, 1))
    await set_timer(later(context, 2), 90, "drink")
    await cancel_timer(later(context, 1))

    assert said[1].supersede_key == said[3].supersede_key == "timer:stretch"
    assert (await list_timers(context)).text == "drink: 1 minute and 30 seconds left"


async def test_which_timer_is_meant_must_be_clear(context: ToolContext, said: list[Speech]) -> None:
    with pytest.raises(ToolRetry, match="no timer"):
        await cancel_timer(later(context, 0))
    await set_timer(later(context, 1), 60, "stretch")
    await set_timer(later(context, 2), 60, "drink")
    with pytest.raises(ToolRetry, match="'drink'"):
        await cancel_timer(later(context, 3))
    with pytest.raises(ToolRetry, match="`label`"):
        await cancel_timer(later(context, 4), "pizza")

    assert len(said) == 2


async def test_timers_of_another_session_are_not_seen(context: ToolContext) -> None:
    await set_timer(context, 60, "stretch")
    other = replace(context, package=context.package.model_copy(update={"session_id": "other"}))

    assert (await list_timers(other)).text == "No timer is running."


async def test_times_that_make_no_sense_are_refused(context: ToolContext, said: list[Speech]) -> None:
    registry = ToolRegistry([set_timer])

    for seconds in (0, -5, 86_401, "soon"):
        assert (await registry.call("set_timer", {"seconds": seconds}, context)).is_error
    assert said == []


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("stretch", "Time to stretch."),
        ("Take out the pizza.", "Time to take out the pizza."),
        ("to call my mother", "Time to call your mother."),
        ("remind me to drink water", "Time to drink water."),
        ("have lunch", "Time to have lunch."),
        ("the meeting", "Time for the meeting."),
        ("my medicine", "Time for your medicine."),
        ("pizza is ready", "Pizza is ready."),
        ("Time to go", "Time to go."),
        ("Go now!", "Go now!"),
        ("dentist", "Here is your reminder: dentist."),
    ],
)
def test_a_reminder_is_a_natural_sentence(message: str, sentence: str) -> None:
    assert reminder(message) == sentence


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.5, "0.5 seconds"),
        (1, "1 second"),
        (59.6, "1 minute"),
        (90, "1 minute and 30 seconds"),
        (7200, "2 hours"),
        (3661, "1 hour, 1 minute and 1 second"),
    ],
)
def test_a_length_of_time_is_said_in_words(seconds: float, words: str) -> None:
    assert spoken_duration(seconds) == words
