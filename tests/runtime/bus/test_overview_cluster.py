"""A look at a bus, its dead letters and its runtimes where the server is a cluster of three."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from microturn.protocols import ContextPackage
from microturn.protocols.runtime_status import RuntimeStatus
from microturn.runtime.bus import BusSettings, BusUnreachableError, open_delegation_port, open_worker_port
from microturn.runtime.bus.dead_letters import open_dead_letters
from microturn.runtime.bus.overview import open_observer
from microturn.runtime.bus.status_board import posting_status
from tests.runtime.bus.server_processes import ServerProcess, cluster_of

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ServerProcess]]:
    with cluster_of(tmp_path_factory.mktemp("cluster"), 3) as running:
        yield running


@pytest.fixture
def settings(nodes: list[ServerProcess]) -> BusSettings:
    url = f"redis+cluster://127.0.0.1:{nodes[0].port}"
    return BusSettings(url, tenant="looked-at", shards=6, presence_s=0.1, command_timeout_s=0.5)


async def test_all_nodes_are_looked_at_and_what_was_given_up_is_found_on_any(
    settings: BusSettings, package: MakePackage, nodes: list[ServerProcess]
) -> None:
    once = replace(settings, max_attempts=1, lease_s=0.1)
    async with (
        open_delegation_port(settings, runtime_id="r1") as port,
        posting_status(settings, lambda: RuntimeStatus(runtime_id="r1"), period_s=0.05),
        open_observer(settings) as observer,
    ):
        for number in range(4):
            await port.submit(package(f"poison-{number}", session_id=f"session-{number}"))
            async with open_worker_port(once) as worker:
                assert await worker.begin(await worker.take()) is not None
            async with open_worker_port(once) as other:
                assert await other.begin(await other.take()) is None
        for number in range(12):
            await port.submit(package(f"task-{number}", session_id=f"session-{number}"))
        seen = await observer.look()
        assert len(seen.servers) == 3 and all(server.name for server in seen.servers)
        assert sum(lane.waiting for lane in seen.lanes) == 12
        assert [(each.runtime_id, each.is_alive) for each in seen.runtimes] == [("r1", True)]
        assert seen.dead_count == 4
        assert [letter.task_id for letter in seen.dead] == [f"poison-{number}" for number in (3, 2, 1, 0)]
        assert len({letter.shard for letter in seen.dead}) > 1
        async with open_dead_letters(settings) as letters:
            outcome, _ = await letters.retry(await letters.find("poison-2"))
            assert outcome == "accepted"
            await letters.drop(await letters.find("poison-1"))
            assert (await letters.newest(9))[0] == 2
    nodes[2].kill()
    async with open_observer(settings) as observer:
        with pytest.raises(BusUnreachableError, match="cannot look at the bus"):
            await observer.look()
