"""The driver of a chaos run: starts all processes, breaks them by the schedule, and is every user and their client."""

from __future__ import annotations

import itertools
import math
import os
import signal
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from microturn.protocols import SessionLedger
from microturn.runtime.bus import (
    BusUnreachableError,
    DelegationPort,
    EmbeddedServer,
    UnknownSessionError,
    open_delegation_port,
)
from microturn.runtime.testing import Faults, FaultyLink
from tests.chaos.jobs import AGAIN, intent_of, job_of
from tests.chaos.processes import Program
from tests.chaos.record import Floor, Record
from tests.chaos.runtime_program import WORD_MS
from tests.chaos.schedule import Fault, UserMove, faults, user_moves
from tests.chaos.settings import settings_for
from tests.chaos.verdict import Verdict, judge

WORKERS = 3
RUNTIMES = 2
DROP_EVERY = 20
"""One reply in so many is lost: 5 %."""
JOBS_PER_SESSION = 5
MOST_SESSIONS = 40
GIVES_UP_ON_S = 0.8
"""How long a client hears nothing from a runtime that is stopped before it turns to another one."""
ASKS_AGAIN_AFTER_S = 5.0
"""How long a user waits for a job that nobody seems to have taken."""
SETTLES_WITHIN_S = 90.0
"""How long the last promises may take: a rest that was cut off is offered for 45 s."""


@dataclass(slots=True)
class Outcome:
    """What a run came to."""

    verdict: Verdict
    fates: Counter[str]
    """How many pieces had which fate."""
    faults: Counter[str]
    lost_replies: int
    reopened: int
    seconds: float
    breaches: list[str]
    """What was heard twice, out of order, or not at all, by session."""


@dataclass(slots=True)
class Client:
    """One user, their client, and the runtime that it is connected to."""

    session_id: str
    moves: list[UserMove]
    runtime: Program
    is_open: bool = False
    record: Record = field(default_factory=Record)
    floors: defaultdict[Program, Floor] = field(default_factory=lambda: defaultdict(Floor))
    """By process, since each has its own session time."""
    reopened: int = 0

    async def reopen(self, runtime: Program) -> None:
        """Turn to another runtime, with what was heard so far. What the old one still says is not heard."""
        self.runtime, self.is_open = runtime, False
        self.reopened += 1
        await runtime.tell(do="reopen", session=self.session_id, heard=self.record.items)


