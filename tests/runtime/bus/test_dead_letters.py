"""The tasks that were given up: found, read, dropped and tried again, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from microturn.protocols import ContextPackage, DelegationEvent
from microturn.runtime.bus import (
    BusSettings,
    DelegationPort,
    EmbeddedServer,
    access_rules,
    open_delegation_port,
    open_worker_port,
)
from microturn.runtime.bus._errors import UnknownDeadLetterError, UnrepeatableTaskError
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.dead_letters import DeadLetters, open_dead_letters
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.raw import command

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]


@pytest.fixture
async def letters(settings: BusSettings) -> AsyncIterator[DeadLetters]:
    async with open_dead_letters(settings) as opened:
        yield opened


@pytest.fixture
async def port(settings: BusSettings) -> AsyncIterator[DelegationPort]:
    async with open_delegation_port(settings, runtime_id="r1") as opened:
        yield opened


async def give_up(settings: BusSettings, port: DelegationPort, *packages: ContextPackage) -> None:
    """Let the workers of each task die until it is given up."""
    once = replace(settings, max_attempts=1, lease_s=0.1)
    for package in packages:
        await port.submit(package)
        async with open_worker_port(once) as worker:
            assert await worker.begin(await worker.take()) is not None
        async with open_worker_port(once) as other:
            assert await other.begin(await other.take()) is None


async def test_the_newest_come_first_and_a_prefix_names_one(
    letters: DeadLetters, settings: BusSettings, port: DelegationPort, package: MakePackage
) -> None:
    await give_up(settings, port, package("aaaa-1"), package("aaaa-2"), package("bbbb-1"))
    count, newest = await letters.newest(2)
    assert count == 3
    assert [letter.task_id for letter in newest] == ["bbbb-1", "aaaa-2"]
    assert (await letters.find("bbbb")).task_id == "bbbb-1"
    assert (await letters.find(newest[0].entry_id)).task_id == "bbbb-1"
    with pytest.raises(UnknownDeadLetterError, match="2 of them begin so"):
        await letters.find("aaaa")
    with pytest.raises(UnknownDeadLetterError, match="none begins so"):
        await letters.find("bbb")  # too short to mean one


async def test_all_that_is_known_of_one_is_read(
    letters: DeadLetters, settings: BusSettings, port: DelegationPort, package: MakePackage
) -> None:
    await give_up(settings, port, package("poison", intent="what was wanted"))
    dead = await letters.read(await letters.find("poison"))
    assert dead.package is not None and dead.package.intent == "what was wanted"
    assert dead.session_state == "open"
    assert dead.attempt == 2  # one that died, and the raise that fences it
    assert dead.promise is not None
    assert [event.kind for event in dead.promise.events] == ["accepted", "dead"]


async def test_another_try_is_a_new_task_of_the_same_session(
    letters: DeadLetters, settings: BusSettings, port: DelegationPort, package: MakePackage
) -> None:
    await give_up(settings, port, package("poison", intent="what was wanted", urgent=True))
    outcome, task_id = await letters.retry(await letters.find("poison"))
    assert outcome == "accepted" and task_id != "poison"
    assert (await letters.newest(5))[0] == 0
    async with open_worker_port(settings) as worker:
        entry = await worker.take()
        assert (entry.package.task_id, entry.package.session_id) == (task_id, "session")
        assert entry.package.intent == "what was wanted" and entry.package.urgent
        begun = await worker.begin(entry)
        assert begun is not None and begun.attempt == 1
        final = DelegationEvent(task_id=task_id, attempt=1, seq=1, kind="final", text="done")
        await worker.emit(task_id, 1, [final], finish=True)
    ledger = await port.ledger("session")
    promise = ledger.promises[-1]
    assert (promise.task_id, promise.task_state, promise.state) == (task_id, "final", "open")


async def test_a_session_that_has_ended_is_not_asked_again(
    letters: DeadLetters, settings: BusSettings, port: DelegationPort, package: MakePackage
) -> None:
    await give_up(settings, port, package("poison"))
    port.leave_nowait("session")
    await port.flush()
    with pytest.raises(UnrepeatableTaskError, match="its session is ended"):
        await letters.retry(await letters.find("poison"))
    assert (await letters.newest(5))[0] == 1


async def test_a_session_that_is_forgotten_is_not_asked_again(
    letters: DeadLetters, settings: BusSettings, port: DelegationPort, package: MakePackage
) -> None:
    await give_up(settings, port, package("poison"))
    keys = Keys(settings.tenant, settings.shards)
    async with open_clients(settings) as clients:
        for key in (*keys.of_session("session"), keys.task(0, "poison")):
            await command(clients.commands, "DEL", key, key=key)
    letter = await letters.find("poison")
    dead = await letters.read(letter)
    assert (dead.session_state, dead.attempt, dead.promise) == ("forgotten", 0, None)
    with pytest.raises(UnrepeatableTaskError, match="its session is forgotten"):
        await letters.retry(letter)


async def test_what_cannot_be_read_can_be_seen_and_dropped_but_not_tried_again(
    letters: DeadLetters, settings: BusSettings, port: DelegationPort
) -> None:
    keys = Keys(settings.tenant, settings.shards)
    async with open_clients(settings) as clients:
        stream = keys.tasks(0)
        words = ("XADD", stream, "*", "task", "odd", "rt", "r1", "v", "9.0", "package", '{"v":"9.0"}')
        await command(clients.commands, *words, key=stream)
        async with open_worker_port(settings) as worker:
            await port.submit(_plain("next"))
            assert (await worker.take()).package.task_id == "next"  # the odd one was given up on the way
    letter = await letters.find("odd")
    assert letter.reason == "schema"
    assert (await letters.read(letter)).package is None
    with pytest.raises(UnrepeatableTaskError, match="cannot be read by this release"):
        await letters.retry(letter)
    await letters.drop(letter)
    assert await letters.newest(5) == (0, ())
    with pytest.raises(UnknownDeadLetterError):
        await letters.read(letter)


async def test_one_is_found_among_more_than_a_page(letters: DeadLetters, settings: BusSettings) -> None:
    key = Keys(settings.tenant, settings.shards).dead(0)
    async with open_clients(settings) as clients:
        adds = [("XADD", key, "*", "task", f"task-{number}", "reason", "schema") for number in range(1100)]
        await clients.commands.send_all(key, adds)
    assert (await letters.find("task-0")).task_id == "task-0"
    assert (await letters.newest(3))[0] == 1100


async def test_a_tenants_rights_are_enough_for_all_of_it(
    settings: BusSettings, server: EmbeddedServer, port: DelegationPort, package: MakePackage
) -> None:
    await give_up(settings, port, package("poison"), package("venom"))
    name = f"keeper-{settings.tenant}"
    async with open_clients(settings) as clients:
        rules = access_rules(settings.tenant).split()
        await command(clients.commands, "ACL", "SETUSER", name, "reset", "on", ">right", *rules)
    user = replace(settings, url=server.url.replace("unix://", f"unix://{name}:right@"))
    async with open_dead_letters(user) as letters:
        assert (await letters.read(await letters.find("venom"))).promise is not None
        assert (await letters.retry(await letters.find("poison")))[0] == "accepted"
        await letters.drop(await letters.find("venom"))
        assert (await letters.newest(5))[0] == 0


async def test_a_queue_that_is_full_refuses_another_try_and_keeps_it(
    settings: BusSettings, port: DelegationPort, package: MakePackage
) -> None:
    await give_up(settings, port, package("poison"))
    await port.submit(package("waits"))
    async with open_dead_letters(replace(settings, queue_limit=1)) as letters:
        assert (await letters.retry(await letters.find("poison")))[0] == "full"
        assert (await letters.newest(5))[0] == 1


def _plain(task_id: str) -> ContextPackage:
    return ContextPackage(
        task_id=task_id,
        session_id="session",
        idempotency_key=task_id,
        intent="",
        said_start_ms=0,
        said_end_ms=400,
        local_time="2026-01-01T12:00:00+00:00",
        deadline_s=30.0,
    )
