"""Runs a background worker: the bus's worker side, an engine and tools, put together.

`serve` is what `microturn worker` does. `worker_process` and `worker_thread` do it beside a runtime: the process for
tools that can be found by name, the thread for functions that only this program has.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import TypeAlias

import anyio
import anyio.from_thread
import anyio.to_thread
import platformdirs
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from microturn.background_agent import AgentEngine, ReflexEngine, Worker, end_child, engine_from_environment
from microturn.protocols import UnavailableError, UserError
from microturn.runtime.bus.own_tasks import own_tasks
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.bus.worker_port import open_worker_port
from microturn.runtime.telemetry.process_telemetry import environment_of_child
from microturn.tools import ToolRegistry
from microturn.tools.mcp import McpServers

OpensEngine: TypeAlias = Callable[[ToolRegistry], AbstractAsyncContextManager[AgentEngine]]
"""Opens an engine that is ready to work with these tools: loaded, and its fixed prefix read."""
READY_LIMIT_S = 240.0
"""Longest wait for a worker: a model that is read from a cold disk on a busy machine."""
LOG_TAIL_LINES = 12
RESTARTS = 5
RESTART_PAUSE_S = 1.0
"""Wait before the second restart; longer before each further one."""

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_ready_engine(tools: ToolRegistry) -> AsyncIterator[AgentEngine]:
    """Open the agents that the environment names; the local models have read their fixed prefixes when this yields.

    Raises:
        UserError: the environment contradicts itself.
        UnavailableError: the weights are missing, or the local model did not start.
    """
    async with engine_from_environment() as engine:
        await engine.warm_up(tools)
        yield ReflexEngine(engine)


async def serve(
    settings: BusSettings,
    open_engine: OpensEngine,
    tools: ToolRegistry,
    *,
    concurrency: int = 2,
    urgent_lanes: int = 1,
    on_ready: Callable[[], None] = lambda: None,
    drain_on: Sequence[signal.Signals] = (),
    stop: anyio.Event | None = None,
) -> None:
    """Work until cancelled, or until one of the signals says to drain: then what runs is finished, nothing more taken.

    At most `concurrency` tasks run at once, and beside them `urgent_lanes` urgent ones.
    `stop` ends it at once, as cancelling does, but lets the engine close in peace; other workers get what runs.

    Raises:
        UnavailableError: the engine or the server cannot be reached.
    """
    async with _warm(tools), open_engine(tools) as engine, open_worker_port(settings) as port:
        worker = Worker(
            port,
            engine,
            tools,
            concurrency=concurrency,
            urgent_lanes=urgent_lanes,
            lease_s=settings.lease_s,
        )
        on_ready()
        async with anyio.create_task_group() as tasks:
            if stop is not None:
                tasks.start_soon(_cancel_at, stop, tasks.cancel_scope)
            await worker.run(drain_on=drain_on)
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def _warm(tools: ToolRegistry) -> AsyncIterator[None]:
    """Lend the tools of MCP servers, and keep the sessions with these and the processes of tools warm."""
    async with McpServers.from_environment() as servers, tools:
        with servers.lent_to(tools):
            yield


async def _cancel_at(stop: anyio.Event, work: anyio.CancelScope) -> None:
    await stop.wait()
    work.cancel()


@asynccontextmanager
async def worker_process(settings: BusSettings) -> AsyncIterator[int]:
    """Run `microturn worker` in a child process until the end of the block; yield its process id once it is ready.

    The child takes its model from this process's environment and dies with it in any case. One that dies on its own
    is replaced, up to `RESTARTS` times; its tasks go on in the next. What it logs is kept in the state folder.

    Raises:
        UserError: the state folder cannot be written.
        UnavailableError: it ended, or was not ready in time; the text has the last lines of its log.
    """
    log = _new_log()
    running = [await _start(settings, log)]
    try:
        await _await_ready(running[0], log)
        async with own_tasks() as tasks:
            tasks.start_soon(_replace_dead, running, settings, log, name="worker keeper")
            yield running[0].pid
    finally:
        await end_child(running[0])  # what it has not finished goes to another


def _new_log() -> Path:
    log = Path(platformdirs.user_state_dir("microturn")) / "worker.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
    except OSError as error:
        raise UserError(
            f"cannot write the worker's log to {str(log)!r}: {error.strerror}; make it writable, or set XDG_STATE_HOME "
            "to another place"
        ) from None
    return log


async def _start(settings: BusSettings, log: Path) -> Process:
    command = [sys.executable, "-m", "microturn.runtime.cli", "worker", "--parent", str(os.getpid())]
    environment = {
        **environment_of_child(dict(os.environ)),
        "MICROTURN_REDIS_URL": settings.url,
        "MICROTURN_TENANT": settings.tenant,
        "MICROTURN_SHARDS": str(settings.shards),
    }
    with log.open("ab") as errors:
        return await anyio.open_process(
            command, stdin=None, stdout=PIPE, stderr=errors, env=environment, start_new_session=True
        )


async def _replace_dead(running: list[Process], settings: BusSettings, log: Path) -> None:
    """Put another worker into the place of one that has ended."""
    for restart in range(RESTARTS):
        status = await running[0].wait()
        await running[0].aclose()
        await anyio.sleep(restart * RESTART_PAUSE_S)
        _log.warning("The background worker ended with status %d and is started again; see %s.", status, log)
        running[0] = await _start(settings, log)


async def _await_ready(process: Process, log: Path) -> None:
    assert process.stdout is not None
    with anyio.move_on_after(READY_LIMIT_S):
        text = ""
        async for chunk in TextReceiveStream(process.stdout):
            text += chunk
            if any(_is_ready(line) for line in text.splitlines()):
                return
        await process.wait()
        raise UnavailableError(
            f"the background worker ended before it was ready; its log says:\n{_tail(log)}"
        )
    raise UnavailableError(
        f"the background worker was not ready after {READY_LIMIT_S:g} s; its log {log} says:\n{_tail(log)}"
    )


def _is_ready(line: str) -> bool:
    try:
        said = json.loads(line)
    except ValueError:
        return False
    return isinstance(said, dict) and said.get("ready") is True


def _tail(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
    return "\n".join(lines) or "(nothing)"


@asynccontextmanager
async def worker_thread(
    settings: BusSettings, open_engine: OpensEngine, tools: ToolRegistry
) -> AsyncIterator[None]:
    """Run a worker on an event loop of its own, in a thread, until the end of the block.

    Raises:
        MicroturnError: it could not start.
    """
    is_decided = threading.Event()
    with anyio.from_thread.start_blocking_portal() as portal:
        stop = portal.call(anyio.Event)
        work = functools.partial(serve, settings, open_engine, tools, on_ready=is_decided.set, stop=stop)
        future = portal.start_task_soon(work)
        future.add_done_callback(lambda _: is_decided.set())
        try:
            await anyio.to_thread.run_sync(is_decided.wait, abandon_on_cancel=True)
            if future.done():
                future.result()
            yield
        finally:
            portal.call(stop.set)
            if not is_decided.is_set():
                future.cancel()
