"""Where an application has OpenTelemetry record redis-py's commands, those of the bus are not among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import anyio
import pytest
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis.asyncio.cluster import RedisCluster

from microturn.protocols import ContextPackage, DelegationEvent
from microturn.runtime.bus import BusSettings, EmbeddedServer, open_delegation_port, open_worker_port
from microturn.runtime.bus.overview import open_observer
from tests.runtime.bus.server_processes import cluster_of, watched_pair

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]
MakePartial = Callable[[str, int, int], DelegationEvent]


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """What redis-py's instrumentation records."""
    exporter, provider, instrumentor = InMemorySpanExporter(), TracerProvider(), RedisInstrumentor()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor.instrument(tracer_provider=provider)
    yield exporter
    instrumentor.uninstrument()


@pytest.fixture(scope="module")
def sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with watched_pair(tmp_path_factory.mktemp("watched"), "delegations") as running:
        yield f"redis+sentinel://127.0.0.1:{running[2].port}/delegations"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cluster_of(tmp_path_factory.mktemp("cluster"), 3) as nodes:
        yield f"redis+cluster://127.0.0.1:{nodes[0].port}"


@pytest.fixture(params=["server", "sentinel", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    """Each way to a bus."""
    found: EmbeddedServer | str = request.getfixturevalue(request.param)
    return found if isinstance(found, str) else found.url


async def test_a_delegation_and_all_that_a_waiting_bus_does_leave_no_span(
    url: str, spans: InMemorySpanExporter, package: MakePackage, partial: MakePartial
) -> None:
    settings = BusSettings(url, tenant="traced", shards=2, lease_s=0.2, presence_s=0.05)
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings) as worker,
        open_observer(settings) as observer,
    ):
        await port.submit(package("a"))
        entry = await worker.take()
        assert await worker.begin(entry) is not None
        await worker.emit("a", 1, [partial("a", 1, 1)])
        final = DelegationEvent(task_id="a", attempt=1, seq=2, kind="final")
        await worker.emit("a", 1, [final], finish=True)
        events = [await anext(port.events()) for _ in range(3)]
        assert [event.kind for event in events if isinstance(event, DelegationEvent)][-1] == "final"
        assert len((await observer.look()).workers) == 1
        await anyio.sleep(0.3)  # beats, presence and reads that wait
    assert [span.name for span in spans.get_finished_spans()] == []


async def test_the_applications_own_commands_are_recorded_also_beside_those_of_the_bus(
    cluster: str, spans: InMemorySpanExporter, package: MakePackage
) -> None:
    async with open_delegation_port(BusSettings(cluster, tenant="beside")) as port:
        await port.submit(package("a"))
        host, number = cluster.rpartition("/")[2].split(":")
        async with RedisCluster(host=host, port=int(number)) as own:
            await own.set("own", "1")
            await port.submit(package("b"))
            pipeline = own.pipeline()
            pipeline.execute_command("GET", "own")
            await pipeline.execute()
    assert [span.name for span in spans.get_finished_spans()] == ["SET", "GET"]
