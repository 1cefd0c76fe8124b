from __future__ import annotations

import itertools

import pytest

from microturn.protocols import UnavailableError
from microturn.runtime.bus import Health
from microturn.runtime.bus.health import HealthMonitor

pytestmark = pytest.mark.unit


def test_the_bus_is_degraded_as_long_as_one_part_fails_and_says_since_when() -> None:
    ticks = itertools.count(10)
    monitor = HealthMonitor(lambda: float(next(ticks)))
    assert monitor.now == Health("ok", 10.0)
    monitor.fails("reading", ConnectionError())
    monitor.fails("sending", UnavailableError("words that are not for logs"))
    assert monitor.now == Health("degraded", 11.0, "reading: ConnectionError, sending: UnavailableError")
    monitor.works("reading")
    assert monitor.now.state == "degraded"
    assert monitor.now.since_s == 11.0
    monitor.works("sending")
    assert monitor.now == Health("ok", 12.0)


def test_the_count_of_workers_outlives_a_change_of_state() -> None:
    monitor = HealthMonitor(lambda: 1.0)
    monitor.count_workers(3)
    monitor.fails("presence", TimeoutError())
    assert monitor.now.workers == 3
