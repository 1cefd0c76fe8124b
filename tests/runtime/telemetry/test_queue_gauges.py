"""The bus as gauges, on a real server: what waits and since when, who is there, and nothing while it is away."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from microturn.protocols import telemetry_names as names
from microturn.protocols.runtime_status import RuntimeStatus
from microturn.runtime.bus import BusSettings, EmbeddedServer, open_delegation_port, open_worker_port
from microturn.runtime.bus.status_board import posting_status
from microturn.runtime.telemetry import queue_gauges as gauges
from microturn.tools.testing import make_context

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

EVERY_S = 0.02


class Meter:
    """What is exported now, by name and lane."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._reader = InMemoryMetricReader()
        meter = MeterProvider(metric_readers=[self._reader]).get_meter("test")
        monkeypatch.setattr(gauges, "_METER", meter)

    def read(self) -> dict[tuple[str, str], float]:
        data = self._reader.get_metrics_data()
        return {
            (metric.name, str((point.attributes or {}).get(names.QUEUE_LANE, ""))): point.value
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            if isinstance(point, NumberDataPoint)
        }

    async def until(self, name: str, low: float, high: float, lane: str = "") -> dict[tuple[str, str], float]:
        """Wait until a gauge is in a range, and return all."""
        with anyio.fail_after(5):
            while True:
                now = self.read()
                if low <= now.get((name, lane), -1) <= high:
                    return now
                await anyio.sleep(EVERY_S)


async def test_what_waits_and_who_is_there_is_told_of_the_whole_bus(
    redis_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = Meter(monkeypatch)
    settings = BusSettings(redis_server.url, tenant="gauges", shards=2, presence_s=0.05)
    posted = RuntimeStatus(runtime_id="r1", session_count=3)
    async with (
        open_delegation_port(settings, runtime_id="r1") as port,
        posting_status(settings, lambda: posted, period_s=0.05),
        gauges.queue_gauges(settings, every_s=EVERY_S),
    ):
        quiet = await meter.until(names.BUS_SESSIONS, 3, 3)
        assert quiet[names.BUS_WORKERS, ""] == 0
        assert quiet[names.QUEUE_LAG, "tasks"] == quiet[names.QUEUE_WAIT, "tasks"] == 0
        await port.submit(make_context().package)
        waiting = await meter.until(names.QUEUE_WAIT, 0.3, 5, "tasks")
        assert waiting[names.QUEUE_LAG, "tasks"] == 1
        assert waiting[names.QUEUE_WAIT, "urgent"] == 0
        async with open_worker_port(settings) as worker:
            assert await worker.begin(await worker.take()) is not None
            await meter.until(names.BUS_WORKERS, 1, 1)
            taken = await meter.until(names.QUEUE_WAIT, 0, 0, "tasks")
            assert taken[names.QUEUE_LAG, "tasks"] == 0
        await meter.until(names.BUS_WORKERS, 0, 0)


async def test_a_bus_that_is_away_has_no_value_rather_than_an_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = Meter(monkeypatch)
    server = EmbeddedServer(tmp_path / "server")
    await anyio.to_thread.run_sync(server.start)
    settings = BusSettings(server.url, tenant="gauges", command_timeout_s=0.2)
    async with gauges.queue_gauges(settings, every_s=EVERY_S):
        await meter.until(names.BUS_WORKERS, 0, 0)
        await anyio.to_thread.run_sync(server.stop)
        with anyio.fail_after(5):
            while meter.read():
                await anyio.sleep(EVERY_S)
