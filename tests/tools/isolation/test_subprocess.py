"""Tools in processes of their own: how they are called, kept warm, stopped and replaced."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

import anyio
import psutil
import pytest
from pydantic import JsonValue

from microturn.tools import ToolContext, ToolRegistry, ToolResult
from microturn.tools.isolation import pool
from microturn.tools.isolation.process import GRACE_S
from tests.tools.isolation import isolated_tools as tools

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

ROOT = Path(__file__).parents[3]


def children() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if each.status() != psutil.STATUS_ZOMBIE]


async def test_a_process_is_kept_warm_and_ended_with_the_registry(context: ToolContext) -> None:
    before = len(children())
    async with ToolRegistry([tools.process_number]) as registry:
        first = await registry.call("process_number", {"text": "here"}, context)
        second = await registry.call("process_number", {}, context)
        assert first.text == second.text and first.text.isdigit()
        assert first.spoken == "It is here."
    assert len(children()) == before


async def test_without_the_context_manager_each_call_has_its_own_process(context: ToolContext) -> None:
    before = len(children())
    registry = ToolRegistry([tools.process_number])

    first = await registry.call("process_number", {}, context)
    second = await registry.call("process_number", {}, context)

    assert first.text != second.text
    assert len(children()) == before


async def test_two_calls_at_once_run_in_two_processes(context: ToolContext) -> None:
    texts: list[str] = []

    async with ToolRegistry([tools.process_number]) as registry:

        async def call() -> None:
            texts.append((await registry.call("process_number", {}, context)).text)

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            group.start_soon(call)
    assert len(set(texts)) == 2


async def test_a_context_works_across_the_pipe(context: ToolContext, heard: list[str]) -> None:
    async with ToolRegistry([tools.report]) as registry:
        result = await registry.call("report", {}, context)

    assert heard == ["progress: half way", "say: A word.", "ask: Which one?"]
    assert result.text == "the blue one try a tool task/0 data"


MISDEEDS = (
    ("retry", "give another", True),
    ("failed", "the shop is closed", False),
    ("raise", "internal error (ValueError)", False),
    ("exit", "internal error (SystemExit)", False),
    ("crash", "its process ended", False),
    ("segfault", "its process ended", False),
    ("forge", "its process", False),
)


async def test_whatever_a_tool_does_its_call_has_a_result_and_the_next_one_works(
    context: ToolContext, caplog: pytest.LogCaptureFixture
) -> None:
    async with ToolRegistry([tools.misbehave]) as registry:
        with caplog.at_level(logging.DEBUG):
            for how, text, retryable in MISDEEDS:
                failed = await registry.call("misbehave", {"how": how}, context)
                fine = await registry.call("misbehave", {"how": "nothing"}, context)

                assert failed.is_error and text in failed.text and failed.retryable is retryable, how
                assert (fine.text, fine.is_error) == ("nothing", False), how
                assert "secret" not in failed.text
    assert "secret" not in caplog.text


async def test_wrong_arguments_start_no_process(context: ToolContext) -> None:
    before = len(children())
    async with ToolRegistry([tools.misbehave]) as registry:
        result = await registry.call("misbehave", {"hwo": "x"}, context)
        assert result.retryable and "`how`" in result.text
        assert len(children()) == before


async def test_a_tool_is_told_that_its_time_is_up_and_its_process_stays_warm(
    context: ToolContext, tmp_path: Path
) -> None:
    async with ToolRegistry([tools.wait_for_ever]) as registry:
        began_s = time.monotonic()
        result = await registry.call("wait_for_ever", {"note": str(tmp_path / "note")}, context)
        assert result.is_error and "0.7 seconds" in result.text
        assert time.monotonic() - began_s < 5
        number = children()[-1].pid
        await registry.call("wait_for_ever", {"note": str(tmp_path / "note")}, context)
        assert children()[-1].pid == number


async def test_a_cancellation_reaches_the_tool_at_once(context: ToolContext, tmp_path: Path) -> None:
    note = tmp_path / "note"
    async with ToolRegistry([tools.wait_for_ever]) as registry:
        await registry.warm_up("wait_for_ever")
        async with anyio.create_task_group() as group:
            arguments: dict[str, JsonValue] = {"note": str(note)}
            group.start_soon(registry.call, "wait_for_ever", arguments, context)
            await anyio.sleep(0.3)
            cancelled_s = time.monotonic()
            group.cancel_scope.cancel()
        assert time.monotonic() - cancelled_s < GRACE_S + 1

    assert float(note.read_text()) - cancelled_s < 1


async def test_a_flood_of_reports_ends_the_call(context: ToolContext, heard: list[str]) -> None:
    async with ToolRegistry([tools.report_without_end]) as registry:
        result = await registry.call("report_without_end", {}, context)

    assert result.is_error and "more than 1000 times" in result.text
    assert len(heard) <= 1000


async def test_processes_that_nobody_needs_are_ended(
    context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microturn.tools.isolation.tiers.IDLE_LIMIT_S", 0.05)
    monkeypatch.setattr("microturn.tools.isolation.tiers._LOOK_EVERY_S", 0.02)
    before = len(children())
    async with ToolRegistry([tools.nothing]) as registry:
        await registry.call("nothing", {}, context)
        with anyio.fail_after(10):
            while len(children()) > before:
                await anyio.sleep(0.02)
        assert (await registry.call("nothing", {}, context)).text == "nothing"


async def test_a_process_is_replaced_after_many_calls(
    context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microturn.tools.isolation.tiers.CALLS_OF_A_CHILD", 2)
    assert pool.CALLS_OF_A_CHILD > 2
    async with ToolRegistry([tools.process_number]) as registry:
        texts = [(await registry.call("process_number", {}, context)).text for _ in range(4)]
    assert texts[0] == texts[1] != texts[2] == texts[3]


async def test_other_programs_need_a_permission(context: ToolContext) -> None:
    registry = ToolRegistry([tools.run_echo, tools.harm], granted=frozenset({"processes"}))
    async with registry:
        assert (await registry.call("run_echo", {}, context)).text == "ran\n"
        assert "PermissionError" in (await registry.call("harm", {"how": "program"}, context)).text


async def test_a_call_that_outlives_the_registry_ends_with_an_error_and_leaves_no_process(
    context: ToolContext, tmp_path: Path
) -> None:
    before = len(children())
    results: list[ToolResult] = []

    async def call(registry: ToolRegistry) -> None:
        arguments: dict[str, JsonValue] = {"note": str(tmp_path / "note")}
        results.append(await registry.call("wait_for_ever", arguments, context))

    async with anyio.create_task_group() as group, ToolRegistry([tools.wait_for_ever]) as registry:
        await registry.warm_up("wait_for_ever")
        group.start_soon(call, registry)
        await anyio.sleep(0.1)
    assert results[0].is_error
    assert len(children()) == before


async def test_leaving_at_any_moment_of_a_start_leaves_no_process(context: ToolContext) -> None:
    before = len(children())
    for wait_s in (0.0, 0.001, 0.01, 0.05):
        with anyio.move_on_after(wait_s):
            async with ToolRegistry([tools.nothing]) as registry:
                await registry.call("nothing", {}, context)
    assert len(children()) == before


async def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import anyio, os, sys\n"
        f"sys.path[:0] = {[str(ROOT)]!r}\n"
        "from microturn.tools.isolation.launch import subprocess_launch\n"
        "from microturn.tools.isolation.limits import ResourceLimits\n"
        "from microturn.tools.isolation.process import Child\n"
        "from microturn.tools.isolation.target import Target\n"
        "from tests.tools.isolation.isolated_tools import nothing\n"
        "async def main():\n"
        "    child = await Child.start(subprocess_launch(Target.of(nothing), ResourceLimits(), ()))\n"
        "    print(child._process.pid, flush=True)\n"
        "    await anyio.sleep(30)\n"
        "anyio.run(main)\n"
    )
    async with await anyio.open_process([sys.executable, "-c", program]) as parent:
        assert parent.stdout is not None
        number = int(await parent.stdout.receive())
        assert psutil.pid_exists(number)
        parent.kill()
    with anyio.fail_after(10):
        while psutil.pid_exists(number) and psutil.Process(number).status() != psutil.STATUS_ZOMBIE:
            await anyio.sleep(0.02)
