"""Two runtimes, workers that come and go, and one real server: moves that may come in any order, and what must hold.

Every move goes through the real ports and scripts over links that lose replies. A move checks what the bus answers
against what the server has stored; `settle` brings everything to its end and checks the whole. What is known of time is
the server's: a lease is made to run out by telling the server that its entry has been idle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Self, cast

import anyio
from anyio.abc import TaskGroup, TaskStatus

from microturn.background_agent.worker_bus import Begun, TaskEntry
from microturn.protocols import SETTLED, ContextPackage, DelegationEvent, PromiseState, Receipt, ReceiptState
from microturn.runtime.bus import (
    BusSettings,
    DelegationPort,
    SessionTakenError,
    WorkerPort,
    open_delegation_port,
    open_worker_port,
)
from microturn.runtime.bus.connection import Clients, open_clients
from microturn.runtime.bus.keys import GROUP, LANES, Keys
from microturn.runtime.bus.raw import command
from microturn.runtime.testing import Faults, FaultyLink

SESSIONS = ("one", "two")
MOST_TASKS = 6
FORGED_WORDS = 999
"""Words in the receipts of a runtime that has lost its session; none may ever be stored."""


@dataclass(slots=True)
class Run:
    """A worker's attempt, as the worker sees it; `next_seq` never goes back, so old runs stay as zombies."""

    worker: WorkerPort
    entry: TaskEntry
    attempt: int
    next_seq: int
    updates: list[str]
    answers: dict[int, str] = field(default_factory=dict)

    @property
    def task_id(self) -> str:
        return self.entry.package.task_id


@dataclass(slots=True)
class Task:
    """What was seen of one task from outside."""

    package: ContextPackage
    attempts: list[int] = field(default_factory=list)
    sent: dict[int, str] = field(default_factory=dict)
    """Text of each number that a worker was told was sent."""
    updates: list[str] = field(default_factory=list)
    """Corrections that the bus has taken."""
    answers: dict[int, str] = field(default_factory=dict)
    """Answers that the bus has taken, by the number of the question."""
    cancelled: bool = False
    """Whether its owner has asked for that."""


@dataclass(slots=True)
class Runtime:
    """A port, and what came out of it."""

    name: str
    port: DelegationPort
    seen: dict[str, list[DelegationEvent]] = field(default_factory=dict)
    """Events of each task since the session came here: those of its ledger first."""
    frozen: dict[str, int] = field(default_factory=dict)
    """For each task of a lost session: the last number that may still be on its way out."""
    faults: list[str] = field(default_factory=list)

    async def collect(self) -> None:
        """Keep what comes; what may not come is a fault."""
        async for event in self.port.events():
            if not isinstance(event, DelegationEvent):
                if type(event).__name__ == "Lagged":
                    self.faults.append(f"{self.name} was given a gap: {event}")
                continue
            if event.seq > self.frozen.get(event.task_id, event.seq):
                self.faults.append(
                    f"{self.name} was given {event.task_id}/{event.seq} of a session it had lost"
                )
            seen = self.seen.setdefault(event.task_id, [])
            if event.seq != len(seen):
                self.faults.append(
                    f"{self.name} was given {event.task_id}/{event.seq} after {len(seen)} events"
                )
            seen.append(event)


