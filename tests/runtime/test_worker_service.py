"""A worker beside a runtime: it is ready or says why not, and it ends in peace."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import psutil
import pytest

from microturn.background_agent import AgentEngine, Control, Emit
from microturn.protocols import ContextPackage, DelegationEvent, Speech, UnavailableError, UserError
from microturn.runtime.bus import BusSettings, EmbeddedServer, open_delegation_port
from microturn.runtime.hub import open_hub
from microturn.runtime.worker_service import open_ready_engine, serve, worker_process, worker_thread
from microturn.tools import ToolRegistry

pytestmark = [pytest.mark.redis, pytest.mark.anyio]


class Echo:
    """Says the task back, on whatever thread it runs."""

    def __init__(self) -> None:
        self.threads: list[str] = []

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        self.threads.append(threading.current_thread().name)
        await emit("final", speech=Speech(text=package.intent))


class Opened:
    """An engine whose closing takes several turns of the event loop, and is seen."""

    def __init__(self) -> None:
        self.engine = Echo()
        self.is_closed = False

    @asynccontextmanager
    async def __call__(self, tools: ToolRegistry) -> AsyncIterator[AgentEngine]:
        try:
            yield self.engine
        finally:
            await anyio.sleep(0.01)
            await anyio.lowlevel.checkpoint()
            self.is_closed = True


def package(task_id: str) -> ContextPackage:
    return ContextPackage(
        task_id=task_id,
        session_id="s",
        idempotency_key=task_id,
        intent="good morning",
        said_start_ms=0,
        said_end_ms=200,
        local_time="2026-01-01T12:00:00+00:00",
        deadline_s=30,
    )


async def test_a_worker_on_a_thread_takes_tasks_off_the_loop_of_the_beat(
    redis_server: EmbeddedServer,
) -> None:
    settings, opened = BusSettings(redis_server.url, tenant="thread"), Opened()
    async with worker_thread(settings, opened, ToolRegistry()), open_delegation_port(settings) as port:
        await port.submit(package("a"))
        with anyio.fail_after(10):
            async for event in port.events():
                if getattr(event, "is_terminal", False):
                    break
    assert opened.engine.threads
    assert threading.current_thread().name not in opened.engine.threads
    assert opened.is_closed


async def test_an_answer_that_is_too_late_for_a_correction_is_given_anew(
    redis_server: EmbeddedServer,
) -> None:
    settings = BusSettings(redis_server.url, tenant="corrected", lease_s=0.6)
    began, corrected = anyio.Event(), anyio.Event()
    runs: list[list[str]] = []

    class Stubborn:
        """Looks at no correction while it runs."""

        async def run(
            self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control
        ) -> None:
            runs.append(list(control.updates))
            began.set()
            await corrected.wait()
            await emit("final", text=f"run {len(runs)}")

    @asynccontextmanager
    async def opened(tools: ToolRegistry) -> AsyncIterator[AgentEngine]:
        yield Stubborn()

    stop = anyio.Event()
    events: list[DelegationEvent] = []
    with anyio.fail_after(10):
        async with open_delegation_port(settings) as port, anyio.create_task_group() as tasks:

            async def work() -> None:
                await serve(settings, opened, ToolRegistry(), stop=stop)

            tasks.start_soon(work)
            await port.submit(package("a"))
            await began.wait()
            port.update_nowait("a", "rather the other one")
            await anyio.sleep(0.3)
            corrected.set()
            async for event in port.events():
                if isinstance(event, DelegationEvent):
                    events.append(event)
                    if event.is_terminal:
                        break
            stop.set()
    assert runs == [[], ["rather the other one"]]
    assert [(e.seq, e.kind, e.text, e.revision) for e in events[1:]] == [(1, "final", "run 2", 1)]


async def test_an_engine_that_cannot_be_opened_is_an_error_of_the_block(redis_server: EmbeddedServer) -> None:
    @asynccontextmanager
    async def broken(tools: ToolRegistry) -> AsyncIterator[AgentEngine]:
        raise UnavailableError("the model is on holiday; come back in May")
        yield Echo()

    with pytest.raises(UnavailableError, match="come back in May"):
        async with worker_thread(BusSettings(redis_server.url), broken, ToolRegistry()):
            raise AssertionError("the block was entered without a worker")


async def test_a_contradiction_in_the_environment_is_an_error_of_the_block(
    home: Path, redis_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROTURN_MODEL_URL", "ftp://nowhere")
    with pytest.raises(UserError, match="must begin with http"):
        async with worker_thread(BusSettings(redis_server.url), open_ready_engine, ToolRegistry()):
            raise AssertionError("the block was entered without a worker")


async def test_serving_is_announced_and_can_be_stopped(redis_server: EmbeddedServer) -> None:
    settings, opened, stop = BusSettings(redis_server.url, tenant="stop"), Opened(), anyio.Event()
    ready = anyio.Event()
    with anyio.fail_after(10):
        async with open_hub(settings) as hub, anyio.create_task_group() as tasks:

            async def work() -> None:
                await serve(settings, opened, ToolRegistry(), on_ready=ready.set, stop=stop)

            tasks.start_soon(work)
            await ready.wait()
            await hub.until_worker(within_s=5)
            assert hub.workers == 1
            stop.set()
    assert opened.is_closed


async def test_a_worker_process_that_cannot_start_shows_the_end_of_its_log(
    home: Path, redis_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROTURN_MODEL_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(UnavailableError, match="MICROTURN_MODEL is not: set it") as failed:
        async with worker_process(BusSettings(redis_server.url)):
            raise AssertionError("the block was entered without a worker")
    assert "Traceback" not in str(failed.value)


async def test_a_worker_process_shows_no_address_and_no_key_to_others(
    home: Path, redis_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROTURN_MODEL_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("MICROTURN_MODEL", "none")
    monkeypatch.setenv("MICROTURN_MODEL_KEY", "hunter2")
    async with worker_process(BusSettings(redis_server.url)) as pid:
        arguments = " ".join(psutil.Process(pid).cmdline())
    assert "worker" in arguments
    assert "hunter2" not in arguments
    assert "server.sock" not in arguments
