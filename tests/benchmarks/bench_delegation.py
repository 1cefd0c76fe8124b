"""Measures delegation: beside job queues, under kills, and at the limits of what one server and one process take.

    python tests/benchmarks/bench_delegation.py [--only PART ...] [--quick] [--folder FOLDER]

Parts: `calm` and `killed` do the same work through our bus, taskiq, arq and pydocket, on one server; `handover`,
`load` and `sessions` are about ours. The job queues are installed once, into environments of their own under FOLDER.
Prints tables, and as the last line all figures as JSON. Measure on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import anyio
import numpy as np
from bench_handover import make_package, measure_handover, measure_raw, measure_takeover, process
from delegation_load import measure_flow, measure_queue
from delegation_peers import BROKEN, SYSTEMS, Broken, Calm, measure_broken, measure_calm, running
from delegation_sessions import Delays, measure_hub, measure_naive
from rich.console import Console
from rich.table import Table

from microturn.runtime.bus import BusSettings, EmbeddedServer, open_delegation_port

Cell = float | int | str | None
Rows = dict[str, dict[str, Cell]]
"""Figures by row and column; None was not reached."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured."""

    rounds: int = 15
    kills: int = 5
    tasks: int = 500
    packages: int = 10_000
    urgent: int = 20
    partials: int = 40_000
    sessions: int = 5000
    for_s: float = 10.0


QUICK = Extent(rounds=3, kills=1, tasks=60, packages=1000, urgent=3, partials=4000, sessions=1000, for_s=2.0)


@dataclass(frozen=True, slots=True)
class Place:
    """Where it is measured."""

    server: EmbeddedServer
    folder: Path
    """Keeps the environments of the job queues."""
    package: Path
    """A file with the package that is handed over."""


async def calm(place: Place, extent: Extent) -> Rows:
    """The same work through each system, in turns, while nothing fails."""
    async with running(SYSTEMS, place.folder, place.server.url, place.package, workers=1) as systems:
        found = await measure_calm(systems, extent.rounds)
    ours = _calm_row(found["microturn"])
    return {name: _calm_row(calm) | _ratios(_calm_row(calm), ours) for name, calm in found.items()}


async def killed(place: Place, extent: Extent) -> Rows:
    """The same work through each system, whose worker is killed in mid-stream."""
    url, package = place.server.url, place.package
    async with running(SYSTEMS, place.folder, url, package, workers=2) as systems:
        found = await measure_broken(systems, extent.kills)
    async with running(["taskiq"], place.folder, url, package, workers=2) as systems:
        nudged = await measure_broken(systems, extent.kills, nudge_s=1.0)
    found["taskiq, with a task of another each second"] = nudged["taskiq"]
    return {name: _broken_row(broken) for name, broken in found.items()}


async def handover(place: Place, extent: Extent) -> Rows:
    """To a bare worker and back, the bare stream, and the gap after a kill."""
    figures: dict[str, list[float]] = {"handover": [], "round_trip": [], "raw": [], "takeover": []}
    url = place.server.url
    async with open_delegation_port(BusSettings(url)) as port:
        with process("worker", url):
            await measure_handover(port, extent.tasks, figures)
        with process("raw-worker", url):
            await measure_raw(url, extent.tasks, figures)
        await measure_takeover(url, port, extent.kills, figures)
    names = {
        "handover": "delegation decided → worker has it",
        "round_trip": "… → its end is back",
        "raw": "bare XADD → XREADGROUP",
        "takeover": "kill -9 of a worker → next event, lease 2 s",
    }
    return {names[name]: _milliseconds("", values) | {"n": len(values)} for name, values in figures.items()}


async def load(place: Place, extent: Extent) -> Rows:
    """Packages and partials per second, a long queue, and urgent tasks."""
    flow = await measure_flow(place.server.url, place.server.pid or 0, extent.partials)
    queue = await measure_queue(place.server.url, extent.packages, extent.urgent)
    waits = [wait for wait in queue.urgent_s if wait is not None]
    return {
        "submits per second, 10 kB": {"value": round(queue.submits_per_s)},
        f"memory of {extent.packages:,} queued packages, MB": {"value": round(queue.used_mb, 1)},
        "urgent task → begun, behind them, p50 ms": {"value": _percentile_ms(waits, 50)},
        "urgent task → begun, behind them, max ms": {"value": _percentile_ms(waits, 100)},
        "urgent tasks that had not begun in 5 s": {"value": len(queue.urgent_s) - len(waits)},
        "partials per second": {"value": round(flow.partials_per_s)},
        **{f"CPU of the {who} per partial, us": {"value": round(us)} for who, us in flow.cpu_us.items()},
    }


