"""Calls made at the same time go together, each gets its own reply or error, and none waits for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest
from redis.exceptions import ConnectionError, ResponseError

from microturn.runtime.bus import BusSettings, EmbeddedServer
from microturn.runtime.bus.batching import MOST_CALLS, BatchingLink
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.exchange import Argument, Command
from microturn.runtime.bus.link import Link
from microturn.runtime.bus.own_tasks import own_tasks
from microturn.runtime.bus.raw import command
from microturn.runtime.bus.scripts import Scripts

pytestmark = [pytest.mark.redis, pytest.mark.anyio]


class Watched:
    """Passes everything on to a real link, and counts the batches; `gate` holds them back."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.alone = 0
        self.batches: list[int] = []
        self.gate = anyio.Event()
        self.gate.set()

    def route(self, key: str) -> str:
        return self._link.route(key)

    async def send(self, *args: Argument, key: str | None = None) -> object:
        self.alone += 1
        await self.gate.wait()
        return await self._link.send(*args, key=key)

    async def send_all(self, key: str, commands: Sequence[Command]) -> list[object]:
        self.batches.append(len(commands))
        await self.gate.wait()
        return await self._link.send_all(key, commands)

    async def each_primary(self, *args: Argument) -> dict[str, object]:
        return await self._link.each_primary(*args)

    async def aclose(self) -> None:
        await self._link.aclose()


@asynccontextmanager
async def batching(settings: BusSettings) -> AsyncIterator[tuple[BatchingLink, Watched]]:
    """A batching link over the blocking client, which has no batches of its own."""
    async with open_clients(settings) as clients, own_tasks() as tasks:
        watched = Watched(clients.blocking)
        yield BatchingLink(watched, tasks), watched


async def test_a_call_that_is_alone_is_sent_alone(settings: BusSettings) -> None:
    async with batching(settings) as (link, watched):
        for number in range(5):
            assert await link.send("RPUSH", f"{settings.tenant}:list", "x", key="list") == number + 1
        assert (watched.alone, watched.batches) == (5, [])


async def test_calls_made_at_once_go_together_in_their_order_and_each_gets_its_reply(
    settings: BusSettings,
) -> None:
    key, replies = f"{settings.tenant}:list", dict[int, object]()
    async with batching(settings) as (link, watched):

        async def push(number: int) -> None:
            replies[number] = await link.send("RPUSH", key, number, key=key)

        async with anyio.create_task_group() as tasks:
            for number in range(3 * MOST_CALLS):
                tasks.start_soon(push, number)
        assert replies == {number: number + 1 for number in range(3 * MOST_CALLS)}
        assert watched.alone == 1
        assert len(watched.batches) == 3
        assert max(watched.batches) == MOST_CALLS


async def test_an_error_reaches_only_the_caller_whose_call_it_was(settings: BusSettings) -> None:
    key, outcomes = f"{settings.tenant}:string", dict[int, object]()
    async with batching(settings) as (link, watched):
        await command(link, "SET", key, "text")

        async def call(number: int) -> None:
            words = ("INCR", key) if number == 3 else ("GET", key)
            try:
                outcomes[number] = await link.send(*words, key=key)
            except ResponseError as error:
                outcomes[number] = error

        async with anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(call, number)
        assert watched.batches == [5]
        assert isinstance(outcomes.pop(3), ResponseError)
        assert set(outcomes.values()) == {"text"}


async def test_a_script_that_the_server_forgot_is_sent_anew_for_each_call_of_a_batch(
    settings: BusSettings,
) -> None:
    async with open_clients(settings) as clients:
        await command(clients.commands, "SCRIPT", "FLUSH")
        scripts, replies = Scripts(clients.commands), list[list[str]]()

        async def show(name: str) -> None:
            replies.append(await scripts.run("presence", [f"{settings.tenant}:{{x}}:workers"], name, 60_000))

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(show, f"worker{number}")
        assert sorted(int(reply[0]) for reply in replies) == list(range(1, 21))


async def test_when_the_server_is_away_every_caller_of_a_batch_is_told(server: EmbeddedServer) -> None:
    nowhere = BusSettings("redis://127.0.0.1:1", command_timeout_s=0.2)
    async with batching(nowhere) as (link, watched):
        told = 0

        async def call() -> None:
            nonlocal told
            with pytest.raises(ConnectionError):
                await link.send("GET", "key", key="key")
            told += 1

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(call)
        assert told == 5
        assert watched.batches == [4]


async def test_a_caller_who_is_cancelled_holds_up_nobody(settings: BusSettings) -> None:
    key = f"{settings.tenant}:list"
    async with batching(settings) as (link, watched):
        watched.gate = anyio.Event()
        replies: list[object] = []

        async def push() -> None:
            replies.append(await link.send("RPUSH", key, "x", key=key))

        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as impatient:
                async with anyio.create_task_group() as cancelled:
                    tasks.start_soon(push)
                    await anyio.wait_all_tasks_blocked()
                    cancelled.start_soon(push)
                    tasks.start_soon(push)
                    await anyio.wait_all_tasks_blocked()
                    impatient.cancel()
            watched.gate.set()
        assert len(replies) == 2


async def test_callers_are_not_left_waiting_when_the_connections_are_closed(settings: BusSettings) -> None:
    outcomes: list[str] = []

    async def call(link: BatchingLink) -> None:
        with anyio.CancelScope(shield=True):  # as a worker does, who must know whether a call was done
            try:
                await link.send("GET", "key", key="key")
            except ConnectionError:
                outcomes.append("told")

    with anyio.fail_after(5):
        async with open_clients(settings) as clients, anyio.create_task_group() as callers:
            async with own_tasks() as tasks:
                watched = Watched(clients.blocking)
                link = BatchingLink(watched, tasks)
                watched.gate = anyio.Event()
                for _ in range(3):
                    callers.start_soon(call, link)
                await anyio.wait_all_tasks_blocked()
                assert watched.batches == [2]
            watched.gate.set()
    assert outcomes == ["told", "told"]
