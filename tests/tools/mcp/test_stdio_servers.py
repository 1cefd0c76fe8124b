"""Servers that are processes of their own: their tools work, and whatever a server does is a result or a report."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import anyio
import opentelemetry.trace
import pytest
from pydantic import JsonValue

from microturn.tools import ToolContext, ToolRegistry
from microturn.tools.mcp import Pins, StdioServer
from microturn.tools.mcp import connection as connections
from tests.tools.mcp.conftest import Opens, crude

pytestmark = pytest.mark.unit

ADDS: dict[str, JsonValue] = {"a": 2, "b": 3}


async def until(path: Path) -> None:
    with anyio.fail_after(5):
        while not path.exists():
            await anyio.sleep(0.02)


@pytest.mark.anyio
async def test_the_tools_of_a_server_work_like_any_other(
    shelf: StdioServer, opens: Opens, context: ToolContext, progress: list[str]
) -> None:
    registry = ToolRegistry()
    async with opens(shelf=shelf) as servers:
        servers.add_to(registry)
        specs = {spec.name: spec for spec in registry.specs()}
        added = await registry.call("shelf__add", ADDS, context)
        wrong = await registry.call("shelf__add", {"a": "two secrets", "c": 1}, context)
        refused = await registry.call("shelf__refuse", {}, context)
        await registry.call("shelf__steps", {}, context)
        picture = await registry.call("shelf__picture", {}, context)
        table = await registry.call("shelf__table", {}, context)
        many = await registry.call("shelf__many_words", {"megabytes": 1}, context)
        problems = servers.problems

    assert (problems, registry.broken) == ({}, {})
    assert specs["shelf__add"].side_effect == "none" and specs["shelf__add"].egress == ()
    assert specs["shelf__die_once"].side_effect == "idempotent"
    assert specs["shelf__put"].side_effect == "unsafe" and specs["shelf__put"].egress == ("*",)
    assert specs["shelf__add"].description == "Add two whole numbers."
    assert specs["shelf__add"].parameters["required"] == ["a", "b"]
    assert (added.text, added.is_error) == ("5", False)
    assert wrong.is_error and wrong.retryable and "`a`" in wrong.text and "`b`" in wrong.text
    assert "secrets" not in wrong.text
    assert refused.is_error and refused.retryable and "the shelf is full" in refused.text
    assert progress == ["Half of the shelf is counted.", "All is counted."]
    assert picture.text.splitlines() == [
        "the shelf",
        "[image, image/png, 300 bytes, not shown]",
        "[link to catalogue: file:///catalogue.txt]",
    ]
    assert '"shelves"' in table.text
    assert many.truncated and len(many.text.encode()) <= 16_384


@pytest.mark.anyio
async def test_cancelling_a_call_reaches_the_tool_and_the_trace_goes_along(
    shelf: StdioServer, opens: Opens, context: ToolContext, tmp_path: Path
) -> None:
    registry = ToolRegistry()
    seconds: dict[str, JsonValue] = {"seconds": 30}
    span = opentelemetry.trace.SpanContext(0xABC, 0xDEF, is_remote=False)
    async with opens(shelf=shelf) as servers:
        servers.add_to(registry)
        with opentelemetry.trace.use_span(opentelemetry.trace.NonRecordingSpan(span)):
            trace = await registry.call("shelf__trace_parent", {}, context)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(registry.call, "shelf__stay", seconds, context)
            await until(tmp_path / "began")
            cancelled_s = anyio.current_time()
            tasks.cancel_scope.cancel()
        await until(tmp_path / "cancelled")
        took_s = anyio.current_time() - cancelled_s
        after = await registry.call("shelf__add", ADDS, context)

    assert f"{0xABC:032x}" in trace.text
    assert took_s < 1.0
    assert after.text == "5"


@pytest.mark.anyio
async def test_a_server_that_dies_comes_back_and_only_repeatable_calls_are_repeated(
    shelf: StdioServer, opens: Opens, context: ToolContext, tmp_path: Path
) -> None:
    registry = ToolRegistry()
    async with opens(shelf=shelf) as servers:
        servers.add_to(registry)
        unsafe = await registry.call("shelf__put", {"thing": "bomb"}, context)
        back = await registry.call("shelf__add", ADDS, context)
        repeated = await registry.call("shelf__die_once", {}, context)
        problems = servers.problems

    assert unsafe.is_error and "whether it was done is not known" in unsafe.text
    assert (tmp_path / "things").read_text() == "bomb\n"
    assert (back.text, repeated.text, problems) == ("5", "alive", {})


@pytest.mark.anyio
async def test_a_list_that_changes_while_it_runs_stops_the_tool_that_changed(
    shelf: StdioServer, opens: Opens, context: ToolContext
) -> None:
    registry = ToolRegistry()
    async with opens(shelf=shelf) as servers:
        servers.add_to(registry)
        await registry.call("shelf__repaint", {}, context)
        with anyio.fail_after(5):
            while not servers.problems:
                await anyio.sleep(0.02)
        changed = await registry.call("shelf__add", ADDS, context)
        other = await registry.call("shelf__table", {}, context)

    assert changed.is_error and "changed what this tool is" in changed.text
    assert not other.is_error


@pytest.mark.anyio
async def test_a_list_that_changed_since_the_last_start_is_not_used_until_it_is_trusted(
    shelf: StdioServer, opens: Opens, pins: Pins, context: ToolContext
) -> None:
    registry = ToolRegistry()
    async with opens(shelf=shelf):
        accepted = pins.read("shelf")
    other = shelf.model_copy(update={"env": {"SHELF_FACE": "Add numbers and send them to me."}})
    async with opens(shelf=other) as servers:
        servers.add_to(registry)
        spec = registry.get("shelf__add").spec
        refused = await registry.call("shelf__add", ADDS, context)

    assert accepted is not None and pins.read("shelf") == accepted
    assert spec.description == "Add two whole numbers."
    assert "1 changed" in registry.broken["MCP server shelf"]
    assert "microturn tools trust shelf" in registry.broken["MCP server shelf"]
    assert refused.is_error


@pytest.mark.anyio
async def test_a_message_without_end_is_cut_off_and_the_server_comes_back(
    opens: Opens, context: ToolContext
) -> None:
    registry = ToolRegistry()
    async with opens(crude=crude("garbage")) as servers:
        servers.add_to(registry)
        result = await registry.call("crude__only", {}, context)

    assert result.is_error and "8,388,608 bytes" in result.text


@pytest.mark.anyio
async def test_a_flood_of_progress_does_not_pile_up(opens: Opens, context: ToolContext) -> None:
    waiting: list[str] = []

    async def slow(text: str) -> None:
        waiting.append(text)
        await anyio.sleep_forever()

    registry = ToolRegistry()
    async with opens(crude=crude("chatty")) as servers:
        servers.add_to(registry)
        result = await registry.call("crude__only", {}, replace(context, progress=slow))

    assert result.text == "done"
    assert waiting == [f"Step {step}." for step in range(8)]


@pytest.mark.anyio
async def test_a_schema_of_results_cannot_keep_the_worker_busy(opens: Opens, context: ToolContext) -> None:
    registry = ToolRegistry()
    async with opens(crude=crude("hostile-pattern")) as servers:
        servers.add_to(registry)
        result = await registry.call("crude__only", {}, context)

    assert (result.text, result.is_error) == ("done", False)


@pytest.mark.anyio
async def test_servers_that_do_not_start_are_reported_and_stop_nothing(
    opens: Opens, context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "START_LIMIT_S", 1.5)
    registry = ToolRegistry()
    servers = opens(
        missing=StdioServer(command="no-such-program-anywhere"),
        exits=crude("exits"),
        silent=crude("silent"),
        fine=crude("prints"),
    )
    async with servers:
        servers.add_to(registry)
        result = await registry.call("fine__only", {}, context)

    assert (result.text, result.is_error) == ("done", False)
    assert "no-such-program-anywhere" in registry.broken["MCP server missing"]
    assert "the shelf key is missing" in registry.broken["MCP server exits"]
    assert "1.5 s" in registry.broken["MCP server silent"]
    assert [spec.name for spec in registry.specs()] == ["fine__only"]


@pytest.mark.anyio
async def test_tools_of_a_known_server_that_is_away_fail_with_a_reason(
    opens: Opens, context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "RECONNECT_WAIT_S", 0.3)
    registry = ToolRegistry()
    async with opens(crude=crude("fine")):
        pass
    async with opens(crude=crude("exits")) as servers:
        servers.add_to(registry)
        result = await registry.call("crude__only", {}, context)

    assert result.is_error and not result.retryable and "crude cannot be reached now" in result.text


@pytest.mark.anyio
async def test_tools_that_cannot_be_used_are_left_out_and_names_are_made_to_fit(
    opens: Opens, context: ToolContext
) -> None:
    registry = ToolRegistry()
    broken = {how: crude(f"{how}-schema") for how in ("bad", "huge", "list")}
    servers = opens(**broken, **{"My Names!": crude("names")})
    async with servers:
        servers.add_to(registry)
        names = [spec.name for spec in registry.specs()]
        result = await registry.call(names[0], {}, context)
        description = registry.get(names[0]).spec.description

    assert "no JSON schema" in registry.broken["MCP server bad"]
    assert "longer than" in registry.broken["MCP server huge"]
    assert "ListToolsResult" in registry.broken["MCP server list"]
    assert len(names) == len(set(names)) == 4 and all(name.startswith("my_names___") for name in names)
    assert "my_names___9_lives" in names
    assert result.text == "done"
    assert description == "A tool."


@pytest.mark.anyio
async def test_a_server_that_will_not_end_is_ended(opens: Opens, tmp_path: Path) -> None:
    began_s = anyio.current_time()
    async with opens(crude=crude("stubborn")):
        pass

    assert anyio.current_time() - began_s < 8


@pytest.mark.anyio
async def test_an_approval_and_a_choice_of_tools_are_taken_from_the_configuration(opens: Opens) -> None:
    entry = crude("names", tools=["get_item"], approval={"get_item": "Shall I get it?"}, timeout_s=3)
    wrong = crude("fine", approval={"only": "Shall I take {what}?"})
    registry = ToolRegistry()
    async with opens(a=entry, b=wrong) as servers:
        servers.add_to(registry)

    (spec,) = registry.specs()
    assert spec.name.startswith("a__get_item") and spec.timeout_s == 3
    assert spec.approval == "Shall I get it?"
    assert "what" in registry.broken["MCP server b"]


def test_without_the_extra_all_servers_are_reported_and_nothing_stops(shelf: StdioServer) -> None:
    program = """
import sys
sys.modules["mcp.client.client"] = None
import anyio
from microturn.tools import ToolRegistry
from microturn.tools.mcp import McpConfig, McpServers, Pins, StdioServer
async def main():
    registry = ToolRegistry()
    async with McpServers(McpConfig({"shelf": StdioServer(command="x")})) as servers:
        servers.add_to(registry)
    print(registry.broken)
anyio.run(main)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "MCP server shelf" in done.stdout and "pip install 'microturn[mcp]'" in done.stdout


@pytest.mark.anyio
async def test_an_error_inside_comes_out_as_it_is(opens: Opens) -> None:
    with pytest.raises(KeyError):
        async with opens(crude=crude("fine")):
            raise KeyError


def test_without_servers_the_sdk_is_not_imported() -> None:
    program = "import sys, microturn.tools.mcp; print('mcp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
