"""A task that an operator tries again, in a conversation that goes on: its answer is told there, once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from microturn.runtime.bus import BusSettings, EmbeddedServer
from microturn.runtime.bus.dead_letters import open_dead_letters
from microturn.runtime.bus.own_tasks import own_tasks
from microturn.runtime.bus.worker_port import open_worker_port
from microturn.runtime.delegations import FAILED_TEXTS
from microturn.runtime.events import Delegated
from microturn.runtime.hub import Hub, open_hub
from tests.runtime.test_takeover import ASKS, TEXT, Room, Work, is_kept, states

pytestmark = [pytest.mark.redis, pytest.mark.anyio]


@pytest.fixture
def settings(redis_server: EmbeddedServer, request: pytest.FixtureRequest) -> BusSettings:
    return BusSettings(redis_server.url, tenant=request.node.name[:60], lease_s=0.6, presence_s=0.1)


async def give_up(settings: BusSettings) -> None:
    """Let the workers of the one task that waits die until it is given up."""
    once = replace(settings, max_attempts=1, lease_s=0.1)
    for outlives in (True, False):
        async with open_worker_port(once) as worker:
            assert (await worker.begin(await worker.take()) is not None) == outlives


async def retry(settings: BusSettings) -> str:
    async with open_dead_letters(settings) as dead:
        _, (letter,) = await dead.newest(1)
        outcome, task_id = await dead.retry(letter)
    assert outcome == "accepted"
    return task_id


@asynccontextmanager
async def talking(
    settings: BusSettings, operate: Callable[[], Coroutine[None, None, None]], until: Callable[[Room], bool]
) -> AsyncIterator[tuple[Room, Hub]]:
    """A conversation in which something was asked, and somebody operates on its bus beside it."""
    async with open_hub(settings) as hub, open_hub(settings) as other, own_tasks() as tasks:
        room = Room(hub)
        tasks.start_soon(operate)
        await room.talk([ASKS], until)
        yield room, other


def both_are_kept(room: Room) -> bool:
    return len(room.session.delegations.all) == 2 and is_kept(room)


async def test_its_answer_is_told_once_and_its_promise_kept(settings: BusSettings) -> None:
    retried: list[str] = []

    async def operate() -> None:
        await give_up(settings)
        retried.append(await retry(settings))
        async with open_worker_port(settings) as worker:
            work = Work(worker)
            await work.begin()
            await work.say("final", TEXT)

    async with talking(settings, operate, both_are_kept) as (room, other):
        assert room.listener.said == [FAILED_TEXTS["dead"], TEXT]
        assert [event.task_id for event in room.listener.seen(Delegated)][1:] == retried
        assert await states(other) == [("failed", "dead"), ("spoken", "final")]
        later = Room(other)
        await later.talk([], is_kept, reopens=True)
        assert later.listener.said == []
