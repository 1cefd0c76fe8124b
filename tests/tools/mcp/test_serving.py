"""Our tools served to an MCP client: here the client is ours too, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest
from mcp import Client

from microturn.protocols import Speech, UserError
from microturn.tools import ToolContext, ToolRegistry, tool
from microturn.tools.mcp import HttpServer
from microturn.tools.mcp.server import ToolServer
from tests.tools.mcp.conftest import Opens

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

ENDED: list[str] = []


@tool
async def look(context: ToolContext, where: str) -> str:
    """Look somewhere.

    Args:
        where: Where to look.
    """
    await context.progress("I am looking.")
    await context.say(Speech(text="I see it."))
    return f"nothing {where}"


@tool(side_effect="unsafe", egress=("*",))
async def remind(context: ToolContext) -> str:
    """Speak later."""
    await context.say(Speech(text="Now.", not_before_ms=5_000))
    return "never said"


@tool(approval="Shall I sell it?")
async def sell() -> str:
    """Sell everything."""
    return "sold"


@tool(timeout_s=30)
async def stay() -> str:
    """Stay."""
    try:
        await anyio.sleep(30)
    finally:
        ENDED.append("stay")
    return ""


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[str]:
    """Serve these tools on a free port; yield the address."""
    addresses: list[str] = []
    is_ready = anyio.Event()

    def ready(address: str) -> None:
        addresses.append(address)
        is_ready.set()

    server = ToolServer(ToolRegistry([look, remind, sell, stay]), folder)
    assert server.withheld == ("sell",)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.over_http, 0, ready)
        await is_ready.wait()
        yield addresses[0]
        tasks.cancel_scope.cancel()


async def test_calls_go_through_the_registry_with_progress_hints_and_cancellation(
    tmp_path: Path, opens: Opens, context: ToolContext, progress: list[str]
) -> None:
    registry = ToolRegistry()
    async with serving(tmp_path) as address, opens(us=HttpServer(url=address)) as servers:
        servers.add_to(registry)
        specs = {spec.name: spec for spec in registry.specs()}
        looked = await registry.call("us__look", {"where": "there"}, context)
        later = await registry.call("us__remind", {}, context)
        wrong = await registry.call("us__look", {}, context)
        with anyio.move_on_after(0.3):
            await registry.call("us__stay", {}, context)
        with anyio.fail_after(5):
            while not ENDED:
                await anyio.sleep(0.02)

    assert registry.broken == {}
    assert {name: spec.side_effect for name, spec in specs.items()} == {
        "us__look": "none",
        "us__remind": "unsafe",
        "us__stay": "none",
    }
    assert looked.text == "nothing there"
    assert progress == ["I am looking.", "I see it."]
    assert later.is_error and "needs a conversation" in later.text
    assert wrong.is_error and "`where`" in wrong.text


async def test_a_tool_that_asks_for_approval_is_neither_shown_nor_run(tmp_path: Path) -> None:
    async with serving(tmp_path) as address, Client(address) as client:
        shown = [each.name for each in (await client.list_tools()).tools]
        result = await client.call_tool("sell", {})

    assert shown == ["look", "remind", "stay"]
    assert result.is_error and "sold" not in str(result.content)


async def test_requests_for_another_host_are_refused(tmp_path: Path) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accept = {"accept": "application/json, text/event-stream"}
    async with serving(tmp_path) as address, httpx.AsyncClient() as client:
        foreign = await client.post(address, json=body, headers=accept | {"host": "evil.example"})
        page = await client.post(address, json=body, headers=accept | {"origin": "https://evil.example"})

    assert address.startswith("http://127.0.0.1:")
    assert foreign.status_code >= 400 and page.status_code >= 400


async def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    async with serving(tmp_path) as address:
        port = int(address.split(":")[2].split("/")[0])
        with pytest.raises(UserError, match=f"port {port}"):
            await ToolServer(ToolRegistry(), tmp_path).over_http(port)
