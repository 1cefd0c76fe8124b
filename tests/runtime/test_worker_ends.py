"""A worker process that is asked to end, told to end, and killed, each in the middle of a task."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from microturn.background_agent.scripted_model import Say, scripted_model
from microturn.background_agent.tool_runner import DOUBT
from microturn.protocols import ContextPackage, DelegationEvent
from microturn.runtime.bus import BusSettings, DelegationPort, EmbeddedServer, open_delegation_port

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

LEASE_S = 0.6


class Serving:
    """One worker process and what it has printed."""

    def __init__(self, process: Process) -> None:
        self.process = process
        assert process.stdout is not None
        self._output = TextReceiveStream(process.stdout)
        self.printed = ""

    async def prints(self, text: str) -> None:
        while text not in self.printed:
            self.printed += await self._output.receive()

    async def exit_code(self) -> int:
        with anyio.fail_after(8):
            return await self.process.wait()


@asynccontextmanager
async def serving(
    settings: BusSettings, *arguments: str, program: str = "serving_program.py"
) -> AsyncIterator[Serving]:
    """A worker process that is ready, killed at the end of the block where it still runs."""
    path = Path(__file__).with_name(program)
    command = [sys.executable, str(path), settings.url, settings.tenant, str(settings.lease_s), *arguments]
    process = await anyio.open_process(command, stdin=subprocess.DEVNULL, stderr=None)
    try:
        worker = Serving(process)
        with anyio.fail_after(10):
            await worker.prints("ready")
        yield worker
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.aclose()


def package(task_id: str, takes_ms: int, *, intent: str = "") -> ContextPackage:
    return ContextPackage(
        task_id=task_id,
        session_id="s",
        idempotency_key=task_id,
        intent=intent or str(takes_ms),
        said_start_ms=0,
        said_end_ms=200,
        local_time="2026-01-01T12:00:00+00:00",
        deadline_s=30,
    )


async def story(port: DelegationPort, *task_ids: str) -> dict[str, list[tuple[int, str]]]:
    """The attempt and the kind of each event of some tasks, until all have ended."""
    told: dict[str, list[tuple[int, str]]] = {task_id: [] for task_id in task_ids}
    with anyio.fail_after(12):
        async for event in port.events():
            if not isinstance(event, DelegationEvent):
                continue
            told[event.task_id].append((event.attempt, event.kind))
            port.acknowledge_nowait(event.task_id, event.seq)
            if all(kinds and kinds[-1][1] == "final" for kinds in told.values()):
                break
    return told


async def test_a_worker_that_is_asked_to_end_finishes_its_task_and_leaves_the_next_one(
    redis_server: EmbeddedServer,
) -> None:
    settings = BusSettings(redis_server.url, tenant="asked", lease_s=LEASE_S, presence_s=0.1)
    async with open_delegation_port(settings) as port, serving(settings) as first:
        await port.submit(package("running", 400))
        await first.prints("engine")
        await port.submit(package("waiting", 0))
        first.process.send_signal(signal.SIGTERM)
        assert await first.exit_code() == 0
        async with serving(settings) as second:
            told = await story(port, "running", "waiting")
            await second.prints(f"engine {second.process.pid} 1")
            second.process.send_signal(signal.SIGTERM)
            assert await second.exit_code() == 0
    assert told["running"] == [(0, "accepted"), (1, "partial"), (1, "final")]
    assert told["waiting"] == [(0, "accepted"), (1, "partial"), (1, "final")]


async def test_a_worker_that_is_asked_twice_ends_at_once_and_another_goes_on(
    redis_server: EmbeddedServer,
) -> None:
    settings = BusSettings(redis_server.url, tenant="twice", lease_s=LEASE_S, presence_s=0.1)
    async with open_delegation_port(settings) as port, serving(settings) as first:
        await port.submit(package("a", 800))
        await first.prints("engine")
        first.process.send_signal(signal.SIGTERM)
        await anyio.sleep(0.1)
        assert first.process.returncode is None
        first.process.send_signal(signal.SIGTERM)
        assert await first.exit_code() == 0
        async with serving(settings):
            told = await story(port, "a")
    assert told["a"] == [(0, "accepted"), (1, "partial"), (2, "partial"), (2, "final")]


async def test_a_task_of_a_worker_that_is_killed_goes_on_elsewhere_within_the_lease(
    redis_server: EmbeddedServer,
) -> None:
    settings = BusSettings(redis_server.url, tenant="killed", lease_s=LEASE_S, presence_s=0.1)
    async with open_delegation_port(settings) as port, serving(settings) as first:
        await port.submit(package("a", 300))
        await first.prints("engine")
        first.process.kill()
        assert await first.exit_code() == -signal.SIGKILL
        async with serving(settings):
            told = await story(port, "a")
    assert told["a"][0] == (0, "accepted")
    assert told["a"][-2:] == [(2, "partial"), (2, "final")]


async def test_a_message_whose_sender_was_killed_is_not_sent_again_and_the_user_is_told(
    redis_server: EmbeddedServer, tmp_path: Path
) -> None:
    settings = BusSettings(redis_server.url, tenant="unsafe", lease_s=LEASE_S, presence_s=0.1)
    path = tmp_path / "sent"
    insists = Say('{"tool": "send_message", "arguments": {"text": "hello again"}}')
    spoken: list[str] = []
    async with (
        scripted_model(insists, Say('{"final": "Please look yourself."}')) as model,
        open_delegation_port(settings) as port,
    ):
        program = "sending_program.py"
        async with serving(settings, model.url, str(path), "die", program=program) as first:
            await port.submit(package("a", 0, intent="send hello"))
            assert await first.exit_code() == 7
        async with serving(settings, model.url, str(path), "live", program=program):
            with anyio.fail_after(12):
                async for event in port.events():
                    if isinstance(event, DelegationEvent) and event.speech is not None:
                        spoken.append(event.speech.text)
                    if isinstance(event, DelegationEvent) and event.is_terminal:
                        break
    assert path.read_text().splitlines() == ["hello"]
    assert spoken == [DOUBT.format(name="send message"), "Please look yourself."]
