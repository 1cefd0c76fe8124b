"""The registry: finding tools, and calling them within their limits whatever they do."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint

import anyio
import anyio.lowlevel
import pytest
from pydantic import BaseModel

from microturn.protocols import Isolation, Speech, UserError
from microturn.tools import Spoken, ToolContext, ToolFailed, ToolRegistry, ToolRetry, UnknownToolError, tool
from microturn.tools.breaker import FAILURES
from microturn.tools.builtin import read_artifact
from microturn.tools.slots import CALLS_OF_A_TASK

pytestmark = pytest.mark.unit


@tool
async def echo(text: str, times: int = 1) -> str:
    """Repeat text."""
    return text * times


@tool
async def shout(text: str) -> Spoken:
    """Say it loudly."""
    return Spoken(text=text.upper(), say=f"{text}\n  very\x07 loud")


@tool
async def fails(how: str) -> str:
    """Fail in some way."""
    if how == "retry":
        raise ToolRetry("give a larger number")
    if how == "failed":
        raise ToolFailed("the shop is closed")
    if how == "exit":
        sys.exit(3)
    raise ValueError(f"secret {how}")


@tool(timeout_s=0.01)
async def hangs() -> str:
    """Never come back."""
    await anyio.sleep_forever()
    return "never"


@tool(max_result_bytes=1000)
async def floods(size: int, letter: str = "x") -> str:
    """Return a lot."""
    return letter * size


@pytest.mark.anyio
async def test_a_call_is_validated_converted_and_answered(context: ToolContext) -> None:
    result = await ToolRegistry([echo]).call("echo", {"text": "ab", "times": "2"}, context)

    assert (result.text, result.is_error, result.truncated, result.spoken) == ("abab", False, False, None)


@pytest.mark.anyio
async def test_wrong_arguments_name_the_fields_but_not_their_values(context: ToolContext) -> None:
    result = await ToolRegistry([echo]).call("echo", {"times": "many secrets", "txt": "a"}, context)

    assert result.is_error and result.retryable
    assert all(field in result.text for field in ("`text`", "`times`", "`txt`"))
    assert "secrets" not in result.text


@pytest.mark.anyio
async def test_an_unknown_tool_is_an_error_with_near_names(context: ToolContext) -> None:
    registry = ToolRegistry([echo, shout])

    result = await registry.call("ecko", {}, context)

    assert result.is_error and "`echo`" in result.text and "shout" not in result.text
    with pytest.raises(UnknownToolError) as caught:
        registry.get("ecko")
    assert caught.value.near == ("echo",)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("how", "text", "retryable"),
    [
        ("retry", "give a larger number", True),
        ("failed", "the shop is closed", False),
        ("exit", "SystemExit", False),
        ("other", "ValueError", False),
    ],
)
async def test_a_tool_that_raises_gives_an_error_result(
    how: str, text: str, retryable: bool, context: ToolContext, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        result = await ToolRegistry([fails]).call("fails", {"how": how}, context)

    assert result.is_error and text in result.text and result.retryable is retryable
    assert "secret" not in result.text + caplog.text


@pytest.mark.anyio
async def test_a_tool_that_hangs_is_stopped(context: ToolContext) -> None:
    result = await ToolRegistry([hangs]).call("hangs", {}, context)

    assert result.is_error and "0.01 seconds" in result.text


@pytest.mark.anyio
async def test_a_hundred_megabytes_are_cut_to_head_and_tail(context: ToolContext) -> None:
    result = await ToolRegistry([floods]).call("floods", {"size": 100_000_000}, context)

    assert result.truncated and not result.is_error
    assert len(result.text.encode()) <= 1000
    assert (
        result.text.startswith("xxx")
        and f'xxx\n[The whole result is kept: read_artifact(artifact="{result.artifact}")' in result.text
    )
    left_out = 100_000_000 - result.text.count("x")
    assert f"[... {left_out} bytes left out ...]" in result.text


@pytest.mark.anyio
async def test_being_cancelled_from_outside_passes_through(context: ToolContext) -> None:
    reached = False

    @tool
    async def waits() -> str:
        """Wait."""
        nonlocal reached
        reached = True
        await anyio.sleep_forever()
        return ""

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(ToolRegistry([waits]).call, "waits", {}, context)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()

    assert reached and scope.cancelled_caught


@pytest.mark.anyio
async def test_only_so_many_calls_run_at_once_and_all_are_served(context: ToolContext) -> None:
    running = peak = 0

    @tool(max_concurrency=2)
    async def counted() -> str:
        """Count who runs."""
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        running -= 1
        return "served"

    registry = ToolRegistry([counted])
    results: list[str] = []

    async def call() -> None:
        results.append((await registry.call("counted", {}, context)).text)

    async with anyio.create_task_group() as group:
        for _ in range(7):
            group.start_soon(call)

    assert (peak, results) == (2, ["served"] * 7)


@pytest.mark.anyio
async def test_a_call_that_finds_no_free_slot_in_time_is_told_so(context: ToolContext) -> None:
    release = anyio.Event()

    @tool(max_concurrency=1, timeout_s=0.02)
    async def stubborn() -> str:
        """Hold the slot in spite of the time limit."""
        with anyio.CancelScope(shield=True):
            await release.wait()
        return "done"

    registry = ToolRegistry([stubborn])
    async with anyio.create_task_group() as group:
        group.start_soon(registry.call, "stubborn", {}, context)
        await anyio.wait_all_tasks_blocked()
        second = await registry.call("stubborn", {}, context)
        release.set()

    assert second.is_error and second.retryable and "busy" in second.text


@pytest.mark.anyio
async def test_results_may_be_models_dictionaries_nothing_or_spoken(context: ToolContext) -> None:
    class Point(BaseModel):
        x: int

    @tool
    async def returns(what: str) -> object:
        """Return something."""
        values: dict[str, object] = {
            "model": Point(x=1),
            "dict": {"a": [1, None]},
            "none": None,
            "odd": object(),
        }
        return values[what]

    registry = ToolRegistry([returns, shout])
    texts = [(await registry.call("returns", {"what": w}, context)).text for w in ("model", "dict", "none")]
    odd = await registry.call("returns", {"what": "odd"}, context)
    loud = await registry.call("shout", {"text": "hi"}, context)

    assert texts == ['{"x":1}', '{"a":[1,null]}', "Done."]
    assert odd.is_error
    assert (loud.text, loud.spoken) == ("HI", "hi very loud")


@pytest.mark.anyio
async def test_control_and_direction_characters_are_taken_out(context: ToolContext) -> None:
    text = "a\x00b\x1b[31mc\u202ed\u2066e\U000e0041f\ud800g\r\nh\ti\u200dj"

    result = await ToolRegistry([echo]).call("echo", {"text": text}, context)

    assert result.text == "abcdef\ufffdg\nh\ti\u200dj"


@pytest.mark.anyio
async def test_a_tool_reports_progress_and_speech_through_its_context(
    context: ToolContext, progress: list[str], said: list[Speech]
) -> None:
    @tool
    async def talks(who: str, me: ToolContext) -> str:
        """Report."""
        await me.progress("half\x00 way")
        await me.say(Speech(text="soon\u202e", not_before_ms=me.package.said_end_ms + 1000))
        return f"{who} {me.idempotency_key}"

    result = await ToolRegistry([talks]).call("talks", {"who": "x"}, replace(context, idempotency_key="t/7"))

    assert result.text == "x t/7"
    assert progress == ["half way"]
    assert said == [Speech(text="soon", not_before_ms=6000)]
    assert "me" not in str(talks.spec.parameters)


def test_two_tools_of_one_name_are_refused_unless_one_replaces_the_other() -> None:
    @tool(name="echo")
    async def other() -> str:
        """Be another."""
        return ""

    registry = ToolRegistry([echo, shout])
    with pytest.raises(UserError, match="already"):
        registry.add(other)
    registry.add(other, replace=True)

    assert registry.get("echo") is other
    assert [spec.name for spec in registry.specs()] == ["echo", "shout"]


@pytest.mark.parametrize("isolation", ["subprocess", "sandbox"])
def test_a_tool_that_a_child_process_could_not_find_is_refused(isolation: Isolation) -> None:
    @tool(isolation=isolation)
    async def wild() -> str:
        """Run alone."""
        return ""

    with pytest.raises(UserError, match="inside of a function"):
        ToolRegistry([wild])


def test_a_tool_without_its_permissions_is_refused_with_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    @tool(permissions=("mail", "files"))
    async def post() -> str:
        """Send something."""
        return ""

    monkeypatch.setenv("MICROTURN_PERMISSIONS", "files, camera")
    with pytest.raises(UserError, match="MICROTURN_PERMISSIONS=camera,files,mail"):
        ToolRegistry([post])
    with pytest.raises(UserError, match="`files`, `mail`"):
        ToolRegistry([post], granted=frozenset())
    monkeypatch.setenv("MICROTURN_PERMISSIONS", "mail,files")
    assert [spec.name for spec in ToolRegistry([post]).specs()] == ["post"]


def test_a_tool_that_was_taken_out_is_unknown_and_its_name_is_free() -> None:
    @tool(phrases=["knock on {door}"])
    async def knock(door: str) -> str:
        """Knock.

        Args:
            door: Where.
        """
        return door

    registry = ToolRegistry([knock])
    registry.remove("knock")
    assert registry.specs() == [] and registry.matches("knock on wood") == []
    with pytest.raises(UnknownToolError, match="'knock'"):
        registry.remove("knock")
    registry.add(knock)
    assert [match.tool for match in registry.matches("knock on wood")] == ["knock"]


@pytest.mark.anyio
async def test_a_tool_that_runs_out_of_time_again_and_again_is_left_alone(context: ToolContext) -> None:
    registry = ToolRegistry([hangs, echo])

    texts = [(await registry.call("hangs", {}, context)).text for _ in range(FAILURES + 1)]

    assert all("0.01 seconds" in text for text in texts[:FAILURES])
    assert "left alone" in texts[FAILURES]
    assert not (await registry.call("echo", {"text": "a"}, context)).is_error


@pytest.mark.anyio
async def test_one_task_gets_only_so_many_calls_at_once_and_others_get_theirs(context: ToolContext) -> None:
    running: dict[str, int] = {}
    peak: dict[str, int] = {}

    @tool(max_concurrency=100)
    async def counted(context: ToolContext) -> str:
        """Count who runs."""
        task_id = context.package.task_id
        running[task_id] = running.get(task_id, 0) + 1
        peak[task_id] = max(peak.get(task_id, 0), running[task_id])
        await anyio.lowlevel.checkpoint()
        running[task_id] -= 1
        return ""

    other = replace(context, package=context.package.model_copy(update={"task_id": "another"}))
    registry = ToolRegistry([counted])
    async with anyio.create_task_group() as group:
        for each in [context] * 20 + [other] * 2:
            group.start_soon(registry.call, "counted", {}, each)

    assert peak == {"task": CALLS_OF_A_TASK, "another": 2}


@pytest.mark.anyio
async def test_what_was_left_out_can_be_read_from_the_artifact(context: ToolContext) -> None:
    @tool(max_result_bytes=1000)
    async def counts() -> str:
        """Count."""
        return " ".join(map(str, range(5000)))

    registry = ToolRegistry([counts, read_artifact])
    result = await registry.call("counts", {}, context)
    assert result.truncated and result.artifact is not None and len(result.text.encode()) <= 1000
    assert f'read_artifact(artifact="{result.artifact}")' in result.text

    pieces, start = "", 0
    while True:
        piece = await registry.call(
            "read_artifact", {"artifact": result.artifact, "start_byte": start}, context
        )
        head, _, body = piece.text.partition("\n")
        pieces += body
        start += len(body.encode())
        if "the end" in head:
            break
    assert pieces == " ".join(map(str, range(5000)))


def test_what_is_not_a_tool_is_refused() -> None:
    with pytest.raises(UserError, match="@tool"):
        ToolRegistry([print])  # type: ignore[list-item]  # because the wrong type is what is tested


good = shout
several = (echo, hangs)
half_good = (floods, "no tool")
not_tools = 3


def _points(**values: str) -> list[EntryPoint]:
    return [EntryPoint(name, value, "microturn.tools") for name, value in values.items()]


def test_a_broken_plugin_is_recorded_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    module = f"{__name__}"
    points = _points(
        a_missing="no_such_module_anywhere:x",
        b_not_tools=f"{module}:not_tools",
        c_half=f"{module}:half_good",
        d_good=f"{module}:good",
        e_several=f"{module}:several",
        f_clash=f"{module}:good",
    )
    monkeypatch.setattr("microturn.tools.plugins.entry_points", lambda group: points)
    monkeypatch.setitem(sys.modules, module, sys.modules[__name__])

    registry = ToolRegistry.from_entry_points()

    assert [spec.name for spec in registry.specs()] == ["shout", "echo", "hangs"]
    assert set(registry.broken) == {"a_missing", "b_not_tools", "c_half", "f_clash"}
    assert "no_such_module_anywhere" in registry.broken["a_missing"]


def test_the_built_in_tools_are_found_by_entry_point() -> None:
    registry = ToolRegistry.from_entry_points()

    assert registry.broken == {}
    assert {"calculator", "set_timer", "weather", "search_documents"} <= {
        spec.name for spec in registry.specs()
    }
