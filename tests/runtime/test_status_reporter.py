from __future__ import annotations

from contextlib import ExitStack

import anyio
import pytest

from microturn.protocols import DelegationEvent, Floor, FloorState
from microturn.protocols.runtime_status import MOST_SESSIONS, MOST_TASKS, RuntimeStatus
from microturn.runtime.bus import BusSettings, EmbeddedServer, open_delegation_port
from microturn.runtime.bus.overview import BusObserver, open_observer
from microturn.runtime.clock import WallClock
from microturn.runtime.events import Delegated, DelegationMoved, TickDone
from microturn.runtime.host import Host
from microturn.runtime.ingress import Ingress
from microturn.runtime.session import Session
from microturn.runtime.status_reporter import StatusReporter, open_status_reporter
from microturn.runtime.testing import ScriptedBackground, ScriptedModel

pytestmark = [pytest.mark.redis, pytest.mark.anyio]


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def tick(
    index: int,
    step_ms: float = 10.0,
    *,
    count: int = 1,
    holder: Floor = Floor.NOBODY,
    runtime_ms: float = 0.0,
) -> TickDone:
    return TickDone(index, count, step_ms, runtime_ms, 0.0, FloorState(holder, 0), 0.0)


def delegated(task_id: str) -> Delegated:
    return Delegated(0.0, task_id, "what the user wants", "default")


def ended(task_id: str) -> DelegationMoved:
    return DelegationMoved(0.0, DelegationEvent(task_id=task_id, attempt=1, seq=1, kind="final"))


async def test_a_session_is_told_with_its_floor_and_open_tasks_and_gone_when_it_ends() -> None:
    clock = Clock()
    reporter = StatusReporter("r1", clock=clock)
    with reporter.following("kitchen") as observe:
        clock.now_s += 7
        for event in (delegated("a"), delegated("b"), ended("a"), tick(0, holder=Floor.USER)):
            observe(event)
        (session,) = reporter.status().sessions
        assert (session.session_id, session.floor, session.age_s) == ("kitchen", Floor.USER, 7)
        assert (session.open_tasks, session.task_ids) == (1, ("b",))
    assert reporter.status().sessions == ()


async def test_the_figures_are_those_of_the_last_minute() -> None:
    clock = Clock()
    reporter = StatusReporter("r1", clock=clock)
    with reporter.following("kitchen") as observe:
        observe(tick(0, 500.0, count=4))
        clock.now_s += 61
        for index in range(1, 101):
            observe(tick(index, float(index), count=2 if index == 50 else 1, runtime_ms=0.5))
        status = reporter.status()
    assert (status.ticks, status.missed) == (100, 1)
    assert status.tick_p50_ms == pytest.approx(51.5)
    assert status.tick_p99_ms == pytest.approx(100.5)


async def test_a_step_that_several_sessions_share_counts_once() -> None:
    reporter = StatusReporter("r1")
    with reporter.following("a") as first, reporter.following("b") as second:
        for index in range(3):
            first(tick(index, 10.0 + index))
            second(tick(index, 10.0 + index))
        assert reporter.status().ticks == 3


async def test_a_status_stays_small_however_many_sessions_and_tasks_there_are() -> None:
    reporter = StatusReporter("r1")
    with ExitStack() as sessions:
        for number in range(MOST_SESSIONS + 50):
            observe = sessions.enter_context(reporter.following(f"session-{number:04}-{'x' * 24}"))
            for task in range(50):
                observe(delegated(f"{task:032}"))
        status = reporter.status()
    assert status.session_count == MOST_SESSIONS + 50
    assert len(status.sessions) == MOST_SESSIONS
    assert status.sessions[-1].session_id.startswith(f"session-{MOST_SESSIONS + 49:04}")
    assert (status.sessions[0].open_tasks, len(status.sessions[0].task_ids)) == (50, MOST_TASKS)
    assert len(status.encode()) < 64 * 1024


async def test_nothing_that_was_said_is_told() -> None:
    reporter = StatusReporter("r1")
    with reporter.following("kitchen") as observe:
        observe(delegated("a"))
        assert "what the user wants" not in reporter.status().encode()
    assert RuntimeStatus.decode(reporter.status().encode()) == reporter.status()


async def test_a_host_that_runs_is_seen_on_the_bus(redis_server: EmbeddedServer) -> None:
    settings = BusSettings(redis_server.url, tenant="reported")
    source, model = Ingress(), ScriptedModel()
    host = Host(model, WallClock())
    async with (
        open_delegation_port(settings, runtime_id="r1"),
        open_status_reporter(settings, "r1") as reporter,
        open_observer(settings) as observer,
        anyio.create_task_group() as tasks,
    ):
        with reporter.following("kitchen") as observe:
            background = ScriptedBackground(now_ms=host.beat.session_ms)
            host.add(Session("kitchen", source, background, observers=[observe]))
            tasks.start_soon(host.run)
            status = await told_of(observer, ticks=2)
            (session,) = status.sessions
            assert (session.session_id, session.floor) == ("kitchen", Floor.NOBODY)
            assert status.tick_p99_ms is not None and 0 < status.tick_p99_ms < 1000
            tasks.cancel_scope.cancel()


async def told_of(observer: BusObserver, *, ticks: int) -> RuntimeStatus:
    """Wait until a runtime tells of so many steps."""
    with anyio.fail_after(8):
        while True:
            told = [each.status for each in (await observer.look()).runtimes if each.status is not None]
            if told and told[0].ticks >= ticks:
                return told[0]
            await anyio.sleep(0.05)
