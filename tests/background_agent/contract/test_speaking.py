"""What an engine says and when: sentences as they come, nothing of what the model thinks, an end in any case."""

from __future__ import annotations

import anyio
import pytest

from microturn.background_agent import Control
from microturn.background_agent.scripted_model import Fail, GoOn, Say, scripted_model
from tests.background_agent.contract.stage import SMALL, Bench, Setup, calls, double, play
from tests.background_agent.stand_ins import Sent, package

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

SECRET = "The user wants a number. I should say 120. Then stop."


async def test_a_sentence_is_said_while_the_next_one_is_being_written(streaming: Setup) -> None:
    sent = Sent()
    script = Fail("hang", text="It costs **120 €**. It is blue and ")
    async with (
        scripted_model(script, wire=streaming.wire) as model,
        streaming.open(model) as engine,
        anyio.create_task_group() as group,
    ):
        group.start_soon(engine.run, package(), Bench().registry(), sent, Control())
        with anyio.fail_after(8):
            await sent.has_words.wait()
            group.cancel_scope.cancel()
            if streaming.wire != "gemini":  # its client lets go of a stream later
                with anyio.CancelScope(shield=True):
                    await model.hung_up.wait()
    assert sent.kinds() == ["partial"]
    assert sent.spoken() == ["It costs 120 euros."]


async def test_the_whole_text_is_kept_and_each_piece_of_speech_has_its_kind(streaming: Setup) -> None:
    done = await play(streaming, Say("It costs **120 €**. It is blue."))
    assert done.sent.kinds() == ["partial", "final"]
    first, last = (event.speech for event in done.sent.events)
    assert first is not None
    assert last is not None
    assert (first.text, first.kind) == ("It costs 120 euros.", "fact")
    assert (last.text, last.kind) == ("It is blue.", "final")
    assert done.sent.events[-1].text == "It costs **120 €**. It is blue."
    assert done.sent.events[-1].detail["steps"] == 1
    assert done.sent.events[-1].detail["prompt_tokens"] == 10
    assert done.sent.events[-1].detail["cached_tokens"] == 8
    assert done.sent.events[-1].detail["completion_tokens"] == 5


async def test_what_the_model_thinks_is_neither_said_nor_shown(streaming: Setup) -> None:
    done = await play(
        streaming, calls(double(60), text="Let me see.", thought=SECRET), Say("It is 120.", thought=SECRET)
    )
    assert done.sent.kinds() == ["partial", "tool_started", "tool_finished", "final"]
    assert done.sent.spoken() == ["Let me see.", "Twice 60 is 120."]
    assert done.sent.events[-1].text == "It is 120."
    assert all("should" not in event.text for event in done.sent.events)


async def test_an_answer_without_end_is_cut_and_shown_as_far_as_it_went(setup: Setup) -> None:
    with anyio.fail_after(10):
        done = await play(setup, GoOn(text="This goes on. And it is new. "), profile=SMALL)
    last = done.sent.events[-1]
    assert last.kind == "final"
    assert last.detail["cut"] is True
    assert len(last.text) <= SMALL.answer_chars
    assert done.sent.spoken()[0] == "This goes on."
    assert done.model.hung_up.is_set()


async def test_a_sentence_without_end_is_cut_at_what_can_be_heard(setup: Setup) -> None:
    with anyio.fail_after(10):
        done = await play(setup, GoOn(text="and on "), profile=SMALL)
    assert done.sent.kinds() == ["final"]
    assert 100 < len(done.sent.spoken()[0]) <= 310
    assert done.model.hung_up.is_set()


async def test_thoughts_without_end_are_broken_off(streaming: Setup) -> None:
    if streaming.wire in ("openai", "anthropic"):
        pytest.skip("the server keeps its thoughts, or parts them into blocks that say nothing")
    with anyio.fail_after(10):
        done = await play(streaming, GoOn(thought="hm, "), GoOn(thought="hm, "), profile=SMALL)
    assert done.sent.kinds() == ["failed"]
    assert len(done.model.requests) == 2
    assert done.model.hung_up.is_set()


async def test_an_answer_at_its_limit_of_tokens_does_not_end_in_half_a_sentence(setup: Setup) -> None:
    done = await play(setup, Say("It costs 120 euros. And then it al", finish_reason="length"))
    assert done.sent.spoken() == ["It costs 120 euros."]
    assert done.sent.events[-1].text == "It costs 120 euros. And then it al"
    assert done.sent.events[-1].detail["cut"] is True


async def test_nothing_said_twice_over_is_a_failure_and_is_told(setup: Setup) -> None:
    done = await play(setup, Say(""), Say(""))
    assert done.sent.kinds() == ["failed"]
    assert done.sent.events[-1].detail["reason"] == "no_answer"
    assert len(done.model.requests) == 2
