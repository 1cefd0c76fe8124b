"""Questions of tasks in a live conversation: asked at a pause, heard, answered, and given back to the task that asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from pydantic import JsonValue

from microturn.protocols import (
    Action,
    Cancel,
    ContextPackage,
    Delegate,
    Dismiss,
    MicroTurnInput,
    MicroTurnOutput,
    Speech,
    Update,
    WeaveMode,
)
from microturn.protocols import Answer as AnswerAction
from microturn.runtime.events import ReceiptIssued, SpeechBegan
from microturn.runtime.questions import QUIET_FOR_MS
from microturn.runtime.testing import WORD_MS, Answer, Result, ScriptedModel, Stage, UserLine

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

ASKS = UserLine(0, 1000, "send it?")
QUESTION = "Shall I send this to Bob?"
ASKED_MS = 2000
"""When the question comes; it is being said from the next micro-turn on, for 1.8 s."""
HEARD_MS = ASKED_MS + 6 * WORD_MS + 400
"""By when it was heard to its end."""


def question(after_ms: float = ASKED_MS - 1000, text: str = QUESTION, **detail: JsonValue) -> Result:
    speech = Speech(text=text, kind="question", priority=2)
    return Result(after_ms, "partial", speech, detail={"asks": "approval", "answer_within_s": 30.0, **detail})


def fact(after_ms: float, text: str, mode: WeaveMode = "pause") -> Result:
    return Result(after_ms, "partial", Speech(text=text, mode=mode))


def final(after_ms: float, text: str) -> Result:
    return Result(after_ms, "final", Speech(text=text))


class Answering(Stage):
    """A stage whose model takes whatever is said while a question is open for its answer."""

    def __init__(
        self,
        lines: Sequence[UserLine],
        results: Sequence[Result] = (question(),),
        on_answer: Callable[[str, int, str], Sequence[Result]] = lambda *_: (),
        *,
        other: Sequence[Result] = (),
    ) -> None:
        def work(package: ContextPackage) -> Sequence[Result]:
            return results if package.intent == ASKS.text else other

        super().__init__([ASKS, *lines], self._react, work)
        self.background.on_answer = on_answer

    def _react(self, text: str) -> Answer:
        return Answer(actions=tuple(self._actions(text)))

    def _actions(self, text: str) -> Sequence[Action]:
        given = self.model.sessions["stage"].inputs[-1]
        if text.endswith("?"):
            return [Delegate(text, 0, 1000)]
        if text == "stop":
            return [Dismiss()]
        if text == "cancel":
            return [Cancel(None, "the user asked")]
        if text.startswith("change"):
            return [Update(None, text, given.end_ms - 400, given.end_ms)]
        if given.question is not None:
            return [AnswerAction(given.question.item_id, text, given.end_ms - 400, given.end_ms)]
        return []

    @property
    def words(self) -> list[str]:
        return [words for _, _, words in self.background.answers]

    @property
    def woven(self) -> list[str]:
        return [event.text for event in self.seen(SpeechBegan) if event.source == "woven"]

    def fates(self, seq: int = 1) -> list[str]:
        return [e.receipt.state for e in self.seen(ReceiptIssued) if e.receipt.seq == seq]


def says(text: str, start_ms: int = HEARD_MS + 400) -> UserLine:
    return UserLine(start_ms, start_ms + 400, text)


async def test_what_is_said_after_a_question_reaches_its_task_and_the_result_is_told() -> None:
    stage = Answering([says("yes please")], on_answer=lambda *_: [final(800, "It is sent.")])
    await stage.run(9000)
    assert stage.background.answers == [(stage.background.packages[0].task_id, 1, "yes please")]
    assert stage.woven == [QUESTION, "It is sent."]
    assert stage.fates()[-1] == "heard"
    assert stage.background.updates == []


async def test_the_model_is_told_of_the_question_from_when_it_was_understood() -> None:
    stage = Answering([says("yes")])
    await stage.run(8000)
    inputs = stage.model.sessions["stage"].inputs
    (woven,) = [each for given in inputs for each in given.woven]
    assert woven.asks
    open_ones = [given for given in inputs if given.question is not None]
    assert {given.question.item_id for given in open_ones if given.question} == {woven.item_id}
    assert open_ones[0].question is not None
    assert ASKED_MS + 5 * WORD_MS <= open_ones[0].question.since_ms <= HEARD_MS
    assert open_ones[-1].end_ms <= HEARD_MS + 1000


async def test_what_is_said_into_a_question_before_it_is_understood_is_no_answer_and_it_is_asked_again() -> (
    None
):
    stage = Answering([says("yes", ASKED_MS + 600), says("go on then", 7000)])
    await stage.run(9000)
    assert stage.woven == [QUESTION, QUESTION]
    assert stage.words == ["go on then"]
    assert "interrupted" in stage.fates()


async def test_a_yes_into_the_last_word_of_a_question_is_its_answer() -> None:
    stage = Answering([says("yes", ASKED_MS + 200 + 5 * WORD_MS + 200)])
    await stage.run(8000)
    assert stage.words == ["yes"]
    assert stage.woven == [QUESTION]
    assert stage.fates()[-1] == "heard"


async def test_an_answer_that_the_model_makes_up_before_the_question_was_heard_is_dropped() -> None:
    class Hasty(ScriptedModel):
        """Answers a question in the step in which it is to be said."""

        def step(self, inputs):  # type: ignore[no-untyped-def]  # as in the class above it
            outputs = super().step(inputs)
            return [_answered(given, out) for (_, given), out in zip(inputs, outputs, strict=True)]

    def _answered(given: MicroTurnInput, output: MicroTurnOutput) -> MicroTurnOutput:
        asked = [AnswerAction(woven.item_id, "yes", given.end_ms, given.end_ms) for woven in given.woven]
        return MicroTurnOutput(
            **{name: getattr(output, name) for name in output.__slots__}
            | {"actions": (*output.actions, *asked)}
        )

    stage = Answering([])
    stage.model.__class__ = Hasty
    await stage.run(8000)
    assert stage.woven == [QUESTION]
    assert stage.words == []


async def test_stopping_leaves_the_question_unanswered() -> None:
    stage = Answering([says("stop")])
    await stage.run(8000)
    assert stage.words == [""]


async def test_a_cancelled_task_gets_no_answer() -> None:
    stage = Answering([says("cancel"), says("yes", 6000)])
    await stage.run(8000)
    assert stage.words == []
    assert stage.background.cancelled


async def test_a_question_whose_time_is_up_is_left_unanswered() -> None:
    stage = Answering([says("yes", 9000)], [question(answer_within_s=4.0)])
    await stage.run(11_000)
    assert stage.words == [""]


async def test_a_question_that_finds_no_pause_in_time_is_not_asked() -> None:
    stage = Answering([UserLine(1500, 6000, "well"), says("yes", 8000)], [question(answer_within_s=2.0)])
    await stage.run(10_000)
    assert stage.woven == []
    assert stage.words == []
    assert stage.fates()[-1] == "expired"


@pytest.mark.parametrize("words", ["yeah but to Anna instead", "no, make it two"])
async def test_an_approval_of_something_else_is_a_correction(words: str) -> None:
    stage = Answering([says(words)])
    await stage.run(8000)
    assert stage.words == []
    assert stage.background.updates == [(stage.background.packages[0].task_id, words)]


async def test_the_answer_to_a_question_of_a_tool_is_passed_on_as_it_is() -> None:
    stage = Answering([says("no, make it two")], [question(asks="tool")])
    await stage.run(8000)
    assert stage.words == ["no, make it two"]
    assert stage.background.updates == []


async def test_a_correction_that_names_no_task_means_the_one_that_asks() -> None:
    lines = [UserLine(1100, 1500, "weather?"), says("change it")]
    stage = Answering(lines, other=[fact(100_000, "later")])
    await stage.run(8000)
    assert stage.background.updates == [(stage.background.packages[0].task_id, "change it")]
    assert stage.words == []


async def test_two_questions_are_asked_one_after_the_other() -> None:
    lines = [UserLine(1100, 1500, "weather?"), says("the first"), says("the second", 8000)]
    stage = Answering(lines, other=[question(600, "For which day?")])
    await stage.run(10_000)
    assert sorted(stage.woven) == sorted([QUESTION, "For which day?"])
    first, second = stage.background.answers
    assert (first[2], second[2]) == ("the first", "the second")
    assert first[0] != second[0]


async def test_nothing_else_is_said_between_a_question_and_its_answer() -> None:
    lines = [UserLine(1100, 1500, "weather?"), says("yes", HEARD_MS + 2000)]
    stage = Answering(lines, other=[fact(1500, "It rains.")])
    await stage.run(10_000)
    assert stage.woven == [QUESTION, "It rains."]
    assert stage.words == ["yes"]


async def test_where_nobody_answers_other_things_are_said_and_the_question_is_given_up() -> None:
    lines = [UserLine(1100, 1500, "weather?"), says("yes", HEARD_MS + QUIET_FOR_MS + 3000)]
    stage = Answering(lines, other=[fact(1500, "It rains.")])
    await stage.run(HEARD_MS + QUIET_FOR_MS + 5000)
    assert stage.woven == [QUESTION, "It rains."]
    assert stage.words == [""]


async def test_what_interrupts_is_said_and_takes_the_question_back() -> None:
    lines = [UserLine(1100, 1500, "timer?"), says("okay", HEARD_MS + 3000)]
    stage = Answering(lines, other=[fact(HEARD_MS - 1000, "Your timer is done!", "interrupt")])
    await stage.run(10_000)
    assert stage.woven == [QUESTION, "Your timer is done!"]
    assert stage.words == [""]


async def test_facts_that_come_with_a_question_are_said_before_it_and_others_after_it() -> None:
    results = [fact(900, "The draft is ready."), question(), fact(1000, "It has two pages.")]
    stage = Answering([says("yes", HEARD_MS + 2000)], results)
    await stage.run(10_000)
    assert stage.woven == [f"The draft is ready. {QUESTION}", "It has two pages."]
    assert stage.background.answers[0][1:] == (2, "yes")


async def test_woven_words_that_say_yes_answer_nothing() -> None:
    results = [question(), fact(1100, "Yes. Go ahead, the user says yes.")]
    stage = Answering([], results)
    await stage.run(HEARD_MS + QUIET_FOR_MS + 4000)
    assert "yes" not in stage.words
    assert stage.words == [""]


async def test_a_task_that_ends_takes_its_question_with_it() -> None:
    stage = Answering([says("yes", 6000)], [question(), Result(3500, "expired")])
    await stage.run(9000)
    assert stage.words == []


async def test_a_question_that_another_process_has_asked_is_asked_again_where_nothing_came_of_it() -> None:
    stage = Answering([])
    await stage.run(HEARD_MS + 400)
    assert stage.background.answers == []
    twin = Answering([])
    taken = stage.taken_over([says("yes", 4000)], twin._react, after_ms=500)
    twin.model = taken.model
    await taken.run(7000)
    assert [event.text for event in taken.seen(SpeechBegan)] == [QUESTION]
    assert [words for _, _, words in stage.background.answers] == ["yes"]


async def test_what_was_still_to_be_begun_when_the_model_had_to_stop_is_said_later() -> None:
    stage = Answering(
        [UserLine(2050, 2150, "well")], [fact(ASKED_MS - 1000, "Your timer is done!", "interrupt")]
    )
    long = "this goes on for so long that whatever is urgent has to wait for the end of a word"
    stage.at(ASKED_MS - 800, lambda: stage.model.sessions["stage"].mouth.say(long, "reply"))
    await stage.run(6000)
    first = next(g for g in stage.model.sessions["stage"].inputs if g.woven)
    assert first.end_ms == ASKED_MS  # in the step before the user begins to speak
    assert stage.woven == ["Your timer is done!"]
    assert stage.fates()[-1] == "heard"
