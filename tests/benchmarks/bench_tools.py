"""What calling a tool costs in each tier, beside a pool of the standard library and a bare interpreter.

    python tests/benchmarks/bench_tools.py [--calls 200] [--starts 10]

The tools do nothing. Warm: a process, or a spare sandbox, is ready when the call comes. Cold: the first call of a
registry, which starts Python and imports the tool. Prints a table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from idle_tools import idle, idle_boxed, idle_call, idle_outside, wait_outside

from microturn.protocols import ContextPackage, Speech
from microturn.tools import AnyTool, ToolContext, ToolRegistry
from microturn.tools.isolation import bubblewrap, landlock


async def _ignore_text(text: str) -> None:
    return


async def _ignore_speech(speech: Speech) -> None:
    return


def context(folder: Path) -> ToolContext:
    """A context that reports nowhere."""
    package = ContextPackage(
        task_id="t",
        session_id="s",
        idempotency_key="t",
        intent="nothing",
        said_start_ms=0,
        said_end_ms=1,
        local_time="2026-11-22T12:00:00+00:00",
        deadline_s=60,
    )
    return ToolContext(
        package=package, progress=_ignore_text, say=_ignore_speech, data_dir=folder, idempotency_key="t/0"
    )


def figures(durations_s: list[float]) -> dict[str, float]:
    """Median, 95th and 99th percentile, in milliseconds."""
    ordered = sorted(durations_s)
    named = {
        f"p{p}_ms": ordered[min(len(ordered) - 1, math.ceil(len(ordered) * p / 100) - 1)] for p in (95, 99)
    }
    values = {"p50_ms": statistics.median(ordered), **named}
    return {name: round(1000 * value, 3) for name, value in values.items()} | {"calls": len(ordered)}


async def timed(registry: ToolRegistry, called: AnyTool, in_context: ToolContext) -> float:
    """Seconds that one call takes."""
    began_s = time.perf_counter()
    result = await registry.call(called.spec.name, {}, in_context)
    assert not result.is_error, result.text
    return time.perf_counter() - began_s


async def warm(called: AnyTool, calls: int, in_context: ToolContext) -> list[float]:
    """Calls that find a process ready."""
    async with ToolRegistry([called]) as registry:
        durations = []
        for _ in range(calls):
            await registry.warm_up(called.spec.name)
            durations.append(await timed(registry, called, in_context))
        return durations


async def cold(called: AnyTool, starts: int, in_context: ToolContext) -> list[float]:
    """First calls of registries."""
    durations = []
    for _ in range(starts):
        async with ToolRegistry([called]) as registry:
            durations.append(await timed(registry, called, in_context))
    return durations


async def cancellations(calls: int, in_context: ToolContext, folder: Path) -> list[float]:
    """From the cancellation of a call until the tool in its process is told."""
    durations = []
    async with ToolRegistry([wait_outside]) as registry:
        for number in range(calls):
            note = folder / str(number)
            await registry.warm_up("wait_outside")
            async with anyio.create_task_group() as group:
                group.start_soon(_call_and_wait, registry, str(note), in_context)
                await anyio.sleep(0.05)
                began_s = time.monotonic()
                group.cancel_scope.cancel()
            durations.append(float(note.read_text()) - began_s)
    return durations


async def _call_and_wait(registry: ToolRegistry, note: str, in_context: ToolContext) -> None:
    await registry.call("wait_outside", {"note": note}, in_context)


def pool_of_the_standard_library(calls: int) -> list[float]:
    """Calls in a warm `ProcessPoolExecutor` with one process: no limits, no cancellation, pickles."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(idle_call).result()
        return [_elapsed(lambda: pool.submit(idle_call).result()) for _ in range(calls)]


def bare_interpreter(starts: int) -> list[float]:
    """Start and end of a Python that imports nothing."""
    command = [sys.executable, "-I", "-c", "pass"]
    return [_elapsed(lambda: subprocess.run(command, check=True)) for _ in range(starts)]


def _elapsed(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


@contextmanager
def without_bubblewrap() -> Iterator[None]:
    """Have sandboxes made by Landlock."""
    kept = bubblewrap.refusal
    bubblewrap.refusal = lambda: "left out of this measurement"  # type: ignore[assignment]  # a cached function
    try:
        yield
    finally:
        bubblewrap.refusal = kept


async def measure(calls: int, starts: int, folder: Path) -> dict[str, dict[str, float]]:
    """All figures by name."""
    given = context(folder)
    boxes = max(5, calls // 10)  # each takes a start in between
    measured = {
        "in process": await warm(idle, calls, given),
        "subprocess, warm": await warm(idle_outside, calls, given),
        "subprocess, cold": await cold(idle_outside, starts, given),
        "cancellation reaches a subprocess": await cancellations(boxes, given, folder),
    }
    if bubblewrap.refusal() is None:
        measured["bubblewrap, warm"] = await warm(idle_boxed, boxes, given)
        measured["bubblewrap, cold"] = await cold(idle_boxed, starts, given)
    if landlock.refusal() is None:
        with without_bubblewrap():
            measured["Landlock, warm"] = await warm(idle_boxed, boxes, given)
            measured["Landlock, cold"] = await cold(idle_boxed, starts, given)
    measured["ProcessPoolExecutor, warm"] = await anyio.to_thread.run_sync(
        pool_of_the_standard_library, calls
    )
    measured["bare python -I -c pass"] = await anyio.to_thread.run_sync(bare_interpreter, starts)
    return {name: figures(durations) for name, durations in measured.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--starts", type=int, default=10)
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    with TemporaryDirectory() as folder:
        found = anyio.run(measure, asked.calls, asked.starts, Path(folder))
    print(f"{'':<36}{'p50 ms':>10}{'p95 ms':>10}{'p99 ms':>10}{'calls':>8}")
    for name, row in found.items():
        print(
            f"{name:<36}{row['p50_ms']:>10.2f}{row['p95_ms']:>10.2f}{row['p99_ms']:>10.2f}{row['calls']:>8.0f}"
        )
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start"
    print(
        json.dumps(
            {
                "machine": machine,
                "python": platform.python_version(),
                "microturn": version("microturn"),
                **found,
            }
        )
    )


if __name__ == "__main__":
    main()
