"""What the engines cost without their model, and how soon a cancellation reaches a tool that runs.

    python tests/benchmarks/bench_engines.py [--runs 60]

One run is two requests to a model, one call of a tool between them, and an answer of 20 tokens, from a scripted server
in a process of its own. Processor time is that of this process, the HTTP client and the parsing of the stream with it,
so a slower network does not count. Beside them stands a bare agent of pydantic-ai that does the same and says nothing,
so that the difference is what speaking and the rules of a run cost. Prints a table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import metadata
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
from pydantic import JsonValue
from pydantic_ai import Agent

from microturn.background_agent import REMOTE, AgentEngine, ChatClient, Control, LoopEngine
from microturn.background_agent.pydantic_engine import PydanticEngine
from microturn.background_agent.pydantic_models import model_of
from microturn.background_agent.scripted_model import CallTools, Line, Say, scripted_model
from microturn.protocols import ContextPackage, EventKind, Speech
from microturn.tools import ToolRegistry, tool

TOOL_CALL = CallTools((("double", '{"value": 60}'),))
ANSWER = Say(
    "Twice sixty is one hundred and twenty. That is ten dozen, as it happens, and it is an even number. ".strip()
)
WARM_UPS = 5
CANCELS = 30

PACKAGE = ContextPackage(
    task_id="t",
    session_id="s",
    idempotency_key="t",
    intent="how much is that doubled",
    said_start_ms=0,
    said_end_ms=5000,
    local_time="2026-11-22T16:45:00+01:00",
    deadline_s=60,
)

Run = Callable[[], Awaitable[None]]


@tool()
async def double(value: float) -> str:
    """Double a number.

    Args:
        value: The number.
    """
    return f"{2 * value:g}"


class _Ends:
    """Takes events in, and knows the kind of the last one."""

    last: EventKind = "accepted"

    async def __call__(
        self,
        kind: EventKind,
        *,
        speech: Speech | None = None,
        text: str = "",
        detail: dict[str, JsonValue] | None = None,
    ) -> None:
        """Take one in."""
        self.last = kind
        await anyio.lowlevel.checkpoint()


async def _serve(lines: int) -> None:
    """Be the model, until nobody reads what is printed any more."""
    script: list[Line] = [TOOL_CALL, ANSWER] * lines
    async with scripted_model(*script) as model:
        print(model.url, flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)


@asynccontextmanager
async def _model_process(lines: int) -> AsyncIterator[str]:
    """The address of a model in a process of its own."""
    command = [sys.executable, __file__, "--serve", str(lines)]
    process = await anyio.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None)
    assert process.stdout is not None
    try:
        yield (await process.stdout.receive()).decode().strip()
    finally:
        process.kill()
        await process.wait()


def _run_of(engine: AgentEngine) -> Run:
    tools = ToolRegistry([double])

    async def run() -> None:
        ends = _Ends()
        await engine.run(PACKAGE, tools, ends, Control())
        assert ends.last == "final", ends.last

    return run


async def _cost(run: Run, runs: int) -> tuple[list[float], list[float]]:
    """Milliseconds of processor time and of wall time of each run."""
    cpu_ms, wall_ms = [], []
    for number in range(WARM_UPS + runs):
        began_cpu_s, began_s = time.process_time(), time.perf_counter()
        await run()
        if number >= WARM_UPS:
            cpu_ms.append(1000 * (time.process_time() - began_cpu_s))
            wall_ms.append(1000 * (time.perf_counter() - began_s))
    return cpu_ms, wall_ms


async def _cancel_ms(open_engine: Callable[[str], AgentEngine]) -> list[float]:
    """Milliseconds from a cancellation to the tool that it stops."""
    delays = []
    reached_s = 0.0

    @tool()
    async def wait() -> str:
        """Wait for a long time."""
        nonlocal reached_s
        has_begun.set()
        try:
            await anyio.sleep(30)
        except BaseException:
            reached_s = time.perf_counter()
            raise
        return "done"

    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(
            scripted_model(*(CallTools((("wait", "{}"),)) for _ in range(CANCELS)))
        )
        engine = open_engine(model.url)
        for _ in range(CANCELS):
            has_begun = anyio.Event()
            async with anyio.create_task_group() as group:
                group.start_soon(engine.run, PACKAGE, ToolRegistry([wait]), _Ends(), Control())
                await has_begun.wait()
                began_s = time.perf_counter()
                group.cancel_scope.cancel()
            delays.append(1000 * (reached_s - began_s))
    return delays


def _loop(url: str) -> LoopEngine:
    return LoopEngine(ChatClient(url, "m"), REMOTE, data_dir=Path("unused"))


def _pydantic(url: str) -> PydanticEngine:
    return PydanticEngine(model_of("openai:m", url=url), data_dir=Path("unused"))


def _bare(url: str) -> Run:
    agent = Agent(model_of("openai:m", url=url), tools=[_plain_double])

    async def run() -> None:
        async with agent.iter("how much is that doubled") as steps:
            async for node in steps:
                if Agent.is_model_request_node(node):
                    async with node.stream(steps.ctx) as events:
                        async for _ in events:
                            pass

    return run


async def _plain_double(value: float) -> str:
    """Double a number."""
    return f"{2 * value:g}"


async def _measure(runs: int) -> dict[str, dict[str, float]]:
    figures: dict[str, dict[str, float]] = {}
    async with (
        _model_process(3 * (runs + WARM_UPS)) as url,
        _loop(url) as loop,
        _pydantic(url) as on_pydantic,
    ):
        for name, run in (
            ("loop", _run_of(loop)),
            ("pydantic-ai", _run_of(on_pydantic)),
            ("pydantic-ai alone", _bare(url)),
        ):
            cpu_ms, wall_ms = await _cost(run, runs)
            figures[name] = {
                "cpu_p50_ms": round(statistics.median(cpu_ms), 2),
                "cpu_p95_ms": round(statistics.quantiles(cpu_ms, n=20)[18], 2),
                "wall_p50_ms": round(statistics.median(wall_ms), 2),
            }
    for name, opened in (("loop", _loop), ("pydantic-ai", _pydantic)):
        delays = await _cancel_ms(opened)
        figures[name] |= {
            "cancel_p50_ms": round(statistics.median(delays), 2),
            "cancel_max_ms": round(max(delays), 2),
        }
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        anyio.run(_serve, arguments.serve)
        return
    figures = anyio.run(_measure, arguments.runs)
    columns = ("cpu_p50_ms", "cpu_p95_ms", "wall_p50_ms", "cancel_p50_ms", "cancel_max_ms")
    print(f"{'':20}" + "".join(f"{column:>15}" for column in columns))
    for name, row in figures.items():
        print(f"{name:20}" + "".join(f"{row.get(column, float('nan')):15.2f}" for column in columns))
    about = {
        "runs": arguments.runs,
        "python": platform.python_version(),
        "pydantic-ai": metadata.version("pydantic-ai-slim"),
    }
    print(json.dumps({**about, "engines": figures}))


if __name__ == "__main__":
    main()
