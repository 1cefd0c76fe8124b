"""Receipts and promises: what the user heard is stored, never goes back, and reaches the worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from microturn.protocols import ContextPackage, DelegationEvent, Receipt, ReceiptState
from microturn.runtime.bus import (
    BusSettings,
    DelegationPort,
    EmbeddedServer,
    open_delegation_port,
    open_worker_port,
)
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.raw import command

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]
MakePartial = Callable[[str, int, int], DelegationEvent]


def receipt(state: ReceiptState, words_heard: int = 0, *, seq: int = 1, task_id: str = "a") -> Receipt:
    return Receipt(
        task_id=task_id, seq=seq, state=state, words_heard=words_heard, words_total=9, session_ms=1200
    )


async def stored(port: DelegationPort) -> list[tuple[int, str, int]]:
    """Number, state and words heard of the receipts of the first task."""
    await port.flush()
    [promise, *_] = (await port.ledger("session")).promises
    return [(each.seq, each.state, each.words_heard) for each in promise.receipts]


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ([("queued", 0), ("woven", 0), ("woven", 4)], ("woven", 4)),
        ([("woven", 5), ("woven", 3)], ("woven", 5)),
        ([("woven", 5), ("interrupted", 4)], ("interrupted", 5)),
        ([("interrupted", 5), ("woven", 0), ("heard", 9)], ("heard", 9)),
        ([("heard", 9), ("woven", 2)], ("heard", 9)),
        ([("superseded", 2), ("heard", 9)], ("superseded", 9)),
        ([("dropped", 0), ("interrupted", 0)], ("dropped", 0)),
    ],
)
async def test_a_receipt_never_goes_back(
    settings: BusSettings,
    package: MakePackage,
    said: list[tuple[ReceiptState, int]],
    left: tuple[ReceiptState, int],
) -> None:
    async with open_delegation_port(settings) as port:
        await port.submit(package("a"))
        for state, words_heard in said:  # one after another: the server decides
            port.receipt_nowait("session", receipt(state, words_heard))
            await port.flush()
        assert await stored(port) == [(1, *left)]
        for state, words_heard in said:  # all at once: they are merged before they are sent
            port.receipt_nowait("session", receipt(state, words_heard, seq=2))
        assert await stored(port) == [(1, *left), (2, *left)]


def test_a_merged_receipt_has_the_time_of_the_state_that_it_shows() -> None:
    late = receipt("woven", 3).model_copy(update={"session_ms": 1400})
    assert receipt("heard", 9).followed_by(late) == receipt("heard", 9)
    assert receipt("woven", 9).followed_by(late).session_ms == 1400


async def test_a_running_worker_is_told_of_each_fate_once_and_of_no_steps_on_the_way(
    settings: BusSettings, package: MakePackage, partial: MakePartial
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        entry = await worker.take()
        assert await worker.begin(entry) is not None
        steps: list[tuple[ReceiptState, int]] = [
            ("queued", 0),
            ("woven", 3),
            ("interrupted", 4),
            ("interrupted", 4),
        ]
        for state, words_heard in steps:
            port.receipt_nowait("session", receipt(state, words_heard))
            await port.flush()
        told = await worker.beat(entry, 1)
        assert [(each.state, each.words_heard) for each in told.receipts] == [("interrupted", 4)]
        assert told.updates == ()
        port.receipt_nowait("session", receipt("heard", 9))
        await port.flush()
        result = await worker.emit("a", 1, [partial("a", 1, 1)])
        assert [(each.state, each.words_heard) for each in result.receipts] == [("heard", 9)]
        assert (await worker.beat(entry, 1)).receipts == ()


async def test_a_second_attempt_begins_with_the_newest_receipts(
    settings: BusSettings, package: MakePackage, partial: MakePartial
) -> None:
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings) as silent,
        open_worker_port(settings) as other,
    ):
        await port.submit(package("a"))
        assert await silent.begin(await silent.take()) is not None
        for seq in (1, 2, 3):
            await silent.emit("a", 1, [partial("a", 1, seq)])
        port.receipt_nowait("session", receipt("woven", 2, seq=2))
        port.receipt_nowait("session", receipt("heard", 9, seq=1))
        await port.flush()
        entry = await other.take()
        begun = await other.begin(entry)
        assert begun is not None
        assert [(each.seq, each.state) for each in begun.receipts] == [(1, "heard"), (2, "woven")]
        assert (await other.beat(entry, 2)).receipts == ()


async def test_of_each_piece_only_the_newest_receipt_waits_through_an_outage(
    tmp_path: Path, package: MakePackage
) -> None:
    server = EmbeddedServer(tmp_path, restart=False).start()
    settings = BusSettings(server.url, presence_s=0.1)
    async with open_delegation_port(settings) as port:
        await port.submit(package("a"))
        server.stop()
        for words_heard in range(9):
            for seq in (1, 2):
                port.receipt_nowait("session", receipt("woven", words_heard, seq=seq))
        port.promise_nowait("session", "a", "spoken")
        with anyio.fail_after(3):
            while "storing" not in port.health.reason:
                await anyio.sleep(0.01)
        with EmbeddedServer(tmp_path, restart=False), anyio.fail_after(5):
            assert await stored(port) == [(1, "woven", 8), (2, "woven", 8)]
            assert (await port.ledger("session")).promises[0].state == "spoken"
            while port.health.state != "ok":
                await anyio.sleep(0.01)


async def test_the_first_end_of_a_promise_stays(settings: BusSettings, package: MakePackage) -> None:
    async with open_delegation_port(settings) as port:
        await port.submit(package("a"))
        port.promise_nowait("session", "a", "open")
        await anyio.wait_all_tasks_blocked()
        port.promise_nowait("session", "a", "spoken")
        await anyio.wait_all_tasks_blocked()
        port.promise_nowait("session", "a", "declined")
        await port.flush()
        port.promise_nowait("session", "a", "expired")
        await port.flush()
        assert [promise.state for promise in (await port.ledger("session")).promises] == ["spoken"]


async def test_what_nobody_remembers_takes_no_receipts_and_no_promises(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_clients(settings) as clients:
        await port.submit(package("a"))
        port.receipt_nowait("session", receipt("heard", 9, task_id="runtime"))
        port.promise_nowait("session", "runtime", "spoken")
        with anyio.fail_after(2):
            await port.flush()
        left = await command(clients.commands, "KEYS", f"mt:{settings.tenant}:*:runtime")
        assert left == []


async def test_a_receipt_that_cannot_be_read_is_replaced_and_is_in_no_ledger(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_clients(settings) as clients:
        await port.submit(package("a"))
        key = Keys(settings.tenant, 1).receipts(0, "a")
        for seq, text in enumerate(("no JSON", "7", '{"v":"9.0"}', '{"words_heard":"many"}'), start=1):
            await command(clients.commands, "HSET", key, str(seq), text)
        assert await stored(port) == []
        for seq in range(1, 5):
            port.receipt_nowait("session", receipt("heard", 9, seq=seq))
        assert await stored(port) == [(seq, "heard", 9) for seq in range(1, 5)]
