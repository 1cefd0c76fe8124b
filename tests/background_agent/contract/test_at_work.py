"""An engine in the hands of a worker: cancelled, corrected and taken over through a bus."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from microturn.background_agent import AgentEngine, Worker
from microturn.background_agent.scripted_model import Fail, Line, Say, ScriptedModel, scripted_model
from microturn.background_agent.testing import InMemoryWorkerBus
from tests.background_agent.contract.stage import Bench, Setup, calls, double
from tests.background_agent.stand_ins import package

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

LEASE_S = 0.2


@asynccontextmanager
async def at_work(
    setup: Setup, *script: Line, bench: Bench | None = None
) -> AsyncIterator[tuple[InMemoryWorkerBus, ScriptedModel]]:
    """A worker on a scripted model, until the block ends."""
    bus, bench = InMemoryWorkerBus(), bench or Bench()
    async with (
        scripted_model(*script, wire=setup.wire) as model,
        setup.open(model) as engine,
        anyio.create_task_group() as group,
    ):
        group.start_soon(_work, bus, engine, bench)
        with anyio.fail_after(8):
            yield bus, model
        group.cancel_scope.cancel()


async def _work(bus: InMemoryWorkerBus, engine: AgentEngine, bench: Bench) -> None:
    await Worker(bus, engine, bench.registry(), lease_s=LEASE_S).run()


async def test_a_task_is_cancelled_in_the_middle_of_a_tool(setup: Setup) -> None:
    bench = Bench()
    async with at_work(setup, calls(("wait", '{"seconds": 30}')), bench=bench) as (bus, _):
        task = await bus.submit(package())
        await bench.has_begun.wait()
        bus.cancel("t")
        await task.done.wait()
    assert task.kinds() == ["tool_started", "cancelled"]
    assert len(bench.cancelled_s) == 1


async def test_a_task_is_cancelled_while_its_model_is_silent(setup: Setup) -> None:
    async with at_work(setup, Fail("hang", text="It costs 120 euros. It is")) as (bus, _):
        task = await bus.submit(package())
        while not task.events:
            await anyio.sleep(0.01)
        bus.cancel("t")
        await task.done.wait()
    assert task.kinds() == ["partial", "cancelled"]


async def test_a_correction_through_the_bus_changes_the_answer(setup: Setup) -> None:
    script = (Fail("hang", text="The machine costs 120 euros. It is"), Say("The grinder costs 40 euros."))
    async with at_work(setup, *script) as (bus, model):
        task = await bus.submit(package())
        while not task.events:
            await anyio.sleep(0.01)
        assert bus.update("t", "no, the grinder")
        await task.done.wait()
    assert task.kinds() == ["partial", "final"]
    assert task.events[-1].text == "The grinder costs 40 euros."
    assert task.events[-1].revision == 1
    assert "no, the grinder" in model.told()


async def test_a_correction_does_not_wait_for_a_model_that_thinks(setup: Setup) -> None:
    async with at_work(setup, Fail("hang", thought="hm, hm"), Say("The grinder costs 40 euros.")) as (
        bus,
        model,
    ):
        task = await bus.submit(package())
        while not model.requests:
            await anyio.sleep(0.01)
        assert bus.update("t", "no, the grinder")
        await task.done.wait()
    assert task.kinds() == ["final"]
    assert "no, the grinder" in model.told()


async def test_another_attempt_takes_up_where_the_first_was_lost(setup: Setup) -> None:
    bench = Bench()
    script = (calls(double(60)), Fail("hang"), Say("It is 120, and that is a lot."))
    async with at_work(setup, *script, bench=bench) as (bus, model):
        task = await bus.submit(package())
        while len(model.requests) < 2:
            await anyio.sleep(0.01)
        await bus.redeliver("t")
        await task.done.wait()
    assert bench.began == ["double 60"]
    assert task.kinds() == ["tool_started", "tool_finished", "final"]
    assert task.events[-1].attempt == 2
    assert task.spoken()[0] == "Twice 60 is 120."


async def test_a_model_that_is_down_is_told_to_the_user_and_to_operators(setup: Setup) -> None:
    async with at_work(setup, Fail("cut", sends_head=False), Fail("cut", sends_head=False)) as (bus, _):
        task = await bus.submit(package("a private question"))
        await task.done.wait()
    assert task.kinds() == ["failed"]
    assert task.events[-1].detail["reason"] == "ModelDownError"
    assert "private" not in str(task.events[-1].detail)
