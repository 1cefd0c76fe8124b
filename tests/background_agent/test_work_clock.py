"""The clock of a run stands still while its user is waited for; the deadline of its task does not."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from microturn.background_agent import RunLimits
from microturn.background_agent.limits import Spending
from microturn.background_agent.work_clock import WorkClock

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


async def test_waits_that_overlap_are_counted_once() -> None:
    clock = WorkClock()
    with clock.stopped():
        await anyio.sleep(0.05)
        with clock.stopped():
            await anyio.sleep(0.05)
        assert clock.waited_s == pytest.approx(clock.elapsed_s, abs=0.04)
    waited_s = clock.waited_s
    assert waited_s >= 0.1
    await anyio.sleep(0.05)
    assert clock.waited_s == waited_s
    assert clock.worked_s == pytest.approx(clock.elapsed_s - waited_s, abs=0.02)
    assert clock.worked_s >= 0.05


async def test_a_block_is_cut_off_by_what_it_works_and_not_by_what_it_waits() -> None:
    clock = WorkClock()
    with anyio.fail_after(5), clock.cut_off_after(0.2) as scope:
        with clock.stopped():
            await anyio.sleep(0.4)
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert clock.elapsed_s >= 0.6
    assert clock.worked_s >= 0.2


async def test_a_block_that_ends_in_time_and_one_without_a_limit_are_not_cut_off() -> None:
    clock = WorkClock()
    for limit_s in (5.0, None):
        with clock.cut_off_after(limit_s) as scope:
            await anyio.lowlevel.checkpoint()
        assert not scope.cancel_called
    with clock.stopped():  # outside of a block there is nothing to be told
        pass


async def test_the_deadline_of_the_task_leaves_less_time_after_a_wait() -> None:
    spending = Spending(RunLimits(), remaining_s=0.5)
    with spending.clock.stopped():
        await anyio.sleep(0.2)
        assert not spending.must_answer
        await anyio.sleep(0.3)
    assert spending.must_answer