async def sessions(place: Place, extent: Extent) -> Rows:
    """Events to the sessions of one process, and the naive way."""
    ours = await measure_hub(place.server.url, extent.sessions, extent.for_s)
    naive = await measure_naive(place.server.url, extent.sessions, extent.for_s)
    return {
        f"hub, {extent.sessions:,} sessions": _delay_row(ours),
        f"one XREAD over {extent.sessions:,} streams": _delay_row(naive),
    }


PARTS: Mapping[str, Callable[[Place, Extent], Awaitable[Rows]]] = {
    "calm": calm,
    "killed": killed,
    "handover": handover,
    "load": load,
    "sessions": sessions,
}


def _calm_row(calm: Calm) -> dict[str, Cell]:
    return {
        "n": len(calm.trials),
        **_milliseconds("hand-over ", calm.handover_s()),
        **_milliseconds("first piece ", calm.first_piece_s()),
        **_milliseconds("whole ", calm.whole_s()),
        "tasks/s, 10 at once": round(float(np.median(calm.tasks_per_s))),
    }


def _ratios(row: Mapping[str, Cell], ours: Mapping[str, Cell]) -> dict[str, Cell]:
    """How many times as long as ours it takes, at the median."""
    ratios: dict[str, Cell] = {}
    for what in ("hand-over", "whole"):
        theirs, own = row.get(f"{what} p50 ms"), ours.get(f"{what} p50 ms")
        if isinstance(theirs, float) and isinstance(own, float):
            ratios[f"{what} / ours"] = round(theirs / own, 2)
    return ratios


def _broken_row(broken: Broken) -> dict[str, Cell]:
    recovery_s = broken.recovery_s()
    return {
        "kills": len(broken.trials),
        f"pieces lost of {BROKEN.pieces * len(broken.trials)}": broken.lost(),
        "pieces doubled": broken.doubled(),
        f"not finished in {BROKEN.within_s:g} s": broken.unfinished(),
        "gap, median s": None if recovery_s is None else round(recovery_s, 2),
    }


def _delay_row(delays: Delays) -> dict[str, Cell]:
    return {
        "n": len(delays.from_emit),
        **_milliseconds("emit → session ", delays.from_emit),
        **_milliseconds("arrival → session ", delays.from_arrival),
        "CPU per event, us": round(delays.cpu_us),
    }


def _milliseconds(name: str, values_s: Sequence[float]) -> dict[str, Cell]:
    return {f"{name}p{q} ms": _percentile_ms(values_s, q) for q in (50, 99)}


def _percentile_ms(values_s: Sequence[float], q: int) -> float | None:
    return round(float(np.percentile(values_s, q)) * 1000, 2) if values_s else None


@asynccontextmanager
async def new_place(folder: Path) -> AsyncIterator[Place]:
    """A new server, and a file with the package."""
    with tempfile.TemporaryDirectory() as made:
        package = Path(made) / "package.json"
        package.write_text(make_package(0, "").encode(), "utf-8")
        async with EmbeddedServer(Path(made) / "server") as server:
            yield Place(server, folder, package)


async def measure(names: Sequence[str], extent: Extent, folder: Path) -> dict[str, Rows]:
    """Measure the parts, each on a new server."""
    figures: dict[str, Rows] = {}
    for name in names:
        async with new_place(folder) as place:
            figures[name] = await PARTS[name](place, extent)
        _show(name, figures[name])
    return figures


def _show(name: str, rows: Rows) -> None:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    table = Table(name, *columns, title=PARTS[name].__doc__)
    for title, row in rows.items():
        table.add_row(title, *("–" if row.get(column) is None else f"{row[column]}" for column in columns))
    Console(width=max(100, 16 * len(columns))).print(table)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--quick", action="store_true", help="a tenth of it, to see that it works")
    parser.add_argument("--kills", type=int, help="how many workers of each system are killed")
    parser.add_argument("--folder", type=Path, default=Path("out/bench-delegation"))
    arguments = parser.parse_args()
    extent = QUICK if arguments.quick else Extent()
    if arguments.kills:
        extent = replace(extent, kills=arguments.kills)
    figures = anyio.run(measure, arguments.only, extent, arguments.folder.absolute())
    machine: dict[str, Cell] = {
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "redis-py": version("redis"),
        "system": platform.platform(terse=True),
    }
    print(json.dumps({"bench": "delegation", "figures": figures, "machine": machine}))


if __name__ == "__main__":
    main()
