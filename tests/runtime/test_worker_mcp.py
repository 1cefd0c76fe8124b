"""A worker has the tools of MCP servers, and starts whatever becomes of these."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from microturn.background_agent import AgentEngine, Control, Emit
from microturn.protocols import ContextPackage, DelegationEvent, UserError
from microturn.runtime.bus import BusSettings, EmbeddedServer, open_delegation_port
from microturn.runtime.worker_service import serve
from microturn.tools import ToolRegistry
from microturn.tools.testing import make_context

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

CRUDE = str(Path(__file__).parents[1] / "tools/mcp/crude_server.py")


class Caller:
    """Calls the one tool of a server and says what came."""

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        result = await tools.call("fine__only", {}, make_context())
        await emit("final", text=f"{result.text}; {sorted(tools.broken)}")


@asynccontextmanager
async def caller(tools: ToolRegistry) -> AsyncIterator[AgentEngine]:
    yield Caller()


async def test_a_worker_calls_the_tool_of_one_server_while_another_does_not_start(
    redis_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = {how: {"command": sys.executable, "args": [CRUDE, how]} for how in ("fine", "exits")}
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": entries}))
    monkeypatch.setenv("MICROTURN_MCP", str(tmp_path / "mcp.json"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    settings = BusSettings(redis_server.url, tenant="mcp")
    stop, ended = anyio.Event(), []
    with anyio.fail_after(15):
        async with open_delegation_port(settings) as port, anyio.create_task_group() as tasks:

            async def work() -> None:
                await serve(settings, caller, ToolRegistry(), stop=stop)

            tasks.start_soon(work)
            await port.submit(make_context().package)
            async for event in port.events():
                if isinstance(event, DelegationEvent) and event.is_terminal:
                    ended.append(event)
                    break
            stop.set()

    assert ended[0].text == "done; ['MCP server exits']"


async def test_a_file_that_is_not_there_is_said_at_the_start(
    redis_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROTURN_MCP", "/nowhere/mcp.json")

    with pytest.raises(UserError, match="MICROTURN_MCP"):
        await serve(BusSettings(redis_server.url, tenant="mcp"), caller, ToolRegistry())
