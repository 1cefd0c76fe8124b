from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import anyio
import pytest

from microturn.protocols import ContextPackage
from microturn.runtime.bus import (
    BusSettings,
    RuntimeIdTakenError,
    UnfitSettingsError,
    open_delegation_port,
    open_worker_port,
)
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.raw import command
from microturn.runtime.bus.registry import RuntimeRegistry

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

HOLDER = """
import sys, time, anyio
from microturn.runtime.bus import BusSettings, open_delegation_port

async def main():
    async with open_delegation_port(BusSettings(sys.argv[1], tenant=sys.argv[2], presence_s=0.1), runtime_id="one"):
        print("open", flush=True)
        await anyio.sleep(60)

anyio.run(main)
"""
"""A runtime in a process of its own."""


async def test_the_inbox_of_a_runtime_that_never_came_back_is_deleted_and_no_other(
    settings: BusSettings, package: Callable[..., ContextPackage]
) -> None:
    keys = Keys(settings.tenant, settings.shards)
    async with open_clients(settings) as clients:
        async with open_delegation_port(settings, runtime_id="gone") as port:
            await port.submit(package("a"))
            while await command(clients.commands, "ZCARD", keys.runtimes()) == 0:
                await anyio.sleep(0.01)
        async with open_delegation_port(settings, runtime_id="present") as port:
            await port.submit(package("b", session_id="another"))
            while await command(clients.commands, "ZCARD", keys.runtimes()) == 1:
                await anyio.sleep(0.01)
            third = RuntimeRegistry(clients.commands, keys, settings, runtime_id="third")
            await third.attend()
            await third.attend()
            assert await command(clients.commands, "EXISTS", keys.inbox(0, "gone")) == 1
            await command(clients.commands, "ZADD", keys.runtimes(), "1", "gone")
            await third.attend()
            assert await command(clients.commands, "EXISTS", keys.inbox(0, "gone")) == 1
            await third.attend()
            assert await command(clients.commands, "EXISTS", keys.inbox(0, "gone")) == 0
            assert await command(clients.commands, "EXISTS", keys.inbox(0, "present")) == 1
            assert await command(clients.commands, "ZRANGE", keys.runtimes(), "0", "-1") == [
                "present",
                "third",
            ]


async def test_nobody_is_forgotten_because_the_servers_clock_jumped(settings: BusSettings) -> None:
    keys = Keys(settings.tenant, settings.shards)
    async with open_clients(settings) as clients:
        here = RuntimeRegistry(clients.commands, keys, settings, runtime_id="here")
        other = RuntimeRegistry(clients.commands, keys, settings, runtime_id="other")
        await command(clients.commands, "RPUSH", keys.inbox(0, "other"), "an event")
        await here.attend()
        # A clock set forward by two days makes the last visit of everyone two days older.
        await command(clients.commands, "ZADD", keys.runtimes(), "1", "here", "1", "other")
        await here.attend()
        await other.attend()
        await here.attend()
        assert await command(clients.commands, "EXISTS", keys.inbox(0, "other")) == 1


async def test_dead_workers_are_not_counted_for_hours_when_the_servers_clock_is_set_back(
    settings: BusSettings,
) -> None:
    keys = Keys(settings.tenant, settings.shards)
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings, worker_id="alive"),
        open_clients(settings) as clients,
    ):
        # To set the clock back by an hour makes the last sign of a worker that is dead lie an hour ahead.
        ahead = round((time.time() + 3600) * 1000)
        await command(clients.commands, "ZADD", keys.workers(), ahead, "dead", ahead, "alive")
        await anyio.sleep(3 * settings.presence_s)
        assert await port.workers() == 1


async def test_a_runtime_id_that_a_live_process_has_is_refused(settings: BusSettings) -> None:
    async with open_delegation_port(settings, runtime_id="one"):
        before_s = time.monotonic()
        with pytest.raises(RuntimeIdTakenError, match="another live process has this id; end that process"):
            async with open_delegation_port(settings, runtime_id="one"):
                pass
        assert time.monotonic() - before_s < 3
        async with open_delegation_port(settings, runtime_id="two"):
            pass
    async with open_delegation_port(settings, runtime_id="one"):  # given back when the port was closed
        pass


async def test_the_id_of_a_killed_process_is_free_after_three_periods_and_is_waited_for(
    settings: BusSettings,
) -> None:
    process = await anyio.to_thread.run_sync(_start_holder, settings)
    try:
        os.kill(process.pid, signal.SIGKILL)
        with anyio.fail_after(5):
            async with open_delegation_port(settings, runtime_id="one"):
                pass
    finally:
        process.kill()
        process.communicate()


async def test_a_runtime_that_was_stopped_for_long_ends_if_its_id_was_taken(settings: BusSettings) -> None:
    with pytest.raises(RuntimeIdTakenError):
        async with open_delegation_port(settings, runtime_id="one"), open_clients(settings) as clients:
            holder = Keys(settings.tenant, 1).holder("one")
            await command(clients.commands, "SET", holder, "another process", "PX", 10_000)
            await anyio.sleep(5)


async def test_a_process_with_another_number_of_shards_is_refused_by_both_numbers(
    settings: BusSettings,
) -> None:
    async with open_delegation_port(settings):
        pass
    wrong = replace(settings, shards=4)
    with pytest.raises(UnfitSettingsError, match=r"with shards=4: it is spread over 1 shards"):
        async with open_worker_port(wrong):
            pass
    with pytest.raises(UnfitSettingsError, match=r"with shards=4: it is spread over 1 shards"):
        async with open_delegation_port(wrong):
            pass


def _start_holder(settings: BusSettings) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, settings.url, settings.tenant], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process
