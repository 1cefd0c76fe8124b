"""How much the bus takes: packages and partials per second, a long queue, and an urgent task behind it."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, cast

import anyio
import psutil
from bench_handover import make_package
from child import child
from redis import Redis

from microturn.protocols import ContextPackage, DelegationEvent
from microturn.runtime.bus import BusSettings, DelegationPort, open_delegation_port

SUBMITTERS = 64
SLOTS = 2
URGENT_WITHIN_S = 5.0
WORKERS = 2
FLOODS_EACH = 8
"""Tasks that each worker has under way while partials are counted."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue that was filled, and what comes past it."""

    submits_per_s: float
    used_mb: float
    """Memory of the server that the waiting packages take."""
    urgent_s: list[float | None]
    """From the submit of each urgent task to its begin; None where it had not begun in 5 s."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Partials through one server, to one runtime that acknowledges each."""

    partials_per_s: float
    cpu_us: dict[str, float]
    """Time of a core for each partial, by who took it."""


async def measure_queue(url: str, packages: int, urgent: int) -> Queue:
    """Keep all ordinary slots busy, fill the queue, and let urgent tasks overtake it."""
    settings = BusSettings(url, tenant="queue", queue_limit=packages + 100)
    with child("delegation_worker.py", url, settings.tenant, SLOTS, settings.lease_s):
        async with open_delegation_port(settings) as port:
            await _occupy(port)
            before_bytes = _used_bytes(url)
            rate = await _fill(port, [_package(f"waiting-{n}", "mark") for n in range(packages)])
            used_mb = (_used_bytes(url) - before_bytes) / 1e6
            waits = [await _overtake(port, f"urgent-{n}") for n in range(urgent)]
    return Queue(rate, used_mb, waits)


async def measure_flow(url: str, server_pid: int, partials: int) -> Flow:
    """Count partials from several workers, of several tasks each."""
    settings = BusSettings(url, tenant="flow")
    each = partials // (WORKERS * FLOODS_EACH)
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                child("delegation_worker.py", url, settings.tenant, FLOODS_EACH, settings.lease_s)
            )
            for _ in range(WORKERS)
        ]
        measured = {
            "runtime": [os.getpid()],
            "workers": [worker.pid for worker in workers],
            "server": [server_pid],
        }
        async with open_delegation_port(settings) as port:
            await _flood(port, "warm", 20)
            before_s = _cpu_s(measured)
            begin_s = time.monotonic()
            counted = await _flood(port, "flood", each)
            elapsed_s = time.monotonic() - begin_s
            used_s = {who: after - before_s[who] for who, after in _cpu_s(measured).items()}
    return Flow(counted / elapsed_s, {who: used / counted * 1e6 for who, used in used_s.items()})


async def _occupy(port: DelegationPort) -> None:
    """Give the worker's ordinary slots tasks that do not end."""
    for number in range(SLOTS):
        await port.submit(_package(f"hold-{number}", "hold"))
    running = 0
    async for event in port.events():
        assert isinstance(event, DelegationEvent)
        running += event.kind == "progress"
        if running == SLOTS:
            return


async def _fill(port: DelegationPort, packages: Sequence[ContextPackage]) -> float:
    """Hand packages over from many tasks at once; how many a second."""
    waiting = iter(packages)

    async def submit() -> None:
        for package in waiting:
            await port.submit(package)

    begin_s = time.monotonic()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_drain, port, len(packages))
        for _ in range(SUBMITTERS):
            tasks.start_soon(submit)
    return len(packages) / (time.monotonic() - begin_s)


async def _drain(port: DelegationPort, accepted: int) -> None:
    """Read and acknowledge until so many tasks are accepted."""
    async for event in port.events():
        assert isinstance(event, DelegationEvent)
        port.acknowledge_nowait(event.task_id, event.seq)
        accepted -= event.kind == "accepted"
        if accepted == 0:
            return


async def _overtake(port: DelegationPort, task_id: str) -> float | None:
    """Hand over an urgent task at a random moment; how long until it begins."""
    await anyio.sleep(random.uniform(0.02, 0.2))
    submitted_s = time.monotonic()
    assert port.submit_nowait(_package(task_id, "mark").model_copy(update={"urgent": True}))
    with anyio.move_on_after(URGENT_WITHIN_S):
        async for event in port.events():
            assert isinstance(event, DelegationEvent)
            port.acknowledge_nowait(event.task_id, event.seq)
            if event.kind == "final":
                assert event.task_id == task_id
                return cast("float", event.detail["begun_s"]) - submitted_s
    return None


async def _flood(port: DelegationPort, name: str, each: int) -> int:
    """Have as many tasks as the workers run at once send partials; read and acknowledge them all, and count."""
    tasks, partials = WORKERS * FLOODS_EACH, 0
    for number in range(tasks):
        await port.submit(_package(f"{name}-{number}", f"flood {each}"))
    async for event in port.events():
        assert isinstance(event, DelegationEvent)
        port.acknowledge_nowait(event.task_id, event.seq)
        partials += event.kind == "partial"
        tasks -= event.is_terminal
        if tasks == 0:
            await port.acknowledge(event.task_id, event.seq)  # what is not stored yet belongs to the work
            return partials
    raise AssertionError("the port was closed")


def _package(task_id: str, intent: str) -> ContextPackage:
    package = make_package(0, intent)
    names = {"task_id": task_id, "idempotency_key": task_id, "session_id": task_id, "deadline_s": 600.0}
    return package.model_copy(update=names)


def _used_bytes(url: str) -> int:
    with Redis.from_url(url) as redis:
        info = cast("dict[str, Any]", redis.info("memory"))
    return int(info["used_memory"])


def _cpu_s(processes: dict[str, list[int]]) -> dict[str, float]:
    return {who: sum(_own_cpu_s(pid) for pid in pids) for who, pids in processes.items()}


def _own_cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
