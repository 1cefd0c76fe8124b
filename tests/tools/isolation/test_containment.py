"""Tools that try to do harm, from child processes and from both sandboxes."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from pathlib import Path

import anyio
import pytest
from pydantic import JsonValue

from microturn.protocols import UserError
from microturn.tools import ToolContext, ToolRegistry
from microturn.tools.isolation import bubblewrap, landlock
from microturn.tools.isolation._errors import SandboxUnavailableError
from microturn.tools.isolation.sandbox import sandbox_refusal, working_sandbox
from microturn.tools.isolation.tiers import Tiers

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

TIERS = ["subprocess", "bubblewrap", "landlock"]


@pytest.fixture(autouse=True)
def tools_as_a_module(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Offer the tools under a name of their own, as an installed package does."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield
    sys.modules.pop("isolated_tools", None)


@pytest.fixture
async def tier(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ToolRegistry]:
    """A registry with a tool `harm` in the asked tier."""
    asked: str = request.param
    if asked == "bubblewrap" and bubblewrap.refusal() is not None:
        pytest.skip(f"no sandbox to test: {bubblewrap.refusal()}")
    if asked == "landlock":
        if landlock.refusal() is not None:
            pytest.skip(f"no sandbox to test: {landlock.refusal()}")
        monkeypatch.setattr(bubblewrap, "refusal", lambda: "it is left out of this test")
    isolated_tools = import_module("isolated_tools")

    async with ToolRegistry() as registry:
        if asked == "subprocess":
            registry.add(isolated_tools.harm)
        else:
            registry.add(isolated_tools.harm_boxed)
            registry.add(isolated_tools.look_around_boxed)
        yield registry


async def harm(registry: ToolRegistry, context: ToolContext, how: str) -> str:
    """Let the tool try it; return what it says."""
    spec = registry.specs()[0]
    await registry.warm_up(spec.name)
    began_s = time.monotonic()
    result = await registry.call(spec.name, {"how": how}, context)
    assert time.monotonic() - began_s < spec.timeout_s + 0.5 + 2  # the 2 s are for a machine that is busy
    return result.text


async def look_around(
    registry: ToolRegistry, context: ToolContext, attempts: list[tuple[str, str]]
) -> list[str]:
    """Let the tool try all of it in one sandbox; return what it says of each."""
    arguments: dict[str, JsonValue] = {"attempts": [list(each) for each in attempts]}
    result = await registry.call("look_around_boxed", arguments, context)
    outcomes: list[str] = json.loads(result.text)
    assert len(outcomes) == len(attempts)
    return outcomes


@pytest.mark.parametrize("tier", TIERS, indirect=True)
async def test_harm_is_contained_in_every_tier(tier: ToolRegistry, context: ToolContext) -> None:
    assert "MemoryError" in await harm(tier, context, "memory")
    assert await harm(tier, context, "fork bomb") == "started 0"
    assert "PermissionError" in await harm(tier, context, "program")
    assert re.search("OSError|PermissionError", await harm(tier, context, "disk"))
    flood = await harm(tier, context, "flood")  # a machine that is busy may not get through it in time
    assert re.search("bytes left out|0.7 seconds and was stopped", flood)


@pytest.mark.parametrize("tier", TIERS, indirect=True)
async def test_a_call_that_spins_is_stopped_in_every_tier(tier: ToolRegistry, context: ToolContext) -> None:
    assert "0.7 seconds and was stopped" in await harm(tier, context, "spin")
    stopped = await harm(tier, context, "spin in threads")  # by the clock, or by the limit of processor time
    assert re.search("0.7 seconds and was stopped|did not run to its end", stopped)


OUT_OF_REACH = [
    ("read", "/etc/passwd"),
    ("read", "/etc/shadow"),
    ("read", f"/proc/{os.getpid()}/environ"),
    ("read", str(Path(__file__).parents[3] / "pyproject.toml")),
    ("list", str(Path.home() / ".ssh")),
    ("list", "/var/lib"),
    ("write", "/usr/microturn-was-here"),
    ("write", str(Path(sys.prefix) / "microturn-was-here")),
    ("connect", "127.0.0.1:22"),
    ("connect", "169.254.169.254:80"),
    ("connect", "1.1.1.1:443"),
    ("connect file", "/run/docker.sock"),
    ("kill", str(os.getpid())),
    ("trace", str(os.getpid())),
]


@pytest.mark.parametrize("tier", TIERS[1:], indirect=True)
async def test_a_sandbox_shows_and_reaches_nothing(
    tier: ToolRegistry, context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROTURN_MODEL_KEY", "a key")

    *outcomes, names = await look_around(tier, context, [*OUT_OF_REACH, ("environment", "")])

    reached = [
        attempt for attempt, outcome in zip(OUT_OF_REACH, outcomes, strict=True) if "refused" not in outcome
    ]
    assert reached == []
    assert "PATH" in names.split()
    allowed = {"HOME", "LANG", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATH", "PWD", "LC_CTYPE"}
    assert set(names.split()) <= allowed


@pytest.mark.parametrize("tier", ["bubblewrap"], indirect=True)
async def test_what_one_call_leaves_behind_is_gone_for_the_next(
    tier: ToolRegistry, context: ToolContext
) -> None:
    first = await look_around(tier, context, [("write", "/tmp/left"), ("read", "/tmp/left")])
    assert first == ["written", "was here"]
    assert await look_around(tier, context, [("read", "/tmp/left")]) == ["refused: FileNotFoundError"]


async def test_where_no_sandbox_works_a_sandboxed_tool_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    isolated_tools = import_module("isolated_tools")
    monkeypatch.setattr(bubblewrap, "refusal", lambda: "bubblewrap is not installed")
    monkeypatch.setattr(landlock, "refusal", lambda: "the kernel has Landlock version 1, and 6 is needed")

    assert working_sandbox() is None
    assert "microturn[sandbox]" in (sandbox_refusal() or "")
    with pytest.raises(
        SandboxUnavailableError, match="`nothing_boxed` runs in a sandbox only.*Landlock version 1"
    ):
        ToolRegistry([isolated_tools.nothing_boxed])
    ToolRegistry([isolated_tools.nothing])


async def test_a_tool_that_reaches_hosts_needs_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    isolated_tools = import_module("isolated_tools")
    if landlock.refusal() is not None:
        pytest.skip("no sandbox to test")
    monkeypatch.setattr(bubblewrap, "refusal", lambda: "bubblewrap is not installed")

    with pytest.raises(UserError, match="bubblewrap is needed"):
        ToolRegistry([isolated_tools.fetch_boxed])


async def test_a_spare_sandbox_is_ready_before_the_next_call(context: ToolContext) -> None:
    isolated_tools = import_module("isolated_tools")
    if sandbox_refusal() is not None:
        pytest.skip(f"no sandbox to test: {sandbox_refusal()}")
    async with ToolRegistry([isolated_tools.nothing_boxed]) as registry:
        await registry.call("nothing_boxed", {}, context)
        pool = registry._tiers._pools["nothing_boxed"]
        with anyio.fail_after(15):
            while not pool._idle:
                await anyio.sleep(0.02)
        spare = pool._idle[0][0]
        await registry.call("nothing_boxed", {}, context)
        assert spare.calls == 1


async def test_the_only_way_out_of_a_sandbox_is_to_the_declared_hosts(context: ToolContext) -> None:
    if bubblewrap.refusal() is not None:
        pytest.skip(f"no sandbox to test: {bubblewrap.refusal()}")
    fetch_boxed = import_module("isolated_tools").fetch_boxed
    asked: list[str] = []

    async def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    async def fetch(url: str, way: str) -> str:
        return (await tiers.call(fetch_boxed, {"url": url, "way": way}, context)).text

    async with Tiers(resolver=resolver) as tiers:
        tiers.add(fetch_boxed)
        assert "403" in await fetch("https://evil.net/", "guarded")
        assert asked == []
        assert "403" in await fetch("https://example.org/", "proxy")  # the name now stands for this machine
        assert asked == ["example.org"]
        assert "ConnectError" in await fetch("https://93.184.215.14/", "straight")
        assert "ConnectError" in await fetch("http://127.0.0.1:22/", "straight")
