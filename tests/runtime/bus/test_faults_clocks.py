"""No clock but the server's decides anything: runtimes and workers may be hours apart."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import anyio
import pytest

from microturn.protocols import ContextPackage
from microturn.runtime.bus import BusSettings, open_delegation_port
from tests.runtime.bus.worker_processes import StartWorkers, assert_whole, collect

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]
HOUR_S = 3600.0


@pytest.mark.parametrize("runtime_offset_s", [HOUR_S, -HOUR_S])
async def test_workers_and_a_runtime_hours_apart_work_as_if_their_clocks_were_right(
    settings: BusSettings,
    package: MakePackage,
    start_workers: StartWorkers,
    monkeypatch: pytest.MonkeyPatch,
    runtime_offset_s: float,
) -> None:
    real_time, real_monotonic = time.time, time.monotonic
    early = start_workers(1, clock_offset_s=-HOUR_S)
    late = start_workers(1, clock_offset_s=HOUR_S)
    monkeypatch.setattr(time, "time", lambda: real_time() + runtime_offset_s)
    async with open_delegation_port(settings, clock=lambda: real_monotonic() + runtime_offset_s) as port:
        for name in ("a", "b", "c", "d"):
            await port.submit(package(name, intent="stream 8 60"))
        seen = await collect(port, 4)
        for events in seen.values():
            assert_whole(events, 8)
            assert {event.attempt for event in events} == {0, 1}, "a lease was taken for over"
        await port.submit(package("e", intent="stream 8 60"))
        os.kill(early.pids[0], signal.SIGSTOP)
        assert_whole((await collect(port, 1))["e"], 8)
        assert late.pids


async def test_a_deadline_is_counted_by_the_server_though_the_workers_clock_is_late(
    settings: BusSettings, package: MakePackage, start_workers: StartWorkers
) -> None:
    start_workers(1, clock_offset_s=-HOUR_S)
    async with open_delegation_port(settings, clock=lambda: time.monotonic() + HOUR_S) as port:
        with anyio.fail_after(5):
            await port.submit(package("a", intent="stream 1000 50", deadline_s=0.8))
            assert (await collect(port, 1))["a"][-1].kind == "expired"
