"""The board on which runtimes say how they are: it is in nobody's way, and is right again after an outage."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from microturn.protocols.runtime_status import RuntimeStatus
from microturn.runtime.bus import BusNameError, BusSettings, EmbeddedServer
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.status_board import PostedStatus, posting_status, read_statuses

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

STATUS = RuntimeStatus(runtime_id="r1", ticks=7)


async def posted(settings: BusSettings) -> PostedStatus:
    async with open_clients(settings) as clients:
        (found,) = await read_statuses(clients.commands, Keys(settings.tenant, settings.shards), ["r1"])
        return found


async def test_a_status_is_renewed_and_taken_off_at_the_end(settings: BusSettings) -> None:
    asked = 0

    def status() -> RuntimeStatus:
        nonlocal asked
        asked += 1
        return STATUS.model_copy(update={"ticks": asked})

    async with posting_status(settings, status, period_s=0.02):
        with anyio.fail_after(5):
            while (found := (await posted(settings)).status) is None or found.ticks < 5:
                await anyio.sleep(0.01)
    assert (await posted(settings)).status is None


async def test_it_is_taken_off_when_its_process_is_cancelled_too(settings: BusSettings) -> None:
    async with anyio.create_task_group() as tasks:

        async def live() -> None:
            async with posting_status(settings, lambda: STATUS, period_s=0.02):
                await anyio.sleep_forever()

        tasks.start_soon(live)
        with anyio.fail_after(5):
            while (await posted(settings)).status is None:
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert (await posted(settings)).status is None


async def test_an_outage_holds_nobody_up_and_the_status_comes_back(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "server", restart=False)
    await anyio.to_thread.run_sync(server.start)
    settings = BusSettings(server.url, command_timeout_s=0.2)
    try:
        async with posting_status(settings, lambda: STATUS, period_s=0.05):
            await anyio.to_thread.run_sync(server.stop)
            with anyio.fail_after(1):
                await anyio.sleep(0.3)  # the block runs on
            await anyio.to_thread.run_sync(server.start)
            async with open_clients(settings) as clients:
                await clients.commands.send("DEL", Keys("default", 1).status("r1"))
            with anyio.fail_after(5):
                while (await posted(settings)).status != STATUS:
                    await anyio.sleep(0.02)
    finally:
        await anyio.to_thread.run_sync(server.stop)


async def test_a_server_that_never_answers_does_not_keep_the_end_waiting() -> None:
    settings = BusSettings("redis://127.0.0.1:1", command_timeout_s=0.2)
    with anyio.fail_after(3):
        async with posting_status(settings, lambda: STATUS, period_s=0.05):
            await anyio.sleep(0.1)


async def test_a_name_that_would_reach_other_keys_is_refused(settings: BusSettings) -> None:
    with pytest.raises(BusNameError):
        async with posting_status(settings, lambda: STATUS.model_copy(update={"runtime_id": "a{b}"})):
            pass
