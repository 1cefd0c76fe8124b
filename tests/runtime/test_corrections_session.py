"""A user who corrects themselves: what was built on the old words is not said, and the new ones are acted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from microturn.protocols import ContextPackage, Delegate, Speech, Update
from microturn.runtime.delegation import corrected
from microturn.runtime.delegations import CORRECTABLE_MS
from microturn.runtime.events import SpeechBegan
from microturn.runtime.testing import Answer, Result, Stage, UserLine
from microturn.tools import ToolRegistry

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

ROME = UserLine(0, 1000, "weather in Rome?")


def answer(text: str) -> Answer:
    if text.endswith("?"):
        return Answer("One moment.", (Delegate(text, 0, 1000, agent="weather", urgent=True),))
    if text.startswith("no, "):
        return Answer(actions=(Update(None, text, 300, 700),))
    return Answer()


def staged(results: Mapping[str, Sequence[Result]], *lines: UserLine) -> Stage:
    def work(package: ContextPackage) -> Sequence[Result]:
        return results.get(package.intent, ())

    return Stage([ROME, *lines], answer, work)


def final(after_ms: float, text: str, revision: int | None = None) -> Result:
    return Result(after_ms, "final", Speech(text=text), revision)


def woven(stage: Stage) -> list[str]:
    return [event.text for event in stage.seen(SpeechBegan) if event.source == "woven"]


async def test_two_corrections_in_a_row_outdate_what_knows_only_the_first() -> None:
    results = {
        ROME.text: [
            Result(3000, "partial", Speech(text="Paris: sun."), 1),
            Result(5000, "final", Speech(text="Lyon: fog."), 2),
        ]
    }
    stage = staged(results, UserLine(2000, 2400, "no, Paris"), UserLine(2600, 3000, "no, Lyon"))
    await stage.run(9000)
    assert woven(stage) == ["Lyon: fog."]
    assert [text for _, text in stage.background.updates] == ["no, Paris", "no, Lyon"]


async def test_a_reminder_that_was_promised_outlives_a_correction() -> None:
    reminder = Speech(text="Time to go.", mode="interrupt", not_before_ms=6000)
    results = {
        ROME.text: [
            Result(500, "partial", reminder, 0),
            Result(600, "partial", Speech(text="Rome: rain."), 0),
            Result(3000, "final", Speech(text="Paris: sun."), 1),
        ]
    }
    stage = staged(results, UserLine(1200, 1800, "no, Paris"))
    await stage.run(9000)
    assert woven(stage) == ["Paris: sun.", "Time to go."]


async def test_that_a_task_failed_is_told_whatever_was_corrected() -> None:
    results = {ROME.text: [Result(3000, "failed", Speech(text="The weather is out of reach."), 0)]}
    stage = staged(results, UserLine(2000, 2600, "no, Paris"))
    await stage.run(9000)
    assert woven(stage) == ["The weather is out of reach."]


async def test_a_correction_that_crosses_the_answer_is_handed_over_anew_as_the_same_kind_of_task() -> None:
    crossed = corrected(ROME.text, ["no, Paris"])
    results = {ROME.text: [final(1500, "Rome: rain.", 0)], crossed: [final(1000, "Paris: sun.")]}
    stage = staged(results, UserLine(1800, 2500, "no, Paris"))
    await stage.run(9000)
    first, second = stage.background.packages
    assert second.intent == crossed
    assert (second.agent, second.urgent) == ("weather", True)
    assert (second.said_start_ms, second.said_end_ms) == (300, 700)
    assert woven(stage) == ["Paris: sun."]
    assert dict(stage.background.promises) == {first.task_id: "declined", second.task_id: "spoken"}


async def test_two_corrections_that_came_too_late_make_one_new_task() -> None:
    stage = staged({ROME.text: []})
    stage.at(2000, lambda: stage.session.type("no, Paris"))
    stage.at(2000, lambda: stage.session.type("no, Lyon"))

    def end() -> None:
        task_id = stage.background.packages[0].task_id
        stage.background.refuse_updates_of(task_id)

    stage.at(1800, end)
    await stage.run(5000)
    assert [package.intent for package in stage.background.packages] == [
        ROME.text,
        corrected(ROME.text, ["no, Paris", "no, Lyon"]),
    ]
    assert stage.background.cancelled == [stage.background.packages[0].task_id]


async def test_the_session_waits_for_the_fate_of_a_correction_that_the_answer_did_not_know() -> None:
    stage = staged({ROME.text: [final(2500, "Rome: rain.", 0)]}, UserLine(2000, 2800, "no, Paris"))
    await stage.run(5000)
    assert woven(stage) == []
    assert not stage.session.is_idle
    assert stage.background.promises == []


async def test_a_correction_long_after_the_answer_is_a_task_of_its_own() -> None:
    late = 2000 + CORRECTABLE_MS + 3000
    stage = staged({ROME.text: [final(1000, "Rome: rain.")]}, UserLine(late, late + 600, "no, Paris"))
    await stage.run(late + 2000)
    assert [package.intent for package in stage.background.packages] == [ROME.text, "no, Paris"]


async def test_a_correction_means_what_was_asked_last_even_if_an_older_task_still_runs() -> None:
    stage = Stage(
        [
            UserLine(0, 600, "a long search?"),
            UserLine(2000, 3000, ROME.text),
            UserLine(6000, 6600, "no, Paris"),
        ],
        answer,
        lambda package: [final(500, "Rome: rain.")] if package.intent == ROME.text else [],
    )
    await stage.run(9000)
    assert [package.intent for package in stage.background.packages][2] == corrected(ROME.text, ["no, Paris"])
    assert stage.background.updates == []


async def test_what_is_being_said_is_left_to_the_user_to_stop() -> None:
    text = "It rains in Rome, all day long, with wind from the south."
    stage = staged({ROME.text: [final(1500, text)]})
    stage.at(3400, lambda: stage.session.type("no, Paris"))
    await stage.run(12_000)
    assert woven(stage) == [text]
    assert stage.background.packages[1].intent == corrected(ROME.text, ["no, Paris"])


@pytest.mark.parametrize(
    ("request_", "correction"),
    [
        ("what's the weather in Rome?", "no, Paris"),
        ("remind me in ten minutes to stretch", "no, in twenty"),
        ("set a timer for ten minutes", "make it eight minutes"),
        ("what is 15 percent of 240", "I meant 250"),
        ("what time is it in Tokyo", "no, in Oslo"),
    ],
)
def test_no_phrase_of_a_tool_answers_a_corrected_request_by_its_old_words(
    request_: str, correction: str
) -> None:
    tools = ToolRegistry.from_entry_points()
    assert tools.matches(request_)
    assert tools.matches(corrected(request_, [correction])) == []
