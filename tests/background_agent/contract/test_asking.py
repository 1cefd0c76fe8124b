"""How an engine lets its model ask the user in the middle of a task: once, in words that can be said, or in vain."""

from __future__ import annotations

import dataclasses
import json

import anyio
import pytest
from pydantic import JsonValue

from microturn.background_agent import LOCAL, REMOTE, REMOTE_JSON, Control
from microturn.background_agent.journal import call_detail
from microturn.background_agent.questions import NO_ANSWER, NOT_ANSWERED, NOT_SAYABLE
from microturn.background_agent.scripted_model import Line, Say, ScriptedModel, scripted_model
from microturn.background_agent.transcript import Call
from microturn.protocols import DelegationEvent, Speech
from microturn.tools import ToolRegistry, tool
from microturn.tools.builtin import ask_user
from tests.background_agent.contract.stage import PROFILE, Setup, calls
from tests.background_agent.stand_ins import Sent, package

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

QUESTION = "Which one, the red or the blue?"
ASKED = calls(("ask_user", '{"question": "Which one, the **red** or the [blue](https://a.example/x)?"}'))


class Talk:
    """A task whose user answers the questions in `answers`, one after the other."""

    def __init__(self, *answers: str) -> None:
        self.sent = Sent(on_event=self._on_event)
        self.given: dict[int, str] = {}
        self.control = Control(emitted=self.sent.events, answers=self.given)
        self.painted: list[str] = []
        self._answers = list(answers)

    def _on_event(self, event: DelegationEvent) -> None:
        if event.is_question and self._answers:
            self.given[event.seq] = self._answers.pop(0)
            self.control.notify()

    @property
    def questions(self) -> list[Speech]:
        return [event.speech for event in self.sent.events if event.speech and event.is_question]

    async def go(self, setup: Setup, *script: Line) -> ScriptedModel:
        """Run the task on a script."""

        @tool(side_effect="unsafe")
        async def paint(colour: str) -> str:
            """Cover the wall with a colour, such as red or blue."""
            self.painted.append(colour)
            return f"It is {colour} now."

        async with (
            scripted_model(*script, wire=setup.wire) as model,
            setup.open(model, profile=PROFILE) as engine,
        ):
            with anyio.fail_after(8):
                tools = ToolRegistry([ask_user, paint])
                await engine.run(package("make it look nicer"), tools, self.sent, self.control)
        return model


async def test_a_question_is_asked_answered_and_used(setup: Setup) -> None:
    talk = Talk("the blue one please")
    model = await talk.go(setup, ASKED, calls(("paint", '{"colour": "blue"}')), Say("The wall is blue."))

    assert [(one.text, one.kind) for one in talk.questions] == [(QUESTION, "question")]
    told = model.told(1)
    assert told.index("<result tool=") < told.index("the blue one please") < told.index("</result>")
    assert talk.painted == [
        "blue"
    ]  # a result was read, and what the user has answered is about painting it blue
    assert talk.sent.kinds()[-1] == "final"


async def test_where_nobody_answers_the_model_goes_on_without(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microturn.tools.builtin.question.ANSWER_WITHIN_S", 0.05)
    monkeypatch.setattr("microturn.background_agent.questions.GRACE_S", 0.05)
    talk = Talk()
    model = await talk.go(setup, ASKED, Say("I have left it as it was."))

    assert NO_ANSWER in model.told(1)
    assert len(talk.questions) == 1
    assert talk.sent.spoken()[-1] == "I have left it as it was."


async def test_a_user_who_will_not_answer_is_not_asked_again(setup: Setup) -> None:
    talk = Talk("")
    model = await talk.go(setup, ASKED, ASKED, Say("I have left it as it was."))

    assert NOT_ANSWERED in model.told(1)
    assert len(talk.questions) == 1
    assert talk.sent.kinds()[-1] == "final"


async def test_what_cannot_be_said_is_not_asked(setup: Setup) -> None:
    talk = Talk("yes")
    code = calls(("ask_user", json.dumps({"question": "```rm -rf```"})))
    model = await talk.go(setup, code, Say("Never mind."))

    assert talk.questions == []
    assert NOT_SAYABLE in model.told(1)


async def test_a_worker_that_takes_over_finds_the_answer_and_does_not_ask_again(setup: Setup) -> None:
    talk = Talk()
    call = Call(0, "ask_user", {"question": QUESTION})
    await talk.sent("tool_started", detail=call_detail(call))
    detail: dict[str, JsonValue] = {"asks": "tool", "number": 0, **call_detail(call)}
    await talk.sent("partial", speech=Speech(text=QUESTION, kind="question"), text=QUESTION, detail=detail)
    talk.given[2] = "the red one"
    model = await talk.go(setup, Say("Red it is."))

    assert len(talk.questions) == 1
    assert "the red one" in model.told(0)
    assert talk.sent.kinds()[-1] == "final"


async def test_a_model_is_offered_what_its_profile_does_not_withhold(setup: Setup) -> None:
    withheld = dataclasses.replace(PROFILE, withheld=frozenset({"ask_user"}))
    for profile, offered in ((PROFILE, True), (withheld, False)):
        talk = Talk()
        async with (
            scripted_model(Say("Fine."), wire=setup.wire) as model,
            setup.open(model, profile=profile) as engine,
        ):
            await engine.run(package(), ToolRegistry([ask_user]), talk.sent, talk.control)
        assert ("ask_user" in json.dumps(model.requests[0])) is offered


def test_only_the_small_local_model_cannot_ask() -> None:
    specs = ToolRegistry([ask_user]).specs()
    assert LOCAL.offered(specs) == []
    assert REMOTE.offered(specs) == REMOTE_JSON.offered(specs) == specs
