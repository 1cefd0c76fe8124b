"""The watchdog names what holds the event loop up, and is silent while nothing does."""

from __future__ import annotations

import hashlib
import logging
import time
from types import FunctionType

import anyio
import pytest

from microturn.protocols import telemetry_names as names
from microturn.runtime.telemetry.watchdog import LoopWatchdog, watched_loop

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


def plant(seconds: float) -> None:
    """Hold the loop without letting go of it."""
    secret = "pelican"  # noqa: F841  # a local variable that must not be told
    time.sleep(seconds)


async def until_seen(watchdog: LoopWatchdog, count: int) -> None:
    with anyio.fail_after(5):
        while len(watchdog.seen()) < count:
            await anyio.sleep(0.01)


async def test_a_planted_blocker_is_named_once_and_only_when_all_is_loaded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "microturn"):
        async with watched_loop() as watchdog:
            await anyio.sleep(0.1)
            plant(0.6)
            assert watchdog.seen() == ()
            watchdog.arm()
            await anyio.sleep(0.1)
            plant(0.6)
            await until_seen(watchdog, 1)
            await anyio.sleep(0.2)
            (blockage,) = watchdog.seen()
    assert blockage.place.function == "plant"
    assert blockage.place.module.endswith("test_watchdog")
    assert blockage.attributes[names.CODE_LINE] == blockage.place.line
    assert 0.19 < blockage.silent_s < 0.6
    assert "plant" in caplog.text
    assert "pelican" not in caplog.text


async def test_a_library_that_blocks_is_named_with_the_code_of_ours_that_called_it() -> None:
    async with watched_loop() as watchdog:
        watchdog.arm()
        await anyio.sleep(0.1)
        FunctionType(of_ours.__code__, {"__name__": "microturn.planted", "slow_library": slow_library})()
        await until_seen(watchdog, 1)
        blockage = watchdog.seen()[-1]
    assert blockage.place.function == "slow_library"
    assert blockage.caller is not None
    assert (blockage.caller.module, blockage.caller.function) == ("microturn.planted", "of_ours")


def of_ours() -> None:
    """Run under the name of a module of the project."""
    slow_library(0.6)


def slow_library(seconds: float) -> None:
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        hashlib.sha256(b"x" * 1000)


async def test_a_loop_that_waits_is_not_blocked() -> None:
    async with watched_loop(overdue_s=1.0) as watchdog:
        watchdog.arm()
        await anyio.sleep(0.5)
        assert watchdog.seen() == ()
