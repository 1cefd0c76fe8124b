"""A session changes its process on a real server: nothing of the answers is lost, nothing is said twice."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest

from microturn.protocols import Delegate, DelegationEvent, EventKind, MicroTurnOutput, Speech, Update
from microturn.runtime.beat import Tick
from microturn.runtime.bus import BusSettings, EmbeddedServer, UnknownSessionError
from microturn.runtime.bus.own_tasks import own_tasks
from microturn.runtime.bus.worker_port import WorkerPort, open_worker_port
from microturn.runtime.delegation import corrected
from microturn.runtime.events import SessionMoved
from microturn.runtime.host import Host
from microturn.runtime.hub import Hub, open_hub
from microturn.runtime.ingress import Ingress
from microturn.runtime.session import Session
from microturn.runtime.testing import Answer, Listener, ScriptedModel, UserLine

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

SPEED = 5.0
"""How many times faster than real the conversations go."""
TEXT = "It rains in Bergen, with wind from the west, and will stay so."
ASKS = UserLine(0, 600, "what is it?")
_TENANTS = itertools.count()


class HurriedClock:
    """Real time, but faster, so that a test waits less."""

    is_virtual = False

    def __init__(self) -> None:
        self._start = time.monotonic()

    def now(self) -> float:
        return (time.monotonic() - self._start) * SPEED

    async def sleep_until(self, time_s: float) -> None:
        await anyio.sleep(max(0.0, time_s - self.now()) / SPEED)


def answer(text: str) -> Answer:
    if text.endswith("?"):
        return Answer(actions=(Delegate(text, 0, 200),))
    return Answer(actions=(Update(None, text, 0, 200),)) if text.startswith("no, ") else Answer()


@pytest.fixture
def settings(redis_server: EmbeddedServer) -> BusSettings:
    return BusSettings(redis_server.url, tenant=f"takeover{next(_TENANTS)}", lease_s=0.6, presence_s=0.1)


class Room:
    """A process that holds one session, as far as the bus can tell."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.listener = Listener()
        self.model = ScriptedModel()
        self.session: Session

    async def talk(
        self,
        lines: Sequence[UserLine],
        until: Callable[[Room], bool],
        *,
        reopens: bool = False,
        heard: Mapping[str, int] | None = None,
    ) -> None:
        """Hold the conversation until something has happened, then stop as a process that is killed."""
        self.model = ScriptedModel(lines, answer)
        host = Host(self.model, HurriedClock())
        source = Ingress()
        source.close()
        if reopens:
            port, reopened = await self.hub.reopen("s", heard)
        else:
            port, reopened = self.hub.port("s"), None
        self.session = Session("s", source, port, observers=[self.listener], reopened=reopened)
        host.add(self.session)
        with anyio.fail_after(10):
            await host.run(until=lambda _: until(self))

    @property
    def woven_ids(self) -> list[str]:
        return [woven.item_id for given in self.model.sessions["s"].inputs for woven in given.woven]


@asynccontextmanager
async def rooms(settings: BusSettings) -> AsyncIterator[tuple[Room, Room, WorkerPort]]:
    async with (
        open_hub(settings) as first,
        open_hub(settings) as second,
        open_worker_port(settings) as worker,
    ):
        yield Room(first), Room(second), worker


class Work:
    """What a worker does about one task."""

    def __init__(self, worker: WorkerPort) -> None:
        self._worker = worker
        self.has_begun = False
        self.is_done = False

    async def begin(self) -> None:
        self.entry = await self._worker.take()
        begun = await self._worker.begin(self.entry)
        assert begun is not None
        self.begun = begun
        self._seq = begun.next_seq
        self.has_begun = True

    async def say(self, kind: EventKind, text: str, *, revision: int = 0) -> bool:
        """Send an event; tells whether it was refused because of a correction."""
        task_id, seq, attempt = self.entry.package.task_id, self._seq, self.begun.attempt
        event = DelegationEvent(
            task_id=task_id, attempt=attempt, seq=seq, kind=kind, speech=Speech(text=text), revision=revision
        )
        result = await self._worker.emit(task_id, attempt, [event], finish=event.is_terminal)
        if not result.corrected:
            self._seq += 1
            self.is_done = event.is_terminal
        return result.corrected


def is_kept(room: Room) -> bool:
    """Whether every promise is settled and the bus was told."""
    tasks = room.session.delegations.all.values()
    return bool(tasks) and all(task.promise != "open" for task in tasks)


async def states(hub: Hub) -> list[tuple[str, str]]:
    """Each promise and its task's state, once all that was noted is stored."""
    await anyio.sleep(0.1)
    return [(promise.state, promise.task_state) for promise in (await hub.ledger("s")).promises]


async def test_a_process_can_take_over_what_it_had_itself(settings: BusSettings) -> None:
    async with rooms(settings) as (first, second, worker), own_tasks() as tasks:
        work = Work(worker)
        tasks.start_soon(work.begin)
        await first.talk([ASKS], lambda room: room.session.delegations.open_ids != ())
        with anyio.fail_after(5):
            while not work.has_begun:
                await anyio.sleep(0.01)
        await work.say("final", TEXT)
        again = Room(first.hub)
        await again.talk([], is_kept, reopens=True)
        assert again.listener.heard == [TEXT]
        assert await states(second.hub) == [("spoken", "final")]


