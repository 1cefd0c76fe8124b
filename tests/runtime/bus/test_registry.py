from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from microturn.protocols import ContextPackage
from microturn.runtime.bus import BusSettings, open_delegation_port
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.raw import command
from microturn.runtime.bus.registry import RuntimeRegistry

pytestmark = [pytest.mark.redis, pytest.mark.anyio]


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
            await RuntimeRegistry(clients.commands, keys, runtime_id="third").attend()
            assert await command(clients.commands, "EXISTS", keys.inbox(0, "gone")) == 1
            await command(clients.commands, "ZADD", keys.runtimes(), "1", "gone")
            await RuntimeRegistry(clients.commands, keys, runtime_id="third").attend()
            assert await command(clients.commands, "EXISTS", keys.inbox(0, "gone")) == 0
            assert await command(clients.commands, "EXISTS", keys.inbox(0, "present")) == 1
            assert await command(clients.commands, "ZRANGE", keys.runtimes(), "0", "-1") == [
                "present",
                "third",
            ]
