"""Where an engine stops, and what it does when the model's server fails."""

from __future__ import annotations

import dataclasses

import anyio
import pytest

from microturn.background_agent import (
    ChatLimits,
    Control,
    ModelBrokeOffError,
    ModelDownError,
    ModelRequestError,
    ModelSlowError,
    RunLimits,
    TokenPrices,
)
from microturn.background_agent.scripted_model import Fail, Refuse, Say
from microturn.background_agent.task_run import COULD_NOT, OUT_OF_TIME
from microturn.protocols import DelegationEvent, UserError
from tests.background_agent.contract.stage import PROFILE, Setup, calls, double, play
from tests.background_agent.contract.test_calling import may_call
from tests.background_agent.stand_ins import Sent

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

CHEAP = TokenPrices(input_usd=100_000.0, output_usd=100_000.0, cached_usd=0.0)
"""With these, an answer of the scripted model costs 0.7 dollars: 2 fresh tokens of the prompt and 5 written ones."""


async def test_the_last_request_must_be_an_answer(setup: Setup) -> None:
    done = await play(setup, *(calls(double(n)) for n in range(9)), limits=RunLimits(requests=3))
    assert len(done.model.requests) == 3
    assert [may_call(request) for request in done.model.requests] == [True, True, False]
    assert done.bench.began == ["double 0", "double 1"]
    assert done.sent.kinds()[-1] == "failed"
    assert done.sent.spoken()[-1] == COULD_NOT
    assert done.sent.events[-1].detail["limit"] == "requests"


async def test_calls_beyond_the_limit_are_not_made(setup: Setup) -> None:
    many = calls(*(double(n) for n in range(5)))
    done = await play(setup, many, Say("That is all I have."), limits=RunLimits(tool_calls=3))
    assert sorted(done.bench.began) == ["double 0", "double 1", "double 2"]
    assert "no more calls are left" in done.model.told(1)
    assert not may_call(done.model.requests[1])
    assert done.sent.events[-1].detail["tool_calls"] == 3
    assert done.sent.kinds()[-1] == "final"


async def test_tokens_run_out_softly_and_then_for_good(setup: Setup) -> None:
    script = [calls(double(n)) for n in range(9)]
    done = await play(setup, *script, limits=RunLimits(tokens=10, reserve_share=0.6))
    assert [may_call(request) for request in done.model.requests] == [True, False]
    assert done.sent.events[-1].detail["limit"] == "tokens"
    assert done.sent.kinds()[-1] == "failed"


async def test_no_request_asks_for_more_tokens_than_are_left(setup: Setup) -> None:
    done = await play(setup, calls(double(1)), Say("Two."), limits=RunLimits(tokens=50))
    assert "50" in done.model.told(0)
    assert "45" in done.model.told(1)
    assert "4000" not in done.model.told(0)


async def test_time_given_to_a_run_ends_it(setup: Setup) -> None:
    with anyio.fail_after(8):
        done = await play(setup, calls(("wait", '{"seconds": 30}')), limits=RunLimits(seconds=0.5))
    assert done.sent.kinds() == ["tool_started", "failed"]
    assert done.sent.spoken() == [OUT_OF_TIME]
    assert len(done.bench.cancelled_s) == 1


async def test_what_the_user_takes_to_answer_is_not_the_time_of_the_run(setup: Setup) -> None:
    sent, answers = Sent(), dict[int, str]()
    control = Control(emitted=sent.events, answers=answers)
    words = iter(["yes", "the red one"])

    async def think_and_answer(question: DelegationEvent) -> None:
        await anyio.sleep(0.8)
        answers[question.seq] = next(words)
        control.notify()

    def hear(event: DelegationEvent) -> None:
        if event.is_question:
            group.start_soon(think_and_answer, event)

    sent.on_event = hear
    script = (
        calls(("send", '{"name": "Bob"}')),
        calls(("choose", '{"what": "colour"}')),
        calls(double(2)),
        Say("Done."),
    )
    async with anyio.create_task_group() as group:
        with anyio.fail_after(12):
            done = await play(setup, *script, control=control, sent=sent, limits=RunLimits(seconds=1.5))
    assert done.bench.began == ["send Bob", "double 2"]
    assert may_call(done.model.requests[2])
    assert done.sent.kinds()[-1] == "final"
    duration_s = done.sent.events[-1].detail["duration_s"]
    assert isinstance(duration_s, float) and duration_s > 1.6  # more than it was given to work


async def test_there_are_no_tools_when_the_time_is_nearly_over(setup: Setup) -> None:
    done = await play(setup, Say("No time."), control=Control(remaining_s=0.0))
    assert not may_call(done.model.requests[0])
    assert done.sent.kinds() == ["final"]


async def test_money_runs_out_softly_and_then_for_good(setup: Setup) -> None:
    script = [calls(double(n)) for n in range(9)]
    done = await play(setup, *script, limits=RunLimits(cost_usd=1.4, reserve_share=0.6), prices=CHEAP)
    assert [may_call(request) for request in done.model.requests] == [True, False]
    assert done.sent.events[-1].detail["cost_usd"] == pytest.approx(1.4)
    assert done.sent.events[-1].detail["limit"] == "cost_usd"


async def test_a_limit_of_cost_without_a_price_is_an_error_of_the_setting(setup: Setup) -> None:
    with pytest.raises((ExceptionGroup, ValueError, UserError)) as raised:
        await play(setup, Say("Two."), limits=RunLimits(cost_usd=1.0))
    error: BaseException = raised.value
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    assert "prices" in str(error)


async def test_what_an_answer_cost_is_told(setup: Setup) -> None:
    done = await play(setup, Say("Two."), prices=CHEAP)
    assert done.sent.events[-1].detail["cost_usd"] == pytest.approx(0.7)


async def test_a_busy_server_is_asked_again(setup: Setup) -> None:
    done = await play(setup, Refuse(503), Say("There it is."))
    assert len(done.model.requests) == 2
    assert done.sent.spoken() == ["There it is."]


async def test_a_server_that_stays_busy_is_down(setup: Setup) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        await play(setup, *(Refuse(503) for _ in range(4)))
    assert raised.group_contains(ModelDownError)


@pytest.mark.parametrize("status", [401, 404, 400])
async def test_a_refused_request_is_an_error_of_the_setting(setup: Setup, status: int) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        await play(setup, Refuse(status), intent="a private question")
    assert raised.group_contains(ModelRequestError)
    error = raised.value.exceptions[0]
    assert "private" not in str(error)
    assert "sk-secret" not in str(error)


@pytest.mark.parametrize("how", ["cut", "end", "error"])
async def test_an_answer_that_breaks_off_is_not_taken_for_whole(setup: Setup, how: str) -> None:
    sent = Sent()
    line = Fail(how, text="It costs 120 euros. It is")  # type: ignore[arg-type]  # the three are among its four
    with pytest.raises(ExceptionGroup) as raised:
        await play(setup, line, Say("never asked for"), sent=sent)
    assert raised.group_contains(ModelBrokeOffError)
    assert sent.spoken() == ["It costs 120 euros."]
    assert sent.kinds() == ["partial"]


async def test_a_silent_server_is_slow(setup: Setup) -> None:
    impatient = dataclasses.replace(
        PROFILE, limits=ChatLimits(connect_s=2.0, first_byte_s=0.4, silence_s=0.4, retries=0)
    )
    with pytest.raises(ExceptionGroup) as raised:
        await play(setup, Fail("hang", text="It costs"), profile=impatient)
    assert raised.group_contains(ModelSlowError)
