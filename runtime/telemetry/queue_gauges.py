"""How long the queue is, as gauges: what waits in each lane, and what was given up. Reads the bus and changes nothing."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

import anyio
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from microturn.protocols import MicroturnError
from microturn.protocols import telemetry_names as names
from microturn.runtime.bus.overview import BusObserver, Overview, open_observer
from microturn.runtime.bus.own_tasks import own_tasks
from microturn.runtime.bus.settings import BusSettings

EVERY_S: Final = 5.0
"""How often the bus is looked at. Our choice."""

_METER = metrics.get_meter("microturn.runtime")
_log = logging.getLogger(__name__)


class QueueGauges:
    """The queue as it was when it was looked at last; made by `queue_gauges`."""

    def __init__(self) -> None:
        self._overview: Overview | None = None
        _METER.create_observable_gauge(names.QUEUE_LAG, [self.lag], "{task}")
        _METER.create_observable_gauge(names.QUEUE_DEAD, [self.dead], "{task}")

    async def follow(self, bus: BusObserver, every_s: float = EVERY_S) -> None:
        """Look again and again, until cancelled. What cannot be reached has no value meanwhile."""
        while True:
            try:
                self._overview = await bus.look()
            except MicroturnError as error:
                if self._overview is not None:
                    _log.warning("The queue is not measured: %s", error)
                self._overview = None
            await anyio.sleep(every_s)

    def lag(self, _: CallbackOptions) -> Iterable[Observation]:
        """Tasks that wait, for each lane over all shards. Called by the SDK, on any thread."""
        overview = self._overview
        if overview is None:
            return
        for lane in sorted({load.lane for load in overview.lanes}):
            waiting = sum(load.waiting for load in overview.lanes if load.lane == lane)
            yield Observation(waiting, {names.QUEUE_LANE: lane})

    def dead(self, _: CallbackOptions) -> Iterable[Observation]:
        """Tasks that were given up. Called by the SDK, on any thread."""
        overview = self._overview
        if overview is not None:
            yield Observation(overview.dead_count)


@asynccontextmanager
async def queue_gauges(settings: BusSettings, *, every_s: float = EVERY_S) -> AsyncIterator[QueueGauges]:
    """Measure the queue until the end of the block, over connections of its own."""
    gauges = QueueGauges()
    async with open_observer(settings) as bus, own_tasks() as tasks:
        tasks.start_soon(gauges.follow, bus, every_s, name="queue gauges")
        yield gauges
