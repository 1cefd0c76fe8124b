"""What it costs to watch: a runtime that reports on itself, and a look at a bus that is full.

    python tests/benchmarks/bench_operation.py [--tasks 10000] [--looks 50]

The observer's cost is CPU time per tick and session; the look's is the wall time of `BusObserver.look` with that many
tasks of 10 kB waiting, and the time that the server itself spends on it. Beside it, the same numbers by walking over
all keys with SCAN, which is how general tools do it. Prints a table, and as the last line all figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import anyio
from bench_handover import make_package

from microturn.protocols import Floor, FloorState
from microturn.runtime.bus import BusSettings, EmbeddedServer, open_delegation_port
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.link import Link
from microturn.runtime.bus.overview import open_observer
from microturn.runtime.bus.raw import command
from microturn.runtime.events import TickDone
from microturn.runtime.status_reporter import StatusReporter

Figures = dict[str, float]
SESSIONS = 200


def cost_of_reporting() -> Figures:
    """CPU of the observer on the beat, and of one status, with as many sessions as one names."""
    reporter = StatusReporter("bench")
    with ExitStack() as sessions:
        observers = [
            sessions.enter_context(reporter.following(f"session-{number}")) for number in range(SESSIONS)
        ]
        began_s = time.process_time()
        ticks = 500
        for index in range(ticks):
            event = TickDone(index, 1, 12.0, 0.4, 0.1, FloorState(Floor.USER), 0.5)
            for observe in observers:
                observe(event)
        per_tick_us = (time.process_time() - began_s) / ticks / SESSIONS * 1e6
        began_s = time.process_time()
        for _ in range(20):
            encoded = reporter.status().encode()
        status_ms = (time.process_time() - began_s) / 20 * 1e3
    return {
        "observer_us_per_tick": per_tick_us,
        "status_ms": status_ms,
        "status_kb": len(encoded) / 1000,
        "share_of_a_core_percent": (per_tick_us * SESSIONS * 5 / 1e6 + status_ms / 1e3) * 100,
    }


async def cost_of_looking(tasks: int, looks: int, shards: int) -> Figures:
    """Time of a look at a bus on which so many tasks wait, beside a walk over all its keys."""
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedServer(Path(folder), maxmemory_mb=1024) as server:
            settings = BusSettings(server.url, tenant=f"bench{shards}", shards=shards)
            async with open_delegation_port(settings) as port:
                for number in range(tasks):
                    package = make_package(number, "wait")
                    spread = package.model_copy(update={"session_id": f"session-{number % 97}"})
                    while not port.submit_nowait(spread):
                        await anyio.sleep(0.01)
                await port.flush()
                async with open_observer(settings) as observer, open_clients(settings) as clients:
                    seen = await observer.look()
                    assert sum(lane.waiting for lane in seen.lanes) == tasks
                    look_ms, server_ms = await measured(clients.commands, observer.look, looks)
                    walk_ms, walk_server_ms = await measured(
                        clients.commands, lambda: walk(clients.commands), 3
                    )
    name = f"_{shards}_shards"
    return {
        f"look_ms{name}": look_ms,
        f"look_server_ms{name}": server_ms,
        f"walk_ms{name}": walk_ms,
        f"walk_server_ms{name}": walk_server_ms,
    }


async def measured(link: Link, call: Callable[[], Awaitable[object]], times: int) -> tuple[float, float]:
    """Median wall time of a call, and what the server spent on commands for each, in milliseconds."""
    took_ms: list[float] = []
    before_us = await server_us(link)
    for _ in range(times):
        began_s = time.perf_counter()
        await call()
        took_ms.append((time.perf_counter() - began_s) * 1e3)
    return statistics.median(took_ms), (await server_us(link) - before_us) / times / 1e3


async def server_us(link: Link) -> int:
    """Time that the server has spent on commands since it started, presence of others included."""
    text = str(await command(link, "INFO", "commandstats"))
    return sum(map(int, re.findall(r"usec=(\d+)", text)))


async def walk(link: Link) -> int:
    """Count the tasks that wait by walking over all keys."""
    cursor, waiting = "0", 0
    while True:
        reply = await command(link, "SCAN", cursor, "MATCH", "mt:bench*:t:*", "COUNT", 500)
        assert isinstance(reply, list)
        cursor, keys = str(reply[0]), list(reply[1])
        if keys:
            states = await link.send_all(keys[0], [("HGET", key, "state") for key in keys])
            waiting += states.count("queued")
        if cursor == "0":
            return waiting


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--looks", type=int, default=50)
    asked = parser.parse_args()
    figures = cost_of_reporting()
    for shards in (1, 16):
        figures |= anyio.run(cost_of_looking, asked.tasks, asked.looks, shards)
    for name, value in figures.items():
        print(f"{name:<28}{value:10.3f}")
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
