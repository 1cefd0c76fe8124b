"""The hub: each session gets the events of its own tasks, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import cast

import anyio
import pytest

from microturn.protocols import (
    ContextPackage,
    DelegationEvent,
    EventKind,
    Promise,
    PromiseState,
    Receipt,
    SessionLedger,
    UserError,
)
from microturn.runtime.bus import BusNameError
from microturn.runtime.bus import DelegationPort as BusPort
from microturn.runtime.bus.health import Health
from microturn.runtime.bus.tracks import BusEvent, Lagged, SessionMoved, UpdateRefused
from microturn.runtime.hub import Hub, settings_of
from microturn.runtime.session_port import SessionPort

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@dataclass
class FakeBus:
    """The methods of the bus that the hub uses; its events are those that a test puts there."""

    waiting: list[BusEvent] = field(default_factory=list)
    health: Health = field(default_factory=lambda: Health("ok", 0.0, workers=1))
    is_full: bool = False
    cancelled: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    entered: list[tuple[str, float]] = field(default_factory=list)
    receipts: list[tuple[str, int]] = field(default_factory=list)
    promises: list[tuple[str, str, str]] = field(default_factory=list)
    acknowledged: list[tuple[str, int]] = field(default_factory=list)
    answers: list[tuple[str, int, str]] = field(default_factory=list)
    sessions: dict[str, str] = field(default_factory=dict)
    remembered: dict[str, Promise] = field(default_factory=dict)
    meanwhile: Callable[[], Awaitable[None]] | None = None
    """What happens while a promise is read."""
    is_asked: anyio.Event = field(default_factory=anyio.Event)

    def submit_nowait(self, package: ContextPackage) -> bool:
        return not self.is_full

    def cancel_nowait(self, task_id: str, reason: str) -> bool:
        self.cancelled.append(task_id)
        return True

    def enter_nowait(self, session_id: str, session_ms: float) -> bool:
        self.entered.append((session_id, session_ms))
        return not self.is_full

    def update_nowait(self, task_id: str, text: str) -> bool:
        return not self.is_full

    def answer_nowait(self, task_id: str, seq: int, text: str) -> None:
        self.answers.append((task_id, seq, text))

    def receipt_nowait(self, session_id: str, receipt: Receipt) -> None:
        self.receipts.append((session_id, receipt.seq))

    def promise_nowait(self, session_id: str, task_id: str, state: PromiseState) -> None:
        self.promises.append((session_id, task_id, state))

    async def reopen(self, session_id: str) -> SessionLedger:
        return SessionLedger(
            session_id=session_id,
            runtime_id="other",
            epoch=1,
            elapsed_ms=4000,
            promises=(
                Promise(task_id="running", intent="a", state="open", task_state="running", made_ms=0),
                Promise(task_id="done", intent="b", state="spoken", task_state="final", made_ms=0),
            ),
        )

    def leave_nowait(self, session_id: str) -> None:
        self.left.append(session_id)

    def acknowledge_nowait(self, task_id: str, seq: int) -> None:
        self.acknowledged.append((task_id, seq))

    def session_of(self, task_id: str) -> str | None:
        return self.sessions.get(task_id)

    async def promise(self, session_id: str, task_id: str) -> Promise | None:
        if self.meanwhile is not None:
            await self.meanwhile()
        self.is_asked.set()
        return self.remembered.get(task_id)

    async def events(self) -> AsyncIterator[BusEvent]:
        for event in self.waiting:
            yield event
        if self.sessions:  # what is found is adopted while the bus is open
            await self.is_asked.wait()
            await anyio.wait_all_tasks_blocked()


def hub_on(bus: FakeBus) -> Hub:
    return Hub(cast("BusPort", bus))


def package(task_id: str) -> ContextPackage:
    return ContextPackage(
        task_id=task_id,
        session_id="s",
        idempotency_key=task_id,
        intent="look",
        said_start_ms=0,
        said_end_ms=200,
        local_time="2026-01-01T12:00:00+00:00",
        deadline_s=30,
    )


def event(task_id: str, seq: int, kind: EventKind = "partial") -> DelegationEvent:
    return DelegationEvent(task_id=task_id, attempt=1, seq=seq, kind=kind)


async def test_each_session_gets_the_events_of_its_own_tasks_once_and_in_order() -> None:
    bus = FakeBus([event("a", 1), event("b", 1), event("a", 2, "final")])
    hub = hub_on(bus)
    first, second = hub.port("one"), hub.port("two")
    assert first.submit_nowait(package("a"))
    assert second.submit_nowait(package("b"))
    await hub.run()
    assert [(e.task_id, e.seq) for e in first.poll()] == [("a", 1), ("a", 2)]
    assert [(e.task_id, e.seq) for e in second.poll()] == [("b", 1)]
    assert first.poll() == ()


async def test_the_hub_is_busy_from_the_hand_over_to_the_end_of_a_task() -> None:
    bus = FakeBus([event("a", 1, "final")])
    hub = hub_on(bus)
    assert not hub.is_busy
    hub.port("s").submit_nowait(package("a"))
    assert hub.is_busy
    await hub.run()
    assert not hub.is_busy


async def test_a_package_that_was_refused_is_not_waited_for() -> None:
    hub = hub_on(FakeBus(is_full=True))
    assert not hub.port("s").submit_nowait(package("a"))
    assert not hub.is_busy


async def test_a_session_that_ends_leaves_the_bus_and_no_other_does() -> None:
    bus = FakeBus([event("a", 1), event("b", 1)])
    hub = hub_on(bus)
    leaves, stays = hub.port("leaves"), hub.port("stays")
    leaves.submit_nowait(package("a"))
    stays.submit_nowait(package("b"))
    leaves.close()
    await hub.run()
    leaves.close()
    assert bus.left == ["leaves"]
    assert leaves.poll() == ()
    assert bus.acknowledged == [("a", 1)]  # or it would wait on the server for ever
    assert [e.task_id for e in stays.poll()] == ["b"]


async def test_a_gap_in_the_events_is_logged_without_a_word_of_them(caplog: pytest.LogCaptureFixture) -> None:
    bus = FakeBus([Lagged("a", 1, 4), event("a", 4, "final")])
    hub = hub_on(bus)
    port = hub.port("s")
    port.submit_nowait(package("a"))
    await hub.run()
    assert "lost the events 1 to 3" in caplog.text
    assert [e.seq for e in port.poll()] == [4]


async def test_the_state_tells_a_server_that_is_away_from_one_without_workers() -> None:
    bus = FakeBus()
    port = hub_on(bus).port("s")
    states = [port.state]
    bus.health = replace(bus.health, workers=0)
    states.append(port.state)
    bus.health = replace(bus.health, state="degraded")
    states.append(port.state)
    assert states == ["ok", "no_worker", "unreachable"]


async def test_what_is_said_of_a_session_goes_out_under_its_name() -> None:
    bus = FakeBus()
    port = hub_on(bus).port("s")
    assert port.enter_nowait(400)
    port.receipt_nowait(Receipt(task_id="a", seq=3, state="heard", session_ms=0))
    port.promise_nowait("a", "spoken")
    port.answer_nowait("a", 4, "yes")
    assert bus.answers == [("a", 4, "yes")]
    assert bus.entered == [("s", 400)]
    assert bus.receipts == [("s", 3)]
    assert bus.promises == [("s", "a", "spoken")]


async def test_a_session_that_was_taken_away_is_cut_off_in_both_directions() -> None:
    bus = FakeBus([event("a", 1), SessionMoved("s"), SessionMoved("unknown"), event("a", 2)])
    hub = hub_on(bus)
    port = hub.port("s")
    port.submit_nowait(package("a"))
    await hub.run()
    assert port.state == "moved"
    assert port.poll() == ()
    assert not hub.is_busy
    assert not port.submit_nowait(package("b"))
    assert port.enter_nowait(0)
    port.receipt_nowait(Receipt(task_id="a", seq=1, state="heard", session_ms=0))
    port.promise_nowait("a", "spoken")
    port.cancel_nowait("a", "user")
    port.update_nowait("a", "other")
    port.answer_nowait("a", 1, "yes")
    port.acknowledge_nowait("a", 1)
    assert port.keep_nowait(b"a picture", "image/png", 0) is None
    port.close()
    assert not (bus.receipts or bus.promises or bus.cancelled or bus.left or bus.answers)
    assert bus.acknowledged == [("a", 2)]


async def test_a_session_that_is_taken_over_gets_the_events_of_its_tasks() -> None:
    bus = FakeBus([event("running", 3), event("done", 9)])
    hub = hub_on(bus)
    former = hub.port("s")
    port, reopened = await hub.reopen("s", now_ms=600)
    assert former.state == "moved"
    assert reopened.shift_ms == 600 - 4000
    assert hub.is_busy
    await hub.run()
    assert [(e.task_id, e.seq) for e in port.poll()] == [("running", 3), ("done", 9)]


def promised(task_id: str, state: PromiseState = "open") -> Promise:
    return Promise(task_id=task_id, intent="look", state=state, task_state="running", made_ms=0)


async def test_a_task_that_somebody_else_handed_over_is_adopted_before_its_events_come() -> None:
    bus = FakeBus([event("a", 0, "accepted"), event("a", 1), event("other", 1)], sessions={"a": "s"})
    bus.remembered["a"] = promised("a")
    hub = hub_on(bus)
    port = hub.port("s")
    await hub.run()
    assert port.adopted() == (promised("a"),)
    assert port.adopted() == ()
    assert [(e.task_id, e.seq) for e in port.poll()] == [("a", 0), ("a", 1)]
    assert hub.is_busy
    assert bus.acknowledged == [("other", 1)]


@pytest.mark.parametrize("remembered", [{}, {"a": promised("a", "declined")}], ids=["forgotten", "declined"])
async def test_a_task_of_which_nothing_is_owed_is_not_adopted(remembered: dict[str, Promise]) -> None:
    bus = FakeBus([event("a", 0, "accepted"), event("a", 1)], sessions={"a": "s"}, remembered=remembered)
    hub = hub_on(bus)
    port = hub.port("s")
    await hub.run()
    assert (port.adopted(), port.poll()) == ((), ())
    assert bus.acknowledged == [("a", 1)]


async def test_a_task_whose_session_was_reopened_here_meanwhile_is_not_adopted_twice() -> None:
    bus = FakeBus([event("running", 0, "accepted")], sessions={"running": "s"})
    hub = hub_on(bus)
    hub.port("s")
    bus.remembered["running"] = promised("running")
    reopened: list[SessionPort] = []

    async def reopen() -> None:
        reopened.append((await hub.reopen("s"))[0])

    bus.meanwhile = reopen
    await hub.run()
    assert (reopened[0].adopted(), reopened[0].poll(), bus.acknowledged) == ((), (), [])


async def test_a_correction_that_came_too_late_is_told_once_even_after_the_end() -> None:
    bus = FakeBus([event("a", 1, "final"), UpdateRefused("a")])
    hub = hub_on(bus)
    port = hub.port("s")
    port.submit_nowait(package("a"))
    await hub.run()
    assert port.refused_updates() == ("a",)
    assert port.refused_updates() == ()


async def test_a_correction_that_cannot_be_sent_now_is_refused_too() -> None:
    port = hub_on(FakeBus(is_full=True)).port("s")
    port.update_nowait("a", "other")
    assert port.refused_updates() == ("a",)


async def test_an_id_that_cannot_be_part_of_a_key_is_refused() -> None:
    with pytest.raises(BusNameError):
        hub_on(FakeBus()).port("{s}")
    with pytest.raises(BusNameError):
        await hub_on(FakeBus()).reopen("a b")


async def test_a_worker_is_waited_for_no_longer_than_allowed() -> None:
    bus = FakeBus(health=Health("ok", 0.0, workers=0))
    hub = hub_on(bus)
    with anyio.fail_after(1):
        await hub.until_worker(within_s=0.05)
    bus.health = replace(bus.health, workers=2)
    await hub.until_worker()
    assert hub.workers == 2


@pytest.mark.parametrize(
    "url", ["redis://localhost:6379/0", "rediss://u:p@example.org", "unix:///tmp/server.sock"]
)
def test_addresses_of_servers_are_taken(url: str) -> None:
    assert settings_of(url).url == url


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://localhost:none", ""])
def test_what_is_no_address_is_refused_with_the_forms_that_are(url: str) -> None:
    with pytest.raises(UserError, match="expected redis://HOST:PORT"):
        settings_of(url)


def test_a_refused_address_is_shown_without_its_password() -> None:
    with pytest.raises(UserError) as refused:
        settings_of("http://user:hunter2@localhost")
    assert "hunter2" not in str(refused.value)
