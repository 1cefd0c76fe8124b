"""A live session while its server is out of reach: the beat goes on, the user is told, and nothing is lost or twice."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from microturn.protocols import Delegate, DelegationEvent, Speech
from microturn.runtime.bus import BusSettings, EmbeddedServer, WorkerPort, open_worker_port
from microturn.runtime.clock import WallClock
from microturn.runtime.events import BackgroundHealth
from microturn.runtime.host import Host
from microturn.runtime.hub import open_hub
from microturn.runtime.ingress import Ingress
from microturn.runtime.session import Session
from microturn.runtime.testing import (
    Answer,
    Faults,
    FaultyLink,
    Listener,
    ScriptedModel,
    ToneVoice,
    UserLine,
)
from tests.runtime.bus.extent import extent

pytestmark = [pytest.mark.redis, pytest.mark.anyio, pytest.mark.timeout(60)]

OUTAGE_S = extent(3.0, 10.0)
BEGINS_S = 1.5
PARTS = round((BEGINS_S + OUTAGE_S) / 0.5) + 2
"""Pieces of the result, one every 0.5 s: the last ones come when the outage is over."""
WORD_MS = 60
"""How long a word is heard, so that what the outage held back is soon said."""


class Hiccups:
    """The longest time for which this machine kept a thread from running that had nothing to do with the beat."""

    worst_s = 0.0

    @classmethod
    @contextmanager
    def watched(cls) -> Iterator[Hiccups]:
        hiccups, done = cls(), threading.Event()

        def watch() -> None:
            while not done.is_set():
                began_s = time.monotonic()
                time.sleep(0.02)
                hiccups.worst_s = max(hiccups.worst_s, time.monotonic() - began_s - 0.02)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield hiccups
        finally:
            done.set()
            thread.join()


async def work(port: WorkerPort) -> None:
    """Run one task: a piece of speech every 0.5 s."""
    entry = await port.take()
    begun = await port.begin(entry)
    assert begun is not None
    task_id, seq = entry.package.task_id, begun.next_seq
    for number in range(PARTS):
        event = DelegationEvent(
            task_id=task_id,
            attempt=1,
            seq=seq,
            kind="final" if number == PARTS - 1 else "partial",
            speech=Speech(text=f"here is piece-{number:02}", priority=-number),
        )
        result = await port.emit(task_id, 1, [event], finish=event.is_terminal)
        assert not result.fenced
        seq += 1
        await anyio.sleep(0.5)


@pytest.mark.parametrize(
    "fault", [Faults(cut=True), Faults(stall=True)], ids=["the network is cut", "nothing passes"]
)
async def test_the_beat_goes_on_and_all_is_said_once_when_the_server_was_out_of_reach(
    redis_server: EmbeddedServer, fault: Faults
) -> None:
    model = ScriptedModel(
        [UserLine(0, 400, "look it up")],
        lambda text: Answer(actions=(Delegate(text, 0, 400),)),
        ToneVoice(WORD_MS),
    )
    listener = Listener()
    tenant = f"outage{id(listener)}"
    with FaultyLink(redis_server.url) as link, Hiccups.watched() as hiccups:
        async with (
            open_hub(BusSettings(link.url, tenant=tenant)) as hub,
            open_worker_port(BusSettings(redis_server.url, tenant=tenant)) as worker,
            anyio.create_task_group() as tasks,
        ):
            await hub.until_worker()
            host = Host(model, WallClock())
            source = Ingress()
            source.close()
            session = Session("live", source, hub.port("live"), observers=[listener])
            host.add(session)
            tasks.start_soon(work, worker)
            tasks.start_soon(host.run)
            await anyio.sleep(BEGINS_S)
            began_ms = host.beat.session_ms()
            link.set(fault)
            await anyio.sleep(OUTAGE_S)
            link.heal()
            with anyio.fail_after(20):
                while not session.is_idle:
                    await anyio.sleep(0.1)
            tasks.cancel_scope.cancel()
    heard = re.findall(r"piece-\d\d", " ".join(listener.heard))
    assert heard == [f"piece-{number:02}" for number in range(PARTS)]
    shown = [event for event in listener.seen(BackgroundHealth) if event.at_ms > began_ms]
    assert [event.state for event in shown] == ["unreachable", "ok"]
    assert shown[0].at_ms - began_ms < 1000 + (500 if hiccups.worst_s > 0.05 else 0)
    assert listener.worst_runtime_ms < 100
    if hiccups.worst_s < 0.1:  # otherwise the machine itself kept the beat from running
        assert listener.missed == 0
