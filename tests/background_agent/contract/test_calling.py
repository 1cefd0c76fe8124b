"""How an engine calls tools: together where it may, once each, in words that the model can mend, until cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import anyio
import pytest
from pydantic import JsonValue

from microturn.background_agent import Control
from microturn.background_agent.scripted_model import Say, scripted_model
from tests.background_agent.contract.stage import Bench, Setup, calls, double, play
from tests.background_agent.stand_ins import Sent, package

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_calls_that_only_read_run_at_once_and_keep_their_order(streaming: Setup) -> None:
    both = calls(("meet", '{"name": "Ann"}'), ("meet", '{"name": "Bob"}'), text="One moment.")
    with anyio.fail_after(8):
        done = await play(streaming, both, Say("They have met."))
    assert [e.detail["call"] for e in done.sent.of("tool_started")] == [0, 1]
    assert done.sent.spoken()[0] == "One moment."
    told = done.model.told()
    assert told.index("Ann has met") < told.index("Bob has met")
    assert done.sent.kinds()[-1] == "final"


async def test_a_result_is_framed_as_data(setup: Setup) -> None:
    done = await play(setup, calls(("picky", '{"word": "please"}')), Say("Fine."))
    told = done.model.told()
    assert told.count("<result tool=") == 1
    assert told.index("<result tool=") < told.index("thank you") < told.index("</result>")


async def test_calls_with_an_effect_run_one_after_the_other_under_their_own_keys(setup: Setup) -> None:
    both = calls(("erase", '{"name": "a"}'), ("erase", '{"name": "b"}'))
    done = await play(setup, both, Say("Both are gone."), intent="erase the files a and b")
    assert done.bench.began == ["erase a t/0", "erase b t/1"]
    assert [e.kind for e in done.sent.events if e.kind.startswith("tool")] == [
        "tool_started",
        "tool_finished",
        "tool_started",
        "tool_finished",
    ]


async def test_a_cancelled_run_reaches_the_tool_and_leaves_nothing_behind(setup: Setup) -> None:
    sent, bench = Sent(), Bench()
    cancelled_s = 0.0
    before = asyncio.all_tasks()
    async with (
        scripted_model(calls(("wait", '{"seconds": 30}')), wire=setup.wire) as model,
        setup.open(model) as engine,
        anyio.create_task_group() as group,
    ):
        group.start_soon(engine.run, package(), bench.registry(), sent, Control())
        with anyio.fail_after(8):
            await bench.has_begun.wait()
        cancelled_s = anyio.current_time()
        group.cancel_scope.cancel()
    assert len(bench.cancelled_s) == 1
    assert bench.cancelled_s[0] - cancelled_s < 0.5
    assert sent.kinds() == ["tool_started"]
    with anyio.fail_after(2):
        while asyncio.all_tasks() != before:  # what closes a connection may take a turn of the loop
            await anyio.sleep(0.01)


async def test_arguments_that_are_no_json_are_told_and_can_be_mended(streaming: Setup) -> None:
    if streaming.wire == "gemini":
        pytest.skip("this interface cannot have such arguments")
    done = await play(streaming, calls(("double", '{"value": ')), calls(double(4)), Say("Well, 8."))
    assert "not valid JSON" in done.model.told(1)
    assert [e.detail["call"] for e in done.sent.of("tool_started")] == [1]
    assert done.sent.kinds()[-1] == "final"


async def test_arguments_that_do_not_fit_are_told_and_can_be_mended(setup: Setup) -> None:
    done = await play(setup, calls(("double", '{"value": "much"}')), calls(double(4)), Say("Well, 8."))
    assert "Correct the arguments" in done.model.told(1)
    assert done.bench.began == ["double 4"]
    assert done.sent.kinds()[-1] == "final"


async def test_after_two_failed_calls_the_model_must_answer(setup: Setup) -> None:
    script = [calls(("picky", f'{{"word": "{word}"}}')) for word in ("now", "today")]
    done = await play(setup, *script, Say("That did not work."))
    assert may_call(done.model.requests[1])
    assert not may_call(done.model.requests[2])
    assert done.sent.kinds()[-1] == "final"


async def test_a_tool_that_is_not_there_is_told_and_the_run_goes_on(setup: Setup) -> None:
    done = await play(setup, calls(("doubel", '{"value": 4}')), calls(double(4)), Say("Well, 8."))
    assert "doubel" in done.model.told(1)
    assert done.bench.began == ["double 4"]
    assert done.sent.kinds()[-1] == "final"


async def test_a_model_that_repeats_itself_is_made_to_answer(setup: Setup) -> None:
    done = await play(setup, calls(double(4)), calls(double(4)), Say("It makes 8."))
    assert done.bench.began == ["double 4"]
    assert "already" in done.model.told(2)
    assert not may_call(done.model.requests[2])
    assert done.sent.kinds()[-1] == "final"


async def test_a_model_that_never_stops_calling_ends_with_an_apology(setup: Setup) -> None:
    done = await play(setup, *(calls(double(4)) for _ in range(9)))
    assert done.bench.began == ["double 4"]
    assert len(done.model.requests) <= 5
    assert done.sent.kinds()[-1] == "failed"


def may_call(request: Mapping[str, JsonValue]) -> bool:
    """Whether a request lets the model call tools, in the words of any interface."""
    choice = str(request.get("tool_choice") or request.get("toolConfig") or "").lower()
    return "tools" in request and "none" not in choice
