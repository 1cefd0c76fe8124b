"""Pictures go beside the packages: a worker gets exactly what was shown, or is told that it is gone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from redis.exceptions import ConnectionError

from microturn.background_agent import Control, Emit, ReflexEngine, Worker
from microturn.background_agent.worker_bus import TaskEntry
from microturn.protocols import ContextPackage, DelegationEvent, Reference
from microturn.runtime.bus import BusSettings, WorkerPort, open_delegation_port, open_worker_port
from microturn.runtime.bus.attachments import ATTACHMENT_LIMIT_BYTES, WAITING_LIMIT, AttachmentSender
from microturn.runtime.bus.connection import Clients, open_clients
from microturn.runtime.bus.exchange import Argument, Command
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.link import Link
from microturn.tools import (
    Phrase,
    ReferenceAlteredError,
    ReferenceGoneError,
    ToolContext,
    ToolRegistry,
    tool,
)

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]
PICTURE = bytes(range(256)) * 40 + b"\r\n$-1\r\n\xff\xd8"


@tool(phrases=[Phrase("what do you see")])
async def look(context: ToolContext) -> str:
    """Look at what the user has shown last."""
    picture = await context.load(context.package.key_frames[-1])
    return f"{len(picture)} bytes, {hashlib.sha256(picture).hexdigest()[:8]}"


class NobodyBehind:
    """The engine behind the reflexes of a test that has no model: it says that it was asked."""

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        await emit("failed", text="left to the model")


class OftenAway:
    """A link whose server does not answer a few times."""

    def __init__(self, link: Link, times: int) -> None:
        self._link = link
        self._times = times

    async def send(self, *args: Argument, key: str | None = None) -> object:
        self._times -= 1
        if self._times >= 0:
            raise ConnectionError("away")
        return await self._link.send(*args, key=key)

    def route(self, key: str) -> str:
        return self._link.route(key)

    async def send_all(self, key: str, commands: Sequence[Command]) -> list[object]:
        return await self._link.send_all(key, commands)

    async def each_primary(self, *args: Argument) -> dict[str, object]:
        return await self._link.each_primary(*args)

    async def aclose(self) -> None:
        await self._link.aclose()


def kept(sender: AttachmentSender, data: bytes, session_id: str = "session") -> Reference:
    reference = sender.keep_nowait(session_id, data, "image/jpeg", 1_500)
    assert reference is not None
    return reference


async def all_sent(sender: AttachmentSender, within_s: float = 5.0) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sender.run)
        with anyio.fail_after(within_s):
            await sender.all_sent()
        tasks.cancel_scope.cancel()


async def stored(clients: Clients, reference: Reference) -> object:
    return await clients.bulk.send("GET", reference.key, key=reference.key)


async def entry_of(worker: WorkerPort, settings: BusSettings, package: ContextPackage) -> TaskEntry:
    """A task as its worker has it."""
    async with open_delegation_port(settings) as port:
        await port.submit(package)
        with anyio.fail_after(5):
            return await worker.take()


@pytest.mark.parametrize("size", [1, len(PICTURE), ATTACHMENT_LIMIT_BYTES])
async def test_a_worker_gets_the_bytes_that_were_kept(
    settings: BusSettings, package: MakePackage, size: int
) -> None:
    data = (PICTURE * (size // len(PICTURE) + 1))[:size]
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        reference = port.keep_nowait("session", data, "image/jpeg", 1_500)
        assert reference is not None
        assert (reference.sha256, reference.media_type) == (hashlib.sha256(data).hexdigest(), "image/jpeg")
        await port.submit(package("a").model_copy(update={"key_frames": (reference,)}))
        entry = await worker.take()
        assert entry.package.key_frames == (reference,)
        assert await worker.load(entry, reference) == data


@pytest.mark.parametrize("size", [0, ATTACHMENT_LIMIT_BYTES + 1])
async def test_what_is_empty_or_too_large_is_not_kept(settings: BusSettings, size: int) -> None:
    async with open_delegation_port(settings) as port:
        assert port.keep_nowait("session", b"x" * size, "image/jpeg", 0) is None
        await port.flush()


async def test_a_picture_is_forgotten_after_its_time(settings: BusSettings, package: MakePackage) -> None:
    brief = replace(settings, attachment_ttl_s=0.3)
    async with open_clients(settings) as clients, open_worker_port(settings) as worker:
        entry = await entry_of(worker, settings, package("a"))
        sender = AttachmentSender(clients.bulk, Keys(brief.tenant, brief.shards), ttl_s=0.3)
        reference = kept(sender, PICTURE)
        await all_sent(sender)
        assert reference.ttl_s == 0.3
        assert await stored(clients, reference) == PICTURE
        await anyio.sleep(0.4)
        with pytest.raises(ReferenceGoneError, match=r"at 1\.5 s .* gone; ask the user"):
            await worker.load(entry, reference)


async def test_the_time_of_the_settings_is_the_servers(settings: BusSettings) -> None:
    async with (
        open_clients(settings) as clients,
        open_delegation_port(replace(settings, attachment_ttl_s=50.0)) as port,
    ):
        reference = port.keep_nowait("session", PICTURE, "image/jpeg", 0)
        assert reference is not None
        await port.flush()
        left_ms = await clients.commands.send("PTTL", reference.key, key=reference.key)
        assert isinstance(left_ms, int)
        assert 40_000 < left_ms <= 50_000


async def test_bytes_that_are_not_those_of_the_reference_are_refused(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_clients(settings) as clients, open_worker_port(settings) as worker:
        entry = await entry_of(worker, settings, package("a"))
        sender = AttachmentSender(clients.bulk, Keys(settings.tenant, settings.shards), ttl_s=9)
        reference = kept(sender, PICTURE)
        await all_sent(sender)
        await clients.bulk.send("SET", reference.key, PICTURE[:-1] + b"\x00", key=reference.key)
        with pytest.raises(ReferenceAlteredError, match="not what the reference says"):
            await worker.load(entry, reference)


async def test_a_reference_can_name_no_key_but_that_of_an_attachment_of_its_own_shard(
    settings: BusSettings, package: MakePackage
) -> None:
    wide = replace(settings, shards=4)
    keys = Keys(wide.tenant, wide.shards)
    elsewhere = next(name for name in map(str, range(99)) if keys.shard_of(name) != keys.shard_of("session"))
    async with open_clients(wide) as clients, open_worker_port(wide) as worker:
        entry = await entry_of(worker, wide, package("a"))
        sender = AttachmentSender(clients.bulk, keys, ttl_s=9)
        own, other = kept(sender, PICTURE), kept(sender, PICTURE, elsewhere)
        await all_sent(sender)
        assert await worker.load(entry, own) == PICTURE
        for false in (
            other,
            own.model_copy(update={"key": keys.task(keys.shard_of("session"), "a")}),
            own.model_copy(update={"sha256": own.sha256.upper()}),
            own.model_copy(update={"sha256": "../t:a", "key": own.key[:-64] + "../t:a"}),
        ):
            with pytest.raises(ReferenceAlteredError):
                await worker.load(entry, false)


async def test_a_picture_that_its_task_has_overtaken_is_waited_for(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_clients(settings) as clients, open_worker_port(settings) as worker:
        entry = await entry_of(worker, settings, package("a"))
        sender = AttachmentSender(clients.bulk, Keys(settings.tenant, settings.shards), ttl_s=9)
        reference = kept(sender, PICTURE)
        loaded: list[bytes] = []

        async def load() -> None:
            loaded.append(await worker.load(entry, reference))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(load)
            await anyio.sleep(0.15)
            assert loaded == []
            await all_sent(sender)
        assert loaded == [PICTURE]


async def test_where_too_much_waits_the_oldest_is_left_out(settings: BusSettings) -> None:
    async with open_clients(settings) as clients:
        sender = AttachmentSender(clients.bulk, Keys(settings.tenant, settings.shards), ttl_s=9)
        first = kept(sender, b"first")
        others = [kept(sender, b"picture %d" % n) for n in range(WAITING_LIMIT - 1)]
        kept(sender, b"first")  # shown again: it waits as the newest
        last = kept(sender, b"last")
        await all_sent(sender)
        assert await stored(clients, others[0]) is None
        assert await stored(clients, first) == b"first"
        assert await stored(clients, last) == b"last"
        for n, reference in enumerate(others[1:], start=1):
            assert await stored(clients, reference) == b"picture %d" % n


async def test_a_picture_is_sent_once_the_server_is_back(settings: BusSettings) -> None:
    async with open_clients(settings) as clients:
        link = OftenAway(clients.bulk, times=4)
        sender = AttachmentSender(link, Keys(settings.tenant, settings.shards), ttl_s=9)
        reference = kept(sender, PICTURE)
        await all_sent(sender)
        assert await stored(clients, reference) == PICTURE


async def test_a_picture_that_the_server_refuses_holds_up_no_other(
    settings: BusSettings, caplog: pytest.LogCaptureFixture
) -> None:
    keys = Keys(settings.tenant, settings.shards)
    async with open_clients(settings) as clients:
        refusing = AttachmentSender(clients.bulk, keys, ttl_s=0)  # the server takes no such time
        kept(refusing, PICTURE)
        kept(refusing, b"another")
        await all_sent(refusing)
        assert caplog.text.count("the server refused it (ResponseError)") == 2


async def test_a_tool_of_a_worker_sees_what_was_shown(
    settings: BusSettings, package: MakePackage, tmp_path: Path
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker_port:
        worker = Worker(
            worker_port,
            ReflexEngine(NobodyBehind(), data_dir=tmp_path),
            ToolRegistry([look]),
            concurrency=1,
            lease_s=settings.lease_s,
        )
        reference = port.keep_nowait("session", PICTURE, "image/jpeg", 0)
        assert reference is not None
        gone = reference.model_copy(
            update={"sha256": "0" * 64, "key": reference.key.replace(reference.sha256, "0" * 64)}
        )
        for task_id, frame in (("seen", reference), ("gone", gone)):
            asked = package(task_id, intent="what do you see")
            await port.submit(asked.model_copy(update={"key_frames": (frame,)}))
        ends: dict[str, str] = {}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            with anyio.fail_after(10):
                async for event in port.events():
                    assert isinstance(event, DelegationEvent)
                    if event.is_terminal:
                        ends[event.task_id] = event.text
                    if len(ends) == 2:
                        break
            worker.drain()
        seen = f"{len(PICTURE)} bytes, {hashlib.sha256(PICTURE).hexdigest()[:8]}"
        assert ends == {"seen": seen, "gone": "left to the model"}
