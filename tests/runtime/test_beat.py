"""The beat on a virtual clock, and what it does when it falls behind."""

from __future__ import annotations

from itertools import pairwise

import pytest

from microturn.runtime.beat import MAKE_UP_LIMIT, Beat, Tick
from microturn.runtime.clock import VirtualClock, WallClock

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


async def ticks(beat: Beat, work_s: dict[int, float], count: int) -> list[Tick]:
    """Take `count` ticks; after the tick of an index, spend `work_s` of the clock's time."""
    seen = []
    async for tick in beat.ticks():
        seen.append(tick)
        if len(seen) == count:
            break
        clock = beat.clock
        await clock.sleep_until(clock.now() + work_s.get(tick.index, 0.0))
    return seen


async def test_every_micro_turn_gets_a_tick_when_it_has_been_heard() -> None:
    clock = VirtualClock()
    seen = await ticks(Beat(clock), {}, 5)
    assert [(tick.index, tick.count, tick.missed) for tick in seen] == [(n, 1, 0) for n in range(5)]
    assert clock.now() == pytest.approx(1.0)


async def test_a_step_of_half_a_second_is_made_up_in_one_tick() -> None:
    seen = await ticks(Beat(VirtualClock()), {1: 0.5}, 5)
    assert [(tick.index, tick.count) for tick in seen] == [(0, 1), (1, 1), (3, 2), (4, 1), (5, 1)]
    assert seen[2].lateness_s == pytest.approx(0.1)


async def test_a_long_stall_is_made_up_over_several_ticks_and_nothing_is_dropped() -> None:
    seen = await ticks(Beat(VirtualClock()), {0: 3.0}, 6)
    assert max(tick.count for tick in seen) == MAKE_UP_LIMIT
    indices = [0] + [tick.index for tick in seen]
    assert sum(tick.count for tick in seen) == seen[-1].index + 1
    assert all(b > a for a, b in pairwise(indices[1:]))
    assert seen[-1].count == 1


async def test_a_beat_that_begins_late_on_its_clock_counts_from_there() -> None:
    clock = VirtualClock()
    await clock.sleep_until(12.3)
    beat = Beat(clock)
    (first,) = await ticks(beat, {}, 1)
    assert (first.index, first.lateness_s) == (0, 0.0)
    assert beat.session_ms() == pytest.approx(200)


async def test_a_virtual_clock_takes_real_time_only_while_the_outside_is_busy() -> None:
    real, busy = WallClock(), False
    clock = VirtualClock(outside_is_busy=lambda: busy)
    await clock.sleep_until(1000.0)
    assert real.now() < 1.0
    busy = True
    before = real.now()
    await clock.sleep_until(1000.05)
    assert real.now() - before >= 0.05
