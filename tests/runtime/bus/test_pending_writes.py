from __future__ import annotations

import time

import anyio
import pytest
from redis.exceptions import ConnectionError

from microturn.runtime.bus.health import HealthMonitor
from microturn.runtime.bus.pending_writes import AT_ONCE, PendingWrites

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


class Store:
    """Counts what is stored, and waits or fails when told to."""

    def __init__(self) -> None:
        self.stored: list[int] = []
        self.under_way = 0
        self.most_under_way = 0
        self.failures = 0
        self.rests: dict[int, int] = {}
        self.open = anyio.Event()

    async def __call__(self, key: int) -> bool:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.open.wait()
        self.under_way -= 1
        if self.failures:
            self.failures -= 1
            raise ConnectionError
        self.stored.append(key)
        self.rests[key] = self.rests.get(key, 1) - 1
        return self.rests[key] <= 0


async def test_many_are_stored_at_once_but_never_more_than_so_many() -> None:
    store, health = Store(), HealthMonitor(time.monotonic)
    writes = PendingWrites(store, health=health)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writes.run)
        for key in range(3 * AT_ONCE):
            writes.put(key)
        await anyio.wait_all_tasks_blocked()
        store.open.set()
        await writes.all_stored()
        assert sorted(store.stored) == list(range(3 * AT_ONCE))
        assert store.most_under_way == AT_ONCE
        tasks.cancel_scope.cancel()


async def test_what_is_put_again_while_it_is_stored_is_stored_again() -> None:
    store, health = Store(), HealthMonitor(time.monotonic)
    writes = PendingWrites(store, health=health)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writes.run)
        for _ in range(3):
            writes.put(7)
        await anyio.wait_all_tasks_blocked()
        writes.put(7)
        store.open.set()
        await writes.all_stored()
        assert store.stored == [7, 7]
        tasks.cancel_scope.cancel()


async def test_what_was_stored_in_part_or_failed_is_stored_until_all_of_it_is() -> None:
    store, health = Store(), HealthMonitor(time.monotonic)
    store.open.set()
    store.failures, store.rests = 2, {1: 3}
    writes = PendingWrites(store, health=health)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writes.run)
        writes.put(1)
        writes.put(2)
        await writes.all_stored(lambda key: key == 2)
        await writes.all_stored()
        assert sorted(store.stored) == [1, 1, 1, 2]
        assert health.now.state == "ok"
        store.failures = 1
        writes.put(3)
        with anyio.fail_after(2):
            while health.now.reason != "storing: ConnectionError":
                await anyio.sleep(0)
            await writes.all_stored()
        tasks.cancel_scope.cancel()


async def test_what_is_put_waits_for_more_unless_somebody_waits_for_it() -> None:
    store, health = Store(), HealthMonitor(time.monotonic)
    store.open.set()
    writes = PendingWrites(store, health=health, gather_s=0.1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writes.run)
        for key in (1, 2, 1):
            writes.put(key)
            await anyio.wait_all_tasks_blocked()
        assert store.stored == []
        await anyio.sleep(0.3)
        assert store.stored == [1, 2]
        writes.put(3)
        began_s = time.monotonic()
        await writes.all_stored()
        assert time.monotonic() - began_s < 0.09
        assert store.stored == [1, 2, 3]
        tasks.cancel_scope.cancel()
