"""How long a delegation takes to reach a worker, and how long a dead worker is missed.

    python tests/benchmarks/bench_handover.py [--tasks 1000] [--kills 5] [--url URL]

Measured in one run, on one server: from `submit_nowait` to the return of `begin` in another process; from there back
to the runtime; the bare XADD to XREADGROUP of the same bytes between the same processes, for comparison; and from
`kill -9` of a worker in mid-stream to the next event, by the worker that takes over. All clocks are the machine's one
monotonic clock. Prints a table, and as the last line all figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import anyio
import numpy as np

from microturn.background_agent.worker_bus import Begun, TaskEntry
from microturn.protocols import ContextPackage, DelegationEvent, TurnRecord
from microturn.runtime.bus import (
    BusSettings,
    DelegationPort,
    EmbeddedServer,
    WorkerPort,
    open_delegation_port,
    open_worker_port,
)
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.raw import command, entries_by_stream

STREAM_PARTS = 40
STREAM_EVERY_S = 0.05
Figures = dict[str, list[float]]


def make_package(number: int, intent: str) -> ContextPackage:
    """A package of 10 kB: eighteen turns of talk."""
    turn = "and then we went on along the coast to see the lighthouse before the rain came in from the sea "
    return ContextPackage(
        task_id=f"task-{number}",
        session_id="bench",
        idempotency_key=f"task-{number}",
        intent=intent,
        said_start_ms=0,
        said_end_ms=2000,
        local_time="2026-01-01T12:00:00+00:00",
        deadline_s=60,
        history=tuple(
            TurnRecord(speaker="user", text=turn * 5, start_ms=n * 1000, end_ms=n * 1000 + 900)
            for n in range(18)
        ),
    )


async def run_task(port: WorkerPort, entry: TaskEntry, begun: Begun, begun_s: float) -> None:
    """Report at once, or stream and beat, as the intent says."""
    task_id, attempt = entry.package.task_id, begun.attempt
    seq = begun.next_seq
    if entry.package.intent == "stream":
        for number in range(len(begun.emitted), STREAM_PARTS):
            event = DelegationEvent(
                task_id=task_id, attempt=attempt, seq=seq, kind="partial", detail={"pid": os.getpid()}
            )
            await port.emit(task_id, attempt, [event])
            seq += 1
            if number % 8 == 0:
                await port.beat(entry, attempt)
            await anyio.sleep(STREAM_EVERY_S)
    final = DelegationEvent(
        task_id=task_id,
        attempt=attempt,
        seq=seq,
        kind="final",
        detail={"begun_s": begun_s},
    )
    await port.emit(task_id, attempt, [final], finish=True)


async def worker(url: str) -> None:
    """The process that takes tasks."""
    async with open_worker_port(BusSettings(url)) as port:
        print("ready", flush=True)
        while True:
            entry = await port.take()
            begun = await port.begin(entry)
            if begun is not None:
                await run_task(port, entry, begun, time.monotonic())


async def raw_worker(url: str) -> None:
    """The process that takes bare entries, and answers with the time at which it had each."""
    async with open_clients(BusSettings(url)) as clients:
        await command(clients.commands, "XGROUP", "CREATE", "raw", "w", "0", "MKSTREAM")
        print("ready", flush=True)
        while True:
            reply = await command(
                clients.blocking,
                *("XREADGROUP", "GROUP", "w", "me", "COUNT", 1, "BLOCK", 0, "STREAMS", "raw", ">"),
            )
            taken_s = time.monotonic()
            for _, entries in entries_by_stream(reply):
                for entry_id, _ in entries:
                    await command(clients.commands, "XADD", "answers", "*", "taken_s", repr(taken_s))
                    await command(clients.commands, "XACK", "raw", "w", entry_id)


@contextmanager
def process(role: str, url: str) -> Iterator[subprocess.Popen[str]]:
    """This module as another process, until the end of the block."""
    line = [sys.executable, str(Path(__file__)), role, "--url", url]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        running.stdout.readline()
        try:
            yield running
        finally:
            running.kill()


async def next_final(port: DelegationPort) -> DelegationEvent:
    """Skip to the end of the task under way."""
    async for event in port.events():
        if isinstance(event, DelegationEvent):
            port.acknowledge_nowait(event.task_id, event.seq)
            if event.is_terminal:
                return event
    raise AssertionError("the port was closed")


async def measure_handover(port: DelegationPort, tasks: int, figures: Figures) -> None:
    """One task after another, with pauses like those between turns but shorter."""
    for number in range(tasks):
        package = make_package(number, "at once")
        await anyio.sleep(random.uniform(0.001, 0.006))
        decided_s = time.monotonic()
        assert port.submit_nowait(package)
        final = await next_final(port)
        begun_s = final.detail["begun_s"]
        assert isinstance(begun_s, float)
        figures["handover"].append(begun_s - decided_s)
        figures["round_trip"].append(time.monotonic() - decided_s)


async def measure_raw(url: str, tasks: int, figures: Figures) -> None:
    """The same bytes without the bus."""
    package = make_package(0, "at once").encode()
    async with open_clients(BusSettings(url)) as clients:
        last = "0-0"
        for _ in range(tasks):
            await anyio.sleep(random.uniform(0.001, 0.006))
            decided_s = time.monotonic()
            await command(clients.commands, "XADD", "raw", "*", "package", package)
            reply = await command(clients.blocking, "XREAD", "BLOCK", 0, "STREAMS", "answers", last)
            [(_, [(last, fields)])] = entries_by_stream(reply)
            figures["raw"].append(float(fields["taken_s"]) - decided_s)


async def measure_takeover(url: str, port: DelegationPort, kills: int, figures: Figures) -> None:
    """Kill whoever streams, and wait for the next event of the one that takes over."""
    for number in range(kills):
        with process("worker", url), process("worker", url):
            port.submit_nowait(make_package(1_000_000 + number, "stream"))
            last_s = time.monotonic()
            async for event in port.events():
                assert isinstance(event, DelegationEvent)
                port.acknowledge_nowait(event.task_id, event.seq)
                if event.attempt == 2:
                    figures["takeover"].append(time.monotonic() - last_s)
                    break
                last_s = time.monotonic()
                if event.seq == 5 + number % 10:
                    pid = event.detail["pid"]
                    assert isinstance(pid, int)
                    os.kill(pid, signal.SIGKILL)
            await next_final(port)


async def measure(url: str, tasks: int, kills: int) -> Figures:
    """All measurements, one after another."""
    figures: Figures = {"handover": [], "round_trip": [], "raw": [], "takeover": []}
    async with open_delegation_port(BusSettings(url)) as port:
        with process("worker", url):
            await measure_handover(port, tasks, figures)
        with process("raw-worker", url):
            await measure_raw(url, tasks, figures)
        await measure_takeover(url, port, kills, figures)
    return figures


def report(figures: Figures) -> None:
    """The table and the last line."""
    rows = {
        name: {
            "n": len(values),
            **{f"p{q}_ms": round(float(np.percentile(values, q)) * 1000, 2) for q in (50, 95, 99)},
            "max_ms": round(max(values) * 1000, 2),
            "mean_ms": round(statistics.fmean(values) * 1000, 2),
        }
        for name, values in figures.items()
        if values
    }
    print(
        f"{'':12}"
        + "".join(f"{title:>10}" for title in ("n", "p50 ms", "p95 ms", "p99 ms", "max ms", "mean ms"))
    )
    for name, row in rows.items():
        print(f"{name:12}" + "".join(f"{value:>10}" for value in row.values()))
    machine = {
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "redis-py": version("redis"),
        "system": platform.platform(terse=True),
    }
    print(json.dumps({"bench": "handover", "figures": rows, "machine": machine}))


def main() -> None:
    """Read the arguments and do what the role says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("role", nargs="?", choices=("measure", "worker", "raw-worker"), default="measure")
    parser.add_argument(
        "--url", help="a running server; without it the built-in one is started in a new folder"
    )
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.role != "measure":
        anyio.run(worker if arguments.role == "worker" else raw_worker, arguments.url)
    elif arguments.url:
        report(anyio.run(measure, arguments.url, arguments.tasks, arguments.kills))
    else:
        with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder)) as server:
            report(anyio.run(measure, server.url, arguments.tasks, arguments.kills))


if __name__ == "__main__":
    main()
