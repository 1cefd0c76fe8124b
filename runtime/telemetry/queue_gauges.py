"""The bus as gauges: what waits and for how long, what was given up, who is there. Reads the bus and changes nothing."""

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
from microturn.runtime.bus.keys import Lane
from microturn.runtime.bus.overview import BusObserver, LaneLoad, Overview, open_observer
from microturn.runtime.bus.own_tasks import own_tasks
from microturn.runtime.bus.settings import BusSettings

EVERY_S: Final = 5.0
"""How often the bus is looked at. Our choice."""

_METER = metrics.get_meter("microturn.runtime")
_log = logging.getLogger(__name__)


class QueueGauges:
    """The bus as it was when it was looked at last; made by `queue_gauges`."""

    def __init__(self) -> None:
        self._overview: Overview | None = None
        _METER.create_observable_gauge(names.QUEUE_LAG, [self.lag], "{task}")
        _METER.create_observable_gauge(names.QUEUE_WAIT, [self.oldest_wait], "s")
        _METER.create_observable_gauge(names.QUEUE_DEAD, [self.dead], "{task}")
        _METER.create_observable_gauge(names.BUS_WORKERS, [self.workers], "{worker}")
        _METER.create_observable_gauge(names.BUS_SESSIONS, [self.sessions], "{session}")

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
        """Tasks that wait, for each lane over all shards. Called by the SDK, on any thread, as are the others."""
        for lane, loads in self._lanes().items():
            yield Observation(sum(load.waiting for load in loads), {names.QUEUE_LANE: lane})

    def oldest_wait(self, _: CallbackOptions) -> Iterable[Observation]:
        """How long the oldest task that waits has done so, for each lane over all shards."""
        for lane, loads in self._lanes().items():
            yield Observation(max(load.oldest_waiting_s or 0.0 for load in loads), {names.QUEUE_LANE: lane})

    def dead(self, _: CallbackOptions) -> Iterable[Observation]:
        """Tasks that were given up."""
        if (overview := self._overview) is not None:
            yield Observation(overview.dead_count)

    def workers(self, _: CallbackOptions) -> Iterable[Observation]:
        """Workers that live."""
        if (overview := self._overview) is not None:
            yield Observation(len(overview.workers))

    def sessions(self, _: CallbackOptions) -> Iterable[Observation]:
        """Sessions of the runtimes that live."""
        if (overview := self._overview) is not None:
            said = (posted.status for posted in overview.runtimes if posted.is_alive)
            yield Observation(sum(status.session_count for status in said if status is not None))

    def _lanes(self) -> dict[Lane, list[LaneLoad]]:
        """Each lane with its part of every shard."""
        lanes: dict[Lane, list[LaneLoad]] = {}
        for load in () if (overview := self._overview) is None else overview.lanes:
            lanes.setdefault(load.lane, []).append(load)
        return lanes


@asynccontextmanager
async def queue_gauges(settings: BusSettings, *, every_s: float = EVERY_S) -> AsyncIterator[QueueGauges]:
    """Measure the bus until the end of the block, over connections of its own."""
    gauges = QueueGauges()
    async with open_observer(settings) as bus, own_tasks() as tasks:
        tasks.start_soon(gauges.follow, bus, every_s, name="queue gauges")
        yield gauges