class World:
    """One bus and all who use it. A context manager; every public method but `settle` is one move."""

    def __init__(self, url: str, tenant: str, seed: int = 0) -> None:
        self.runtimes: list[Runtime] = []
        self.workers: list[WorkerPort] = []
        self.entries: list[tuple[WorkerPort, TaskEntry]] = []
        self.runs: list[Run] = []
        self.tasks: dict[str, Task] = {}
        self.owners: dict[str, Runtime] = {}
        self.receipts: dict[tuple[str, int], Receipt] = {}
        self.promises: dict[str, PromiseState] = {}
        self._settings = BusSettings(url, tenant=tenant, lease_s=3.0, presence_s=60.0)
        self._keys = Keys(tenant, 1)
        self._worker_link, self._runtime_link = (FaultyLink(url, seed=seed) for _ in range(2))
        self._stack = AsyncExitStack()
        self._clients: Clients
        self._tasks: TaskGroup

    async def __aenter__(self) -> Self:
        for link in (self._worker_link, self._runtime_link):
            self._stack.enter_context(link)
        self._clients = await self._stack.enter_async_context(open_clients(self._settings))
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._stack.callback(lambda: self._tasks.cancel_scope.cancel())
        settings = replace(self._settings, url=self._runtime_link.url)
        for name in ("left", "right"):
            port = await self._stack.enter_async_context(open_delegation_port(settings, runtime_id=name))
            runtime = Runtime(name, port)
            self.runtimes.append(runtime)
            self._tasks.start_soon(runtime.collect)
        for session_id in SESSIONS:
            self.owners[session_id] = self.runtimes[0]
            assert self.runtimes[0].port.enter_nowait(session_id, 0.0)
        await self.start_worker()
        return self

    async def __aexit__(self, *_: object) -> None:
        for link in (self._worker_link, self._runtime_link):
            link.heal()
        await self._stack.aclose()

    # Faults

    async def lose_replies(self, count: int) -> None:
        """The next replies to workers and to runtimes are lost after their commands were done."""
        for link in (self._worker_link, self._runtime_link):
            link.set(Faults(drop_every=1, limit=count))

    async def let_leases_run_out(self) -> None:
        """Whatever was delivered looks as if its worker had been silent for a minute."""
        for stream in self._streams():
            for entry, owner in await self._pending(stream):
                await self._do("XCLAIM", stream, GROUP, owner, 0, entry, "IDLE", 60_000, "JUSTID")

    # The runtimes' moves

    async def submit(self, runtime: Runtime, session_id: str, *, urgent: bool) -> None:
        """Hand a task over; a runtime that does not have the session may not."""
        if len(self.tasks) == MOST_TASKS:
            return
        task_id = f"t{len(self.tasks)}"
        package = _package(task_id, session_id, urgent=urgent)
        if runtime is not self.owners[session_id]:
            try:
                await runtime.port.submit(package)
            except SessionTakenError:
                return
            raise AssertionError(f"{runtime.name} handed a task over in a session that it does not have")
        assert await runtime.port.submit(package) == "accepted"
        self.tasks[task_id] = Task(package)

    async def submit_again(self, task: Task) -> None:
        """Hand the same task over twice, and another one under its key."""
        owner = self.owners[task.package.session_id]
        assert await owner.port.submit(task.package) == "duplicate"
        same_key = task.package.model_copy(update={"task_id": f"other-{task.package.task_id}"})
        assert await owner.port.submit(same_key) == "duplicate"

    async def cancel(self, runtime: Runtime, task: Task) -> None:
        """Stop a task; only its session's owner can."""
        outcome = await runtime.port.cancel(task.package.task_id, "enough")
        if runtime is self.owners[task.package.session_id]:
            assert outcome in ("ended", "asked")
            task.cancelled = True
        else:
            assert outcome != "asked"

    async def update(self, task: Task) -> None:
        """Correct a task; one that has ended says so."""
        was_open = not await self._is_over(task.package.task_id)
        text = f"correction {len(task.updates)}"
        outcome = await self.owners[task.package.session_id].port.update(task.package.task_id, text)
        assert outcome == ("stored" if was_open else "ended")
        if was_open:
            task.updates.append(text)

    async def answer(self, task: Task, number: int, text: str) -> None:
        """Answer a question; the first answer stays, and only the session's owner can give it."""
        task_id = task.package.task_id
        owner = self.owners[task.package.session_id]
        was_open, asked = not await self._is_over(task_id), len(await self._stored(task_id))
        for runtime in self.runtimes:
            if runtime is not owner and number not in task.answers:
                assert await runtime.port.answer(task_id, number, "forged") in ("moved", "unknown")
        outcome = await owner.port.answer(task_id, number, text)
        if number >= asked:
            assert outcome == "unknown"
        elif number in task.answers:
            assert outcome == "stored"
        else:
            assert outcome == ("stored" if was_open else "ended")
            if was_open:
                task.answers[number] = text

    async def acknowledge(self, task: Task) -> None:
        """Take in for good what has come of a task so far."""
        owner = self.owners[task.package.session_id]
        if seen := owner.seen.get(task.package.task_id):
            owner.port.acknowledge_nowait(task.package.task_id, seen[-1].seq)

    async def receive(self, runtime: Runtime, task: Task, state: ReceiptState, words: int) -> None:
        """Say how far a piece was heard. A runtime that has lost the session says so of more words than there are."""
        session_id, task_id = task.package.session_id, task.package.task_id
        if not (seen := self.owners[session_id].seen.get(task_id)):
            return
        heard = words if runtime is self.owners[session_id] else FORGED_WORDS
        receipt = Receipt(
            task_id=task_id, seq=seen[-1].seq, state=state, words_heard=heard, words_total=10, session_ms=0
        )
        runtime.port.receipt_nowait(session_id, receipt)
        await self._look_soon()

    async def promise(self, runtime: Runtime, task: Task, state: PromiseState) -> None:
        """Say how a promise has ended."""
        runtime.port.promise_nowait(task.package.session_id, task.package.task_id, state)
        await self._look_soon()

    async def reopen(self, runtime: Runtime, session_id: str) -> None:
        """Take a session over, whoever had it."""
        lost = self.owners[session_id]
        ledger = await runtime.port.reopen(session_id)
        self.owners[session_id] = runtime
        assert ledger.runtime_id == runtime.name
        assert {promise.task_id for promise in ledger.promises} == set(self._tasks_of(session_id))
        for promise in ledger.promises:
            numbers = [event.seq for event in promise.events]
            assert numbers == list(range(len(numbers)))
            sent = self.tasks[promise.task_id].sent
            assert {n: promise.events[n].text for n in sent} == sent
            runtime.frozen.pop(promise.task_id, None)
            runtime.seen[promise.task_id] = list(promise.events)
            if runtime is not lost:
                lost.frozen[promise.task_id] = numbers[-1]

    async def look_at_ledgers(self) -> None:
        """Read every ledger: no receipt has gone back, no promise is open again."""
        for session_id, owner in self.owners.items():
            for promise in (await owner.port.ledger(session_id)).promises:
                before = self.promises.get(promise.task_id, "open")
                assert before in ("open", promise.state)
                self.promises[promise.task_id] = promise.state
                for receipt in promise.receipts:
                    self._note(receipt)

    async def _look_soon(self) -> None:
        await anyio.sleep(0.003)  # what was noted is stored by a task of the port's
        await self.look_at_ledgers()

    # The workers' moves

    async def start_worker(self) -> None:
        """Start one more, which is not repeated for want of an answer; it looks at once for what others have left."""
        self._worker_link.heal()
        self.workers.append(await self._tasks.start(self._host_worker, f"worker-{len(self.workers)}"))

    async def _host_worker(self, name: str, *, task_status: TaskStatus[WorkerPort]) -> None:
        """Keep a worker's port open; in a task of its own, so that it can be begun by any move."""
        settings = replace(self._settings, url=self._worker_link.url)
        async with open_worker_port(settings, worker_id=name) as port:
            task_status.started(port)
            await anyio.sleep_forever()

    async def take(self, worker: WorkerPort) -> None:
        """Wait a moment for a task."""
        with anyio.move_on_after(0.03):
            self.entries.append((worker, await worker.take()))

    async def begin(self, worker: WorkerPort, entry: TaskEntry) -> None:
        """Begin a delivery, perhaps not for the first time, perhaps one that another has taken over."""
        task_id = entry.package.task_id
        begun = await worker.begin(entry)
        if begun is None:
            return
        task = self.tasks[task_id]
        assert begun.attempt == len(task.attempts) + 1
        assert begun.attempt <= self._settings.max_attempts
        assert list(begun.updates) == task.updates
        assert begun.answers == task.answers
        stored = await self._stored(task_id)
        assert begun.next_seq == len(stored)
        assert {event.seq: event.text for event in begun.emitted if event.seq in task.sent} == task.sent
        task.attempts.append(begun.attempt)
        updates, answers = list(begun.updates), dict(begun.answers)
        self.runs.append(Run(worker, entry, begun.attempt, begun.next_seq, updates, answers))

    async def emit(self, run: Run, *, count: int = 1, again: bool = False, finish: bool = False) -> None:
        """Send so many events in one call, the one before once more with them, the last one as the end."""
        numbers = range(run.next_seq - again, run.next_seq + count)
        events = [_event(run, number, is_last=finish and number == numbers[-1]) for number in numbers]
        may_speak, before = await self._may_speak(run), await self._stored(run.task_id)
        result = await run.worker.emit(run.task_id, run.attempt, events, finish=finish)
        after = await self._stored(run.task_id)
        run.updates.extend(result.updates)
        assert run.updates == self.tasks[run.task_id].updates[: len(run.updates)]
        self._note_answers(run, result.answers)
        assert result.fenced == (not may_speak)
        assert not result.corrected or len(run.updates) > events[-1].revision
        # An end under a number that was used before gets the next one.
        new = [event.text for event in events if event.seq >= run.next_seq] or [events[-1].text] * finish
        expected = [] if result.fenced else new[:-1] if result.corrected else new
        assert after[: len(before)] == before
        assert [event.text for event in after[len(before) :]] == expected
        self.tasks[run.task_id].sent.update(enumerate(expected, len(before)))
        if not result.fenced:
            run.next_seq = len(after)

    async def beat(self, run: Run) -> None:
        """Show that a run lives."""
        may_speak = await self._may_speak(run)
        result = await run.worker.beat(run.entry, run.attempt)
        run.updates.extend(result.updates)
        self._note_answers(run, result.answers)
        assert result.fenced == (not may_speak)
        if may_speak:
            assert run.answers == self.tasks[run.task_id].answers

    # The end

    async def settle(self) -> None:
        """Bring every task to its end, and check what is left."""
        for link in (self._worker_link, self._runtime_link):
            link.heal()
        with anyio.fail_after(10):
            while await self._unfinished():
                await self._finish_one()
            for task_id, task in self.tasks.items():
                await self._check_end(task_id, task)
        await self.look_at_ledgers()
        await self._check_empty()
        faults = [fault for runtime in self.runtimes for fault in runtime.faults]
        assert not faults, faults

    async def _finish_one(self) -> None:
        await self.let_leases_run_out()
        await self.start_worker()
        worker = self.workers[-1]
        with anyio.move_on_after(0.05):
            entry = await worker.take()
            if (begun := await worker.begin(entry)) is not None:
                await self._finish(worker, entry, begun)

    async def _finish(self, worker: WorkerPort, entry: TaskEntry, begun: Begun) -> None:
        run = Run(worker, entry, begun.attempt, begun.next_seq, list(begun.updates))
        with anyio.CancelScope(shield=True):
            while not await self._is_over(run.task_id):
                await self.emit(run, finish=True)

    async def _check_end(self, task_id: str, task: Task) -> None:
        stored = await self._stored(task_id)
        assert [event.seq for event in stored] == list(range(len(stored)))
        assert [event.is_terminal for event in stored] == [False] * (len(stored) - 1) + [True]
        assert {n: stored[n].text for n in task.sent} == task.sent
        assert {event.text for event in stored if event.text} == set(task.sent.values())
        assert stored[-1].kind != "cancelled" or task.cancelled
        if stored[-1].kind == "final":
            assert stored[-1].revision == len(task.updates)
        owner = self.owners[task.package.session_id]
        while len(owner.seen.get(task_id, ())) < len(stored):
            await anyio.sleep(0.01)
        assert owner.seen[task_id] == stored
        owner.port.acknowledge_nowait(task_id, stored[-1].seq)

    async def _check_empty(self) -> None:
        for stream in self._streams():
            assert await self._pending(stream) == []
            assert await self._do("XLEN", stream) == 0
        for runtime in self.runtimes:
            inbox = self._keys.inbox(0, runtime.name)
            with anyio.move_on_after(3):
                while await self._do("XLEN", inbox):
                    await anyio.sleep(0.01)
            assert await self._do("XRANGE", inbox, "-", "+") == [], (
                f"the inbox of {runtime.name} is not empty"
            )

    # Looking at the server

    async def _unfinished(self) -> bool:
        """Whether an entry is left: also a cancelled task's goes only when a worker has taken it out."""
        return any([await self._do("XLEN", stream) for stream in self._streams()])

    async def _is_over(self, task_id: str) -> bool:
        return (await self._stored(task_id))[-1].is_terminal

    async def _may_speak(self, run: Run) -> bool:
        key = self._keys.task(0, run.task_id)
        state, attempt = cast("list[str]", await self._do("HMGET", key, "state", "attempt"))
        return state == "running" and int(attempt) == run.attempt

    async def _stored(self, task_id: str) -> list[DelegationEvent]:
        encoded = cast("list[str]", await self._do("LRANGE", self._keys.events(0, task_id), 0, -1))
        return [DelegationEvent.decode(text) for text in encoded]

    async def _pending(self, stream: str) -> list[tuple[str, str]]:
        """Entry and consumer of what was delivered and not finished."""
        found = await self._do("XPENDING", stream, GROUP, "-", "+", 100)
        return [(entry, owner) for entry, owner, *_ in cast("list[list[str]]", found)]

    async def _do(self, *arguments: str | int) -> object:
        return await command(self._clients.commands, *arguments)

    def _streams(self) -> Sequence[str]:
        return [self._keys.lane(0, lane) for lane in LANES]

    def _tasks_of(self, session_id: str) -> list[str]:
        return [i for i, task in self.tasks.items() if task.package.session_id == session_id]

    def _note_answers(self, run: Run, answers: Mapping[int, str]) -> None:
        assert not set(run.answers) & set(answers), "an answer was told twice"
        run.answers |= answers
        assert run.answers.items() <= self.tasks[run.task_id].answers.items()

    def _note(self, receipt: Receipt) -> None:
        assert receipt.words_heard < FORGED_WORDS, "a runtime without the session has stored a receipt"
        before = self.receipts.get((receipt.task_id, receipt.seq))
        if before is not None:
            assert receipt.words_heard >= before.words_heard
            assert before.state not in SETTLED or receipt.state == before.state
        self.receipts[receipt.task_id, receipt.seq] = receipt


def _event(run: Run, number: int, *, is_last: bool) -> DelegationEvent:
    return DelegationEvent(
        task_id=run.task_id,
        attempt=run.attempt,
        seq=number,
        kind="final" if is_last else "partial",
        text=f"{run.attempt}.{number}",
        revision=len(run.updates),
    )


def _package(task_id: str, session_id: str, *, urgent: bool) -> ContextPackage:
    return ContextPackage(
        task_id=task_id,
        session_id=session_id,
        idempotency_key=task_id,
        intent="look it up",
        urgent=urgent,
        said_start_ms=0,
        said_end_ms=400,
        local_time="2026-01-01T12:00:00+00:00",
        deadline_s=300,
    )
