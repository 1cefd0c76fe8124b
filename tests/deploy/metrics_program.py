"""A process that has every metric of the product, for a Prometheus to scrape: `python metrics_program.py PORT`.

The endpoint and the instruments are the product's own; each is used once, with the attribute that panels split by. It
prints `ready` and ends with its standard input.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import anyio
from opentelemetry.metrics import Counter, Histogram, UpDownCounter
from opentelemetry.util.types import AttributeValue

import microturn.background_agent
import microturn.runtime.telemetry
from microturn.protocols import telemetry_names as names
from microturn.runtime import weaver
from microturn.runtime.bus import BusSettings, EmbeddedServer, open_delegation_port
from microturn.runtime.telemetry.queue_gauges import queue_gauges
from microturn.runtime.telemetry.settings import METRICS_PORT_VARIABLE, TelemetrySettings
from microturn.runtime.telemetry.setup import open_telemetry

ATTRIBUTES: dict[str, AttributeValue] = {
    names.DELEGATION_STATE: "final",
    names.WEAVE_OUTCOME: "heard",
    names.MISSED_REASON: "model",
    names.TOOL_NAME: "weather",
    names.REQUEST_MODEL: "small",
    names.TOKEN_TYPE: "input",
    names.BACKGROUND_STATE_NOW: "unreachable",
    names.SIGNAL: "traces",
}


def instruments() -> Iterator[Counter | UpDownCounter | Histogram]:
    """All that modules of the runtime's telemetry and of the background agent measure with."""
    for package in (microturn.runtime.telemetry, microturn.background_agent):
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            yield from _of(vars(import_module(module.name)))
    for name in ("tracing", "session"):
        yield from _of(vars(import_module(f"microturn.runtime.{name}")))
    yield from _of(vars(weaver))


def _of(values: dict[str, object]) -> Iterator[Counter | UpDownCounter | Histogram]:
    yield from (each for each in values.values() if isinstance(each, Counter | UpDownCounter | Histogram))


async def measure(folder: Path) -> None:
    """Use each instrument, look at a queue, and stay until standard input ends."""
    for instrument in {id(each): each for each in instruments()}.values():
        if isinstance(instrument, Histogram):
            instrument.record(0.1, ATTRIBUTES)
        else:
            instrument.add(1, ATTRIBUTES)
    async with EmbeddedServer(folder) as server:
        settings = BusSettings(server.url)
        async with open_delegation_port(settings), queue_gauges(settings, every_s=0.1):
            await anyio.sleep(0.3)
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            await anyio.to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    given = {METRICS_PORT_VARIABLE: sys.argv[1]}
    with open_telemetry(TelemetrySettings.from_environment({**os.environ, **given}, "microturn-runtime")):
        anyio.run(measure, Path(sys.argv[2]))