async def test_a_rest_is_said_by_the_one_who_takes_over_while_the_other_still_lives(
    settings: BusSettings,
) -> None:
    async with rooms(settings) as (first, second, worker):

        async def serve() -> None:
            work = Work(worker)
            await work.begin()
            await work.say("final", TEXT)

        async with own_tasks() as tasks:
            tasks.start_soon(serve)

            def has_heard_half(room: Room) -> bool:
                return any(speech.heard >= 6 for speech in room.session.speaking.now)

            await first.talk([ASKS], has_heard_half)
            await anyio.sleep(0.1)  # the last receipt is on its way
            await second.talk([], is_kept, reopens=True)
            assert second.listener.said == ["As I was saying: with wind from the west, and will stay so."]
            assert await states(second.hub) == [("spoken", "final")]
            first.session.prepare(Tick(900, 1, 0.0))
            assert first.session.has_moved
            assert len(first.listener.seen(SessionMoved)) == 1
            assert first.session.weaver.is_empty


async def test_what_a_task_says_after_the_change_goes_to_the_new_process(settings: BusSettings) -> None:
    async with rooms(settings) as (first, second, worker), own_tasks() as tasks:
        work, moved = Work(worker), anyio.Event()

        async def serve() -> None:
            await work.begin()
            await work.say("partial", "It has fur.")
            await moved.wait()
            await work.say("final", "It is a cat.")

        tasks.start_soon(serve)
        await first.talk([ASKS], lambda room: "It has fur." in room.listener.heard)
        await anyio.sleep(0.1)

        def is_over(room: Room) -> bool:
            moved.set()
            return is_kept(room)

        await second.talk([], is_over, reopens=True)
        assert second.listener.said == ["It is a cat."]
        assert first.listener.said == ["It has fur."]
        assert await states(first.hub) == [("spoken", "final")]


async def test_a_client_that_played_more_than_was_stored_hears_nothing_twice(settings: BusSettings) -> None:
    async with rooms(settings) as (first, second, worker), own_tasks() as tasks:

        async def serve() -> None:
            work = Work(worker)
            await work.begin()
            await work.say("final", TEXT)

        tasks.start_soon(serve)
        await first.talk([ASKS], lambda room: bool(room.woven_ids))
        (item_id,) = first.woven_ids
        await second.talk([], is_kept, reopens=True, heard={item_id: 9})
        assert second.listener.said == ["As I was saying: and will stay so."]


async def test_a_correction_that_crosses_the_answer_is_done_anew(settings: BusSettings) -> None:
    async with rooms(settings) as (first, _, worker):
        source = Ingress()
        source.close()
        session = Session("s", source, first.hub.port("s"))
        session.prepare(Tick(0, 1, 0.0))
        session.absorb(MicroTurnOutput(0, actions=(Delegate("weather in Rome?", 0, 200),)))
        with anyio.fail_after(5):
            work, anew = Work(worker), Work(worker)
            await work.begin()
            await work.say("final", "Rome: rain.")
            # The answer is on its way; the session has not looked for it yet.
            session.absorb(MicroTurnOutput(1, actions=(Update(None, "no, Paris", 200, 400),)))
            texts: list[str] = []
            async with own_tasks() as tasks:
                tasks.start_soon(anew.begin)
                index = 2
                while not texts:
                    await anyio.sleep(0.02)
                    texts += [woven.text for woven in session.prepare(Tick(index, 1, 0.0)).woven]
                    index += 1
                    if anew.has_begun and not anew.is_done:
                        await anew.say("final", "Paris: sun.")
        assert texts == ["Paris: sun."]
        assert anew.entry.package.intent == corrected("weather in Rome?", ["no, Paris"])
        assert await states(first.hub) == [("declined", "final"), ("open", "final")]


async def test_a_worker_that_did_not_know_of_a_correction_goes_on(settings: BusSettings) -> None:
    async with rooms(settings) as (first, _, worker), own_tasks() as tasks:
        work, corrected = Work(worker), anyio.Event()
        refused: list[bool] = []

        async def serve() -> None:
            await work.begin()
            await corrected.wait()
            await anyio.sleep(0.1)
            refused.append(await work.say("final", "Rome: rain."))
            refused.append(await work.say("final", "Paris: sun.", revision=1))

        def is_over(room: Room) -> bool:
            if any(task.revision for task in room.session.delegations.all.values()):
                corrected.set()
            return is_kept(room)

        tasks.start_soon(serve)
        lines = [UserLine(0, 600, "weather in Rome?"), UserLine(1000, 1600, "no, Paris")]
        await first.talk(lines, is_over)
        assert refused == [True, False]
        assert first.listener.said == ["Paris: sun."]
        assert await states(first.hub) == [("spoken", "final")]


async def test_a_session_that_is_closed_leaves_no_promise_open(settings: BusSettings) -> None:
    async with rooms(settings) as (first, second, _):
        await first.talk([ASKS], lambda room: room.session.delegations.open_ids != ())
        port = first.hub.port("s")
        port.enter_nowait(0)
        port.close()
        await anyio.sleep(0.2)
        assert await states(second.hub) == [("declined", "cancelled")]
        assert not first.hub.is_busy


async def test_a_session_that_nobody_knows_is_told_as_such(settings: BusSettings) -> None:
    async with rooms(settings) as (first, _, _):
        with pytest.raises(UnknownSessionError, match="never begun"):
            await first.hub.reopen("nothing")
        with pytest.raises(UnknownSessionError, match="never begun"):
            await first.hub.ledger("nothing")
