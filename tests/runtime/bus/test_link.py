"""A link to a cluster says of redis-py's troubles what they are, so that who waits for a server waits for them too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress

import anyio
import pytest
from redis.asyncio.cluster import ClusterPipeline, RedisCluster
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError, ResponseError, SlotNotCoveredError

from microturn.protocols import ContextPackage, DelegationEvent
from microturn.runtime.bus import BusSettings, open_delegation_port, open_worker_port
from microturn.runtime.bus.link import ClusterLink
from tests.runtime.bus.server_processes import cluster_of

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

KEY = "{link}:key"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a cluster of one node."""
    with cluster_of(tmp_path_factory.mktemp("cluster"), 1) as nodes:
        yield nodes[0].port


@pytest.fixture
async def client(port: int) -> AsyncIterator[RedisCluster]:
    """A client with one connection that nobody uses."""
    async with RedisCluster(host="127.0.0.1", port=port, protocol=2, socket_timeout=2.0) as made:
        await made.set(KEY, "value")
        yield made


async def close_before_writing(connection: Connection) -> None:
    """In place of redis-py's look at a connection, which comes between "it is connected" and the writing."""
    await connection.disconnect(nowait=True)


@pytest.fixture(params=["send", "send_all", "each_primary"])
def call(request: pytest.FixtureRequest, client: RedisCluster) -> Callable[[], Awaitable[object]]:
    """Each way of a command."""
    link = ClusterLink(client)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "send": lambda: link.send("GET", KEY, key=KEY),
        "send_all": lambda: link.send_all(KEY, [("GET", KEY)]),
        "each_primary": lambda: link.each_primary("PING"),
    }
    return calls[request.param]


async def test_a_connection_that_is_closed_under_a_call_is_a_lost_connection_and_the_next_call_has_another(
    call: Callable[[], Awaitable[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = await call()
    with monkeypatch.context() as patch:
        patch.setattr(Connection, "check_health", close_before_writing)
        with pytest.raises(ConnectionError, match="closed before the command was written"):
            await call()
    assert await call() == expected


async def test_whenever_a_connection_is_closed_while_it_is_taken_the_call_is_answered_or_has_lost_it(
    client: RedisCluster,
) -> None:
    link = ClusterLink(client)
    node = client.get_node_from_key(KEY)
    assert node is not None
    for turns in range(12):  # of the loop, between the beginning of the closing and the call
        closing = asyncio.ensure_future(node.disconnect_free_connections())
        for _ in range(turns):
            await asyncio.sleep(0)
        with suppress(ConnectionError):
            assert await link.send("GET", KEY, key=KEY) == b"value"
        await closing
        assert await link.send("GET", KEY, key=KEY) == b"value"


async def test_a_call_on_nothing_by_anyone_but_redis_pys_connection_is_not_taken_for_a_lost_connection(
    call: Callable[[], Awaitable[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer: asyncio.StreamWriter | None = None

    async def write_to_nothing(_: Connection) -> None:
        writer.writelines([])  # type: ignore[union-attr]  # because that is the mistake

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "check_health", write_to_nothing)
        with pytest.raises(AttributeError, match="writelines"):
            await call()


async def test_an_error_in_place_of_a_reply_is_redis_pys_too(
    client: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = ResponseError("ERR no")

    async def execute(_: ClusterPipeline, *, raise_on_error: bool) -> list[object]:
        return [SlotNotCoveredError("lost"), refusal, "OK"]

    with monkeypatch.context() as patch:
        patch.setattr(ClusterPipeline, "execute", execute)
        lost, *others = await ClusterLink(client).send_all(KEY, [("GET", KEY)] * 3)
    assert isinstance(lost, ConnectionError)
    assert others == [refusal, "OK"]


async def test_delegations_go_on_while_connections_are_closed_under_them(
    port: int, package: Callable[..., ContextPackage], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = BusSettings(f"redis+cluster://127.0.0.1:{port}", tenant="closed", shards=2, presence_s=0.1)
    written = 0

    async def close_every_third(connection: Connection) -> None:
        nonlocal written
        written += 1
        if written % 3 == 0:
            await close_before_writing(connection)

    async with open_delegation_port(settings) as delegations, open_worker_port(settings) as worker:
        monkeypatch.setattr(Connection, "check_health", close_every_third)
        for number in range(4):
            await delegations.submit(package(f"t{number}", session_id=f"session-{number}"))
        with anyio.fail_after(10):
            for _ in range(4):
                entry = await worker.take()
                assert await worker.begin(entry) is not None
                final = DelegationEvent(task_id=entry.package.task_id, attempt=1, seq=1, kind="final")
                await worker.emit(final.task_id, 1, [final], finish=True)
            ended: set[str] = set()
            async for event in delegations.events():
                if isinstance(event, DelegationEvent) and event.is_terminal:
                    ended.add(event.task_id)
                if len(ended) == 4:
                    break
        monkeypatch.undo()
    assert written > 10
