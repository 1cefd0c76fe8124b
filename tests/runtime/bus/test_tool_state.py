"""What tools said survives the process that was told: a task of the session that goes on elsewhere knows it."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from pydantic import JsonValue

from microturn.background_agent import Control, Emit, ReflexEngine, Worker
from microturn.protocols import ContextPackage, Delegate
from microturn.runtime.bus import BusSettings, open_worker_port
from microturn.runtime.delegations import Delegations
from microturn.runtime.history import History
from microturn.runtime.hub import open_hub
from microturn.runtime.session_port import SessionPort
from microturn.tools import Phrase, ToolRegistry, tool

pytestmark = [pytest.mark.redis, pytest.mark.anyio]


@tool(phrases=[Phrase("weather in {city}")])
async def weather(city: str) -> str:
    """Tell the weather.

    Args:
        city: Where.
    """
    return f"{city}: rain, 9 °C"


class Listens:
    """The engine behind the reflexes: it keeps what it was told that tools had said."""

    def __init__(self) -> None:
        self.known: list[dict[str, JsonValue]] = []

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        self.known.append(package.tool_state)
        await emit("final", text="I see.")


async def ask(intent: str, delegations: Delegations, port: SessionPort) -> None:
    """Hand a task over and take in what comes of it, to its end."""
    task = delegations.submit(Delegate(intent, 0, 800), History(), 1_000, lambda _: {})
    with anyio.fail_after(10):
        while task.is_open:
            for event in port.poll():
                delegations.note(event, 2_000)
            await anyio.sleep(0.01)


async def test_a_task_knows_what_tools_said_in_those_before_it_also_in_another_process(
    settings: BusSettings, tmp_path: Path
) -> None:
    behind = Listens()
    async with (
        open_worker_port(settings) as worker_port,
        open_hub(settings) as first,
        open_hub(settings) as second,
        anyio.create_task_group() as tasks,
    ):
        engine, tools = ReflexEngine(behind, data_dir=tmp_path), ToolRegistry([weather])
        worker = Worker(worker_port, engine, tools, concurrency=1, lease_s=settings.lease_s)
        tasks.start_soon(worker.run)
        port = first.port("session")
        port.enter_nowait(200)
        here = Delegations("session", port)
        await ask("weather in Bergen", here, port)
        await ask("and tomorrow", here, port)

        port, reopened = await second.reopen("session")
        there = Delegations("session", port, reopened=reopened)
        for promise in reopened.ledger.promises:
            for event in promise.events:
                there.recall(event, None)
        await ask("and the day after", there, port)
        worker.drain()
    said: dict[str, JsonValue] = {"arguments": {"city": "bergen"}, "result": "bergen: rain, 9 °C"}
    assert behind.known == [{"weather": {**said, "time_ms": 2_000}}, {"weather": said}]
