"""How long an event takes to reach its session where one process has thousands of them.

Ours is one inbox for the process, read by a hub that lays each event before its session. The naive way has a stream
for each session and one XREAD over all of them; run as a program, this module is the writer of those streams.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch

import anyio
from alternatives.trial import SPOKEN
from bench_handover import make_package
from child import child, ready
from redis.asyncio import Redis

from microturn.protocols import DelegationEvent
from microturn.runtime.bus import BusSettings
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.exchange import Argument
from microturn.runtime.bus.link import Link, ServerLink
from microturn.runtime.bus.raw import command, entries_by_stream
from microturn.runtime.hub import open_hub
from microturn.runtime.session_port import SessionPort

EVENTS_PER_S = 400.0
"""From all sessions together: with 5,000, each hears something every 12 s."""
LEASE_S = 240.0
"""5,000 tasks that run in one worker would beat 10,000 times a second with the usual lease."""
BEAT_S = 0.2
SETTLE_S = 3.0
"""For the acknowledgements of what the tasks began with."""
_MARK = re.compile(r'"mark":\s*(\d+)')


@dataclass(slots=True)
class Delays:
    """In seconds, one for each event, and what the reading cost."""

    from_emit: list[float] = field(default_factory=list)
    from_arrival: list[float] = field(default_factory=list)
    """From the return of XREAD in the process."""
    cpu_us: float = 0.0
    """Time of a core of the reading process, for each event."""


@dataclass(slots=True)
class _Watch:
    """What is noted while events go to their sessions."""

    delays: Delays = field(default_factory=Delays)
    begun: int = 0
    read_s: dict[int, float] = field(default_factory=dict)
    """When XREAD returned with an event, by its mark."""
    touched: set[SessionPort] = field(default_factory=set)
    """Those that have something to take."""

    def read(self, reply: object) -> None:
        """XREAD has returned in the process."""
        now_s = time.monotonic()
        for _, entries in entries_by_stream(reply):
            for _, fields in entries:
                if found := _MARK.search(fields.get("event", "")):
                    self.read_s[int(found[1])] = now_s

    def laid(self, port: SessionPort, event: DelegationEvent) -> None:
        """An event lies before its session."""
        now_s = time.monotonic()
        self.touched.add(port)
        self.begun += event.kind == "progress"
        mark, emitted_s = event.detail.get("mark"), event.detail.get("emitted_s")
        if isinstance(mark, int) and isinstance(emitted_s, float):
            self.delays.from_emit.append(now_s - emitted_s)
            self.delays.from_arrival.append(now_s - self.read_s.pop(mark))


async def measure_hub(url: str, sessions: int, for_s: float) -> Delays:
    """From a worker to the ports of a hub."""
    settings = BusSettings(url, tenant="sessions", lease_s=LEASE_S, queue_limit=2 * sessions)
    watch = _Watch()
    with child("delegation_worker.py", url, settings.tenant, sessions, LEASE_S), _noting(watch):
        async with open_hub(settings) as hub, anyio.create_task_group() as tasks:
            ports = [hub.port(f"s-{number}") for number in range(sessions)]
            tasks.start_soon(_beat, watch.touched)
            await _begin_all(ports, watch)
            await anyio.sleep(SETTLE_S)
            watch.delays = Delays()
            before_s = time.process_time()
            await anyio.sleep(for_s)
            found = watch.delays
            found.cpu_us = (time.process_time() - before_s) / len(found.from_emit) * 1e6
            watch.delays = Delays()
            tasks.cancel_scope.cancel()
    return found


async def measure_naive(url: str, sessions: int, for_s: float) -> Delays:
    """From a writer to one reader of all sessions' streams."""
    found = Delays()
    with child("delegation_sessions.py", url, sessions):
        async with open_clients(BusSettings(url)) as clients:
            last = {_stream(number): "0-0" for number in range(sessions)}
            await _read_all(clients.blocking, last)  # what the streams were made with
            before_s, end_s = time.process_time(), time.monotonic() + for_s
            while time.monotonic() < end_s:
                emitted_s, read_s = await _read_all(clients.blocking, last)
                now_s = time.monotonic()
                found.from_emit += [now_s - moment_s for moment_s in emitted_s]
                found.from_arrival += [now_s - read_s for _ in emitted_s]
            found.cpu_us = (time.process_time() - before_s) / len(found.from_emit) * 1e6
    return found


async def _begin_all(ports: Sequence[SessionPort], watch: _Watch) -> None:
    """Hand over a task for each session and wait until all of them run."""
    for number, port in enumerate(ports):
        names = {"task_id": f"task-{number}", "idempotency_key": f"task-{number}"}
        package = make_package(number, f"trickle {EVENTS_PER_S / len(ports)}").model_copy(
            update={**names, "session_id": port.session_id, "deadline_s": 600.0}
        )
        while not (port.enter_nowait(0.0) and port.submit_nowait(package)):
            await anyio.sleep(0.01)
    while watch.begun < len(ports):
        await anyio.sleep(0.1)


async def _beat(touched: set[SessionPort]) -> None:
    """Take what came and acknowledge it, every 200 ms, as sessions do."""
    while True:
        await anyio.sleep(BEAT_S)
        while touched:
            port = touched.pop()
            for event in port.poll():
                port.acknowledge_nowait(event.task_id, event.seq)


@contextmanager
def _noting(watch: _Watch) -> Iterator[None]:
    """Note when XREAD returns, and when an event is laid before its session."""
    send, lay = ServerLink.send, SessionPort.lay

    async def noting_send(link: ServerLink, *args: Argument, key: str | None = None) -> object:
        reply = await send(link, *args, key=key)
        if args[0] == "XREAD":
            watch.read(reply)
        return reply

    def noting_lay(port: SessionPort, event: DelegationEvent) -> None:
        lay(port, event)
        watch.laid(port, event)

    with patch.object(ServerLink, "send", noting_send), patch.object(SessionPort, "lay", noting_lay):
        yield


async def _read_all(link: Link, last: dict[str, str]) -> tuple[list[float], float]:
    """One XREAD over all streams: when what it brought was written, and when it returned."""
    reply = await command(link, "XREAD", "COUNT", 100, "BLOCK", 1000, "STREAMS", *last, *last.values())
    read_s, emitted_s = time.monotonic(), list[float]()
    for stream, entries in entries_by_stream(reply):
        for entry_id, fields in entries:
            last[stream] = entry_id
            emitted_s.append(float(fields["emitted_s"]))
    return emitted_s, read_s


async def write(url: str, sessions: int) -> None:
    """Write to random sessions' streams until killed; each exists when this says that it is ready."""
    async with Redis.from_url(url, protocol=2) as redis:
        for number in range(sessions):
            await redis.xadd(_stream(number), {"emitted_s": 0.0, "text": SPOKEN})
        ready()
        due_s = time.monotonic()
        while True:
            due_s += random.expovariate(EVENTS_PER_S)
            await anyio.sleep(max(0.0, due_s - time.monotonic()))
            moment = repr(time.monotonic())
            await redis.xadd(_stream(random.randrange(sessions)), {"emitted_s": moment, "text": SPOKEN})


def _stream(number: int) -> str:
    return f"naive:{number}"


if __name__ == "__main__":
    anyio.run(write, sys.argv[1], int(sys.argv[2]))
