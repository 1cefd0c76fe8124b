"""The bus behind a sentinel: when the primary dies, the promoted replica goes on with the tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import anyio
import pytest

from microturn.protocols import ContextPackage, DelegationEvent
from microturn.runtime.bus import (
    BusSettings,
    BusUnreachableError,
    Lagged,
    open_delegation_port,
    open_worker_port,
)
from tests.runtime.bus.server_processes import ServerProcess, watched_pair
from tests.runtime.bus.worker_processes import Workers

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]
SERVICE = "delegations"


@pytest.fixture
def pair(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ServerProcess, ServerProcess, ServerProcess]]:
    with watched_pair(tmp_path_factory.mktemp("watched"), SERVICE) as running:
        yield running


@pytest.fixture
def settings(pair: tuple[ServerProcess, ServerProcess, ServerProcess]) -> BusSettings:
    """The first of the two sentinels that are named does not answer."""
    return BusSettings(
        f"redis+sentinel://127.0.0.1:1,127.0.0.1:{pair[2].port}/{SERVICE}", lease_s=0.6, presence_s=0.1
    )


async def test_a_service_that_no_sentinel_knows_is_told(settings: BusSettings) -> None:
    unknown = BusSettings(settings.url.replace(SERVICE, "nothing"), command_timeout_s=0.5)
    with pytest.raises(BusUnreachableError, match=r"redis\+sentinel://.*/nothing"):
        async with open_worker_port(unknown):
            pass


@pytest.mark.parametrize("loses", [ServerProcess.kill, ServerProcess.pause], ids=["killed", "frozen"])
async def test_tasks_go_on_when_the_primary_is_lost_and_its_replica_promoted(
    loses: Callable[[ServerProcess], None],
    settings: BusSettings,
    package: MakePackage,
    pair: tuple[ServerProcess, ServerProcess, ServerProcess],
) -> None:
    primary, replica, _ = pair
    workers = await anyio.to_thread.run_sync(Workers, settings, 2)
    try:
        async with open_delegation_port(settings) as port:
            for number in range(5):
                await port.submit(package(f"t{number}", intent="stream 40 50"))
            await workers.said("begun", "t4", "1")
            await anyio.to_thread.run_sync(loses, primary)
            assert port.submit_nowait(package("late", intent="stream 3 10"))
            numbers: dict[str, list[int]] = {}
            ends: dict[str, str] = {}
            with anyio.fail_after(15):
                async for event in port.events():
                    if isinstance(event, Lagged):  # what was not yet copied to the replica may be lost
                        continue
                    assert isinstance(event, DelegationEvent)
                    numbers.setdefault(event.task_id, []).append(event.seq)
                    port.acknowledge_nowait(event.task_id, event.seq)
                    if event.is_terminal:
                        assert event.task_id not in ends
                        ends[event.task_id] = event.kind
                    if len(ends) == 6:
                        break
            assert set(ends.values()) == {"final"}
            for given in numbers.values():
                assert all(early < late for early, late in pairwise(given))
            assert "role:master" in replica.ask("INFO", "replication")
            with anyio.fail_after(3):
                while port.health.state != "ok":
                    await anyio.sleep(0.02)
    finally:
        workers.end()
