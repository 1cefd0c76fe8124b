"""The real path with the smallest real model: it starts, streams, keeps to a schema, is cancelled, dies with us.

What it answers is never looked at, only whether it is valid.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from microturn import weights
from microturn.background_agent import (
    LOCAL,
    ChatClient,
    LocalModelError,
    LoopEngine,
    ModelRequestError,
    RunLimits,
)
from microturn.background_agent.action_schema import action_schema
from microturn.background_agent.chat_client import ChatAnswer, ChatRequest
from microturn.background_agent.engine_choice import client_of
from microturn.background_agent.local_process import LocalModel, local_model
from microturn.background_agent.prefix_cache import PrefixCache
from microturn.background_agent.testing import InMemoryWorkerBus
from microturn.background_agent.worker import Worker
from microturn.runtime.worker_service import open_ready_engine
from microturn.tools import ToolRegistry
from microturn.tools.builtin import calculator
from tests.background_agent.stand_ins import package

pytestmark = [pytest.mark.model, pytest.mark.anyio, pytest.mark.timeout(120)]

TOOLS = ToolRegistry([calculator])
HELLO = ChatRequest([{"role": "user", "content": "Tell me about the sea."}], max_tokens=200)


@pytest.fixture(scope="session")
def smallest() -> Path:
    return weights.fetch("smollm2-135m")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for the module, because the server lasts as long."""
    return "asyncio"


@pytest.fixture(scope="module")
async def served(smallest: Path) -> AsyncIterator[LocalModel]:
    async with local_model(smallest, context_tokens=2048) as model:
        yield model


async def collect(client: ChatClient, request: ChatRequest, answer: ChatAnswer, pieces: int = 10_000) -> int:
    """Take in so many pieces at most; returns how many came."""
    count = 0
    async with aclosing(client.stream(request, answer)) as stream:
        async for _ in stream:
            count += 1
            if count == pieces:
                break
    return count


async def test_a_model_streams_keeps_to_a_schema_and_is_cancelled(served: LocalModel) -> None:
    client = client_of(served)
    answer = ChatAnswer()
    schema = action_schema(TOOLS.specs(), can_say=False, final_only=False, answer_chars=60)
    pieces = await collect(client, ChatRequest(HELLO.messages, response_schema=schema), answer)
    action = json.loads(answer.text)
    assert set(action) in ({"final"}, {"tool", "arguments"})
    assert pieces > 3
    assert answer.finish_reason == "stop"

    assert await collect(client, HELLO, ChatAnswer(), pieces=3) == 3
    again = ChatAnswer()
    with anyio.fail_after(5):
        await collect(client, ChatRequest(HELLO.messages, max_tokens=4), again)
    assert again.completion_tokens == 4

    with pytest.raises(ModelRequestError, match="context"):
        await collect(client, ChatRequest([{"role": "user", "content": "sea " * 3000}]), ChatAnswer())
    stranger = ChatClient(served.address.url, served.model, key="wrong")
    with pytest.raises(ModelRequestError, match="401"):
        await collect(stranger, HELLO, ChatAnswer())
    await client.aclose()
    await stranger.aclose()
    nice = int(Path(f"/proc/{served.pid}/stat").read_text().rpartition(")")[2].split()[16])
    assert nice == 19


async def test_a_server_that_died_is_started_again_by_the_next_request(served: LocalModel) -> None:
    client = client_of(served)
    first = served.pid
    os.kill(first, signal.SIGKILL)
    await _gone(first)
    answer = ChatAnswer()
    await collect(client, ChatRequest(HELLO.messages, max_tokens=4), answer)
    assert answer.completion_tokens == 4
    assert served.pid != first
    await client.aclose()


async def test_the_prefix_is_kept_for_the_next_server(smallest: Path, tmp_path: Path) -> None:
    states = tmp_path / "states"
    read = []
    for _ in range(2):
        async with local_model(smallest, context_tokens=2048, state_dir=states) as model:
            client = client_of(model)
            cache = PrefixCache(states, model.address, model.model)
            async with LoopEngine(client, LOCAL, prefix_cache=cache) as engine:
                answer = await engine.warm_up(TOOLS)
                read.append(answer.prompt_tokens - answer.cached_tokens)
            if len(read) == 2:
                assert await cache.save("short")
                assert await cache.restore("short")
                for state in states.iterdir():
                    state.write_bytes(b"not a state")
                assert not await cache.restore("short")
                assert len(list(states.iterdir())) == 1
    assert read[0] > 200
    assert read[1] <= 2


async def test_a_worker_has_every_local_agent_read_its_prefix(
    smallest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents = tmp_path / "agents.toml"
    agents.write_text(
        '[agents.default]\nmodel = "openai:m"\nurl = "http://127.0.0.1:9/v1"\n'
        f'[agents.quick]\nfile = "{smallest}"\n'
    )
    monkeypatch.setenv("MICROTURN_AGENTS", str(agents))
    monkeypatch.setenv("MICROTURN_CACHE", str(tmp_path / "cache"))
    async with open_ready_engine(TOOLS):
        assert len(list(tmp_path.rglob("*.state"))) == 1


async def test_a_whole_task_runs_through_the_worker(served: LocalModel, tmp_path: Path) -> None:
    client = client_of(served)
    bus = InMemoryWorkerBus()
    engine = LoopEngine(client, LOCAL, data_dir=tmp_path, limits=RunLimits(requests=3))
    worker = Worker(bus, engine, TOOLS)
    async with engine, anyio.create_task_group() as group:
        group.start_soon(worker.run)
        record = await bus.submit(package("what is 2 plus 3"))
        await record.done.wait()
        worker.drain()
    assert record.kinds()[-1] in {"final", "failed"}
    assert record.spoken()


async def test_a_file_that_is_no_model_is_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(LocalModelError, match="no model file"):
        async with local_model(tmp_path / "none.gguf"):
            pass
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF but not really")
    with pytest.raises(LocalModelError, match=r"bad\.gguf could not be loaded"):
        async with local_model(bad):
            pass


_PARENT = """
import sys, anyio
from pathlib import Path
from microturn.background_agent.engine_choice import client_of
from microturn.background_agent.local_process import local_model
async def main():
    async with local_model(Path(sys.argv[1]), context_tokens=512) as model:
        print(model.pid, flush=True)
        await anyio.sleep_forever()
anyio.run(main)
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks processes up in /proc")
async def test_the_server_dies_with_its_parent_even_by_sigkill(smallest: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(smallest)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent.stdout:
        child = int(await anyio.to_thread.run_sync(parent.stdout.readline))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    await _gone(child)


async def _gone(pid: int) -> None:
    """Wait until a process has ended; one that nobody has reaped counts as ended."""
    with anyio.fail_after(3):
        while True:
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            except FileNotFoundError:
                return
            if state == "Z":
                return
            await anyio.sleep(0.02)