class Driver:
    """One run."""

    def __init__(self, delegations: int, seed: int, folder: Path) -> None:
        self._seed = seed
        self._folder = folder
        sessions = min(MOST_SESSIONS, math.ceil(delegations / JOBS_PER_SESSION))
        jobs = [list(range(delegations))[n::sessions] for n in range(sessions)]
        self._moves = {f"s{n}": list(user_moves(seed, n, mine)) for n, mine in enumerate(jobs)}
        self._clients: dict[str, Client] = {}
        self._runtimes: list[Program] = []
        self._workers: list[Program] = []
        self._faults: Counter[str] = Counter()
        self._server: EmbeddedServer
        self._link: FaultyLink
        self._bus: DelegationPort
        self._tasks: TaskGroup

    async def run(self) -> Outcome:
        """Let it happen, and judge it."""
        began_s = time.monotonic()
        with EmbeddedServer(self._folder / "server") as self._server:
            link = FaultyLink(self._server.url, seed=self._seed)
            with link as self._link:
                async with (
                    open_delegation_port(settings_for(self._server.url)) as self._bus,
                    anyio.create_task_group() as self._tasks,
                ):
                    await self._open()
                    self._link.set(Faults(drop_every=DROP_EVERY))
                    async with anyio.create_task_group() as chaos:
                        chaos.start_soon(self._break_things)
                        async with anyio.create_task_group() as users:
                            for client in self._clients.values():
                                users.start_soon(self._be_user, client)
                        chaos.cancel_scope.cancel()
                    ledgers = await self._settled_ledgers()
                    self._tasks.cancel_scope.cancel()
        return self._outcome(ledgers, time.monotonic() - began_s)

    async def _open(self) -> None:
        async with anyio.create_task_group() as starting:
            for _ in range(WORKERS):
                starting.start_soon(self._start_worker)
        for _ in range(RUNTIMES):
            await self._start_runtime()
        for (session_id, moves), runtime in zip(
            self._moves.items(), itertools.cycle(self._runtimes), strict=False
        ):
            self._clients[session_id] = Client(session_id, moves, runtime)
            await runtime.tell(do="open", session=session_id)

    async def _start_worker(self) -> None:
        self._workers.append(await self._start("worker_program"))

    async def _start_runtime(self) -> None:
        self._runtimes.append(await self._start("runtime_program"))

    async def _start(self, name: str) -> Program:
        log = self._folder / f"{name}.log"
        return await Program.start(self._tasks, f"tests.chaos.{name}", self._link.url, self._on_line, log)

    # What a user does

    async def _be_user(self, client: Client) -> None:
        for move in client.moves:
            await anyio.sleep(move.pause_s)
            text = "hm" if move.job is None else intent_of(move.job)
            await client.runtime.tell(do="say", session=client.session_id, text=text, ms=move.length_ms)
        wanted = {move.job for move in client.moves if move.job is not None}
        for again in itertools.count(1):
            await anyio.sleep(ASKS_AGAIN_AFTER_S)
            missing = wanted - await self._accepted(client.session_id)
            if not missing:
                return
            for job in sorted(missing):
                text = intent_of(job + again * AGAIN)
                await client.runtime.tell(do="say", session=client.session_id, text=text, ms=400)
                await anyio.sleep(0.6)

    async def _accepted(self, session_id: str) -> set[int]:
        ledger = await self._ledger(session_id)
        jobs = [job_of(promise.intent) for promise in ledger.promises] if ledger else []
        return {job % AGAIN for job in jobs if job is not None}

    async def _ledger(self, session_id: str) -> SessionLedger | None:
        with suppress(UnknownSessionError, BusUnreachableError):
            return await self._bus.ledger(session_id)
        return None

    def _on_line(self, program: Program, words: list[str]) -> None:
        """Take in what a runtime says, of the sessions whose client it has."""
        match words:
            case ["late", late_ms, at_ms]:
                for client in self._clients.values():
                    client.floors[program].late(int(late_ms), int(at_ms))
            case [what, session_id, *rest]:
                client = self._clients[session_id]
                if client.runtime is program:
                    self._on_session(client, what, rest)

    def _on_session(self, client: Client, what: str, rest: list[str]) -> None:
        floor = client.floors[client.runtime]
        match what:
            case "word":
                client.record.word(rest[0], int(rest[1]), rest[2])
            case "played":
                confirm = partial(client.runtime.tell, do="heard", session=client.session_id)
                self._tasks.start_soon(partial(confirm, utterance=rest[0], words=int(rest[1])))
            case "user":
                floor.user(int(rest[0]), int(rest[1]))
            case "sound":
                floor.sound(int(rest[0]), int(rest[1]))
            case "opened":
                client.is_open = True
            case "refused":
                self._tasks.start_soon(self._reopen_again, client, client.runtime)

    async def _reopen_again(self, client: Client, refused_by: Program) -> None:
        await anyio.sleep(0.5)
        if client.runtime is refused_by:
            await client.reopen(self._living_runtime())

    # What goes wrong

    async def _break_things(self) -> None:
        for fault in faults(self._seed):
            await anyio.sleep(fault.pause_s)
            with anyio.CancelScope(
                shield=True
            ):  # or a process would be left standing still, or a session nowhere
                await self._break(fault)
            self._faults[fault.kind] += 1

    async def _break(self, fault: Fault) -> None:
        match fault.kind:
            case "kill worker":
                self._workers.pop(fault.which % WORKERS).kill()
                self._tasks.start_soon(self._start_worker)
                while len(self._workers) < WORKERS:
                    await anyio.sleep(0.05)
            case "stop worker":
                worker = self._workers[fault.which % WORKERS]
                worker.stop()
                await anyio.sleep(fault.for_s)
                worker.go_on()
            case "kill runtime":
                runtime = self._runtimes.pop(fault.which % RUNTIMES)
                runtime.kill()
                await self._move_from(runtime)
                await self._start_runtime()
            case "stop runtime":
                await self._stop_runtime(self._runtimes[fault.which % RUNTIMES], fault.for_s)
            case "kill server":
                assert self._server.pid is not None
                os.kill(self._server.pid, signal.SIGKILL)

    async def _stop_runtime(self, runtime: Program, for_s: float) -> None:
        runtime.stop()
        await anyio.sleep(min(for_s, GIVES_UP_ON_S))
        if for_s > GIVES_UP_ON_S:
            self._runtimes.remove(runtime)
            await self._move_from(runtime)
            await anyio.sleep(for_s - GIVES_UP_ON_S)
            self._runtimes.append(runtime)
        runtime.go_on()

    async def _move_from(self, runtime: Program) -> None:
        for client in self._clients.values():
            if client.runtime is runtime:
                await client.reopen(self._living_runtime())

    def _living_runtime(self) -> Program:
        return self._runtimes[-1]

    # The end

    async def _settled_ledgers(self) -> dict[str, SessionLedger]:
        """The last state of every session: when no promise is open, or the time for that is over."""
        ledgers: dict[str, SessionLedger] = {}
        with anyio.move_on_after(SETTLES_WITHIN_S):
            while (
                any(p.state == "open" for ledger in ledgers.values() for p in ledger.promises) or not ledgers
            ):
                await anyio.sleep(0.5)
                for session_id in self._clients:
                    if (ledger := await self._ledger(session_id)) is not None:
                        ledgers[session_id] = ledger
        return ledgers

    def _outcome(self, ledgers: dict[str, SessionLedger], seconds: float) -> Outcome:
        floors = [floor for client in self._clients.values() for floor in client.floors.values()]
        over_user_words = sum(math.ceil(floor.over_user_ms() / WORD_MS) for floor in floors)
        judged = [(client.record, ledgers[name]) for name, client in self._clients.items()]
        verdict, fates = judge(judged, over_user_words)
        return Outcome(
            verdict,
            fates,
            self._faults,
            self._link.counters.dropped,
            sum(client.reopened for client in self._clients.values()),
            seconds,
            [
                f"{name}: {breach}"
                for name, client in self._clients.items()
                for breach in (
                    *client.record.breaches,
                    *(breach for floor in client.floors.values() for breach in floor.breaches()),
                )
            ],
        )
