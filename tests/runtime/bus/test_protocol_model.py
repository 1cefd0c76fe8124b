"""The protocol under any order of moves: hypothesis chooses them, the real scripts on the real server carry them out.

What must hold is written down in `protocol_world.py`: one end for each task, numbers without gaps and without
repetition, no word from a fenced attempt, nothing for a runtime that has lost the session, receipts that only grow.
With MICROTURN_LONG_TESTS, many more examples are tried, and other ones every time.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from microturn.protocols import PromiseState, ReceiptState
from microturn.runtime.bus import EmbeddedServer
from tests.runtime.bus.extent import extent
from tests.runtime.bus.protocol_world import SESSIONS, Runtime, Task, World

pytestmark = [pytest.mark.redis, pytest.mark.timeout(extent(90, 1800))]

T = TypeVar("T")
PICKS = st.integers(0, 1_000)
"""Picks one of however many there are."""
LOST = st.sampled_from((0, 0, 0, 1, 2))
"""How many replies to a move are lost."""
RECEIPT_STATES = st.sampled_from(
    ("woven", "woven", "woven", "interrupted", "heard", "superseded", "expired", "dropped")
)
PROMISE_STATES = st.sampled_from(("spoken", "declined", "expired", "failed"))
ANSWERS = st.sampled_from((["yes"], ["no", "yes"], [""]))
_TENANTS = itertools.count()


class Protocol(RuleBasedStateMachine):
    """Chooses the moves."""

    server: EmbeddedServer

    def __init__(self) -> None:
        super().__init__()
        self._ends = ExitStack()
        self._portal: BlockingPortal = self._ends.enter_context(start_blocking_portal())
        self.world = World(self.server.url, f"model{next(_TENANTS)}")

    @initialize()
    def open(self) -> None:
        """Begin with a task that runs and one that waits: whatever hypothesis leaves out, there is something to do."""
        self._ends.enter_context(self._portal.wrap_async_context_manager(self.world))
        self.submit(runtime=0, session=SESSIONS[0], urgent=False, lost=0)
        self.take_and_begin(worker=0, lost=0)
        self.submit(runtime=0, session=SESSIONS[1], urgent=True, lost=0)

    def teardown(self) -> None:
        with self._ends:
            if self.world.runtimes:
                self._do(self.world.settle)

    @rule(runtime=PICKS, session=st.sampled_from(SESSIONS), urgent=st.booleans(), lost=LOST)
    def submit(self, runtime: int, session: str, urgent: bool, lost: int) -> None:
        self._lose(lost)
        self._do(partial(self.world.submit, self._runtime(runtime), session, urgent=urgent))

    @rule(task=PICKS)
    def submit_again(self, task: int) -> None:
        self._with(self._tasks, task, self.world.submit_again)

    @rule(runtime=PICKS, task=PICKS, really=st.integers(0, 3))
    def cancel(self, runtime: int, task: int, really: int) -> None:
        """Seldom, so that tasks live long enough for the rest."""
        if not really:
            self._with(self._tasks, task, partial(self.world.cancel, self._runtime(runtime)))

    @rule(task=PICKS, lost=LOST)
    def update(self, task: int, lost: int) -> None:
        self._lose(lost)
        self._with(self._tasks, task, self.world.update)

    @rule(task=PICKS, number=st.sampled_from((0, 0, 1, 5)), texts=ANSWERS, lost=LOST)
    def answer(self, task: int, number: int, texts: list[str], lost: int) -> None:
        """Whoever has the session now answers, perhaps twice, and so does whoever does not."""
        self._lose(lost)
        for text in texts:
            self._with(self._tasks, task, partial(self.world.answer, number=number, text=text))

    @rule(task=PICKS)
    def acknowledge(self, task: int) -> None:
        self._with(self._tasks, task, self.world.acknowledge)

    @rule(runtime=PICKS, task=PICKS, state=RECEIPT_STATES, words=st.integers(0, 10))
    def receive(self, runtime: int, task: int, state: ReceiptState, words: int) -> None:
        who = self._runtime(runtime)
        self._with(self._tasks, task, lambda each: self.world.receive(who, each, state, words))

    @rule(runtime=PICKS, task=PICKS, state=PROMISE_STATES)
    def promise(self, runtime: int, task: int, state: PromiseState) -> None:
        who = self._runtime(runtime)
        self._with(self._tasks, task, lambda each: self.world.promise(who, each, state))

    @rule(runtime=PICKS, session=st.sampled_from(SESSIONS))
    def reopen(self, runtime: int, session: str) -> None:
        self._do(partial(self.world.reopen, self._runtime(runtime), session))

    @rule()
    def look_at_ledgers(self) -> None:
        self._do(self.world.look_at_ledgers)

    @rule()
    def start_worker(self) -> None:
        self._do(self.world.start_worker)

    @rule(worker=PICKS, lost=LOST)
    def take_and_begin(self, worker: int, lost: int) -> None:
        self._with(self.world.workers, worker, self.world.take)
        self._lose(lost)
        self._with(self.world.entries, 0, lambda newest: self.world.begin(*newest))

    @rule(lost=LOST)
    def take_over(self, lost: int) -> None:
        """All workers fall silent, a new one begins what one of them had, and they may still speak."""
        self._do(self.world.let_leases_run_out)
        self._do(self.world.start_worker)
        self.take_and_begin(worker=0, lost=lost)

    @rule(pick=PICKS, lost=LOST)
    def begin_again(self, pick: int, lost: int) -> None:
        self._lose(lost)
        self._with(self.world.entries, pick, lambda each: self.world.begin(*each))

    @rule(run=PICKS, count=st.integers(1, 3), again=st.booleans(), lost=LOST)
    def emit(self, run: int, count: int, again: bool, lost: int) -> None:
        self._lose(lost)
        self._with(self.world.runs, run, partial(self.world.emit, count=count, again=again))

    @rule(run=PICKS, count=st.integers(0, 2), lost=LOST)
    def finish(self, run: int, count: int, lost: int) -> None:
        self._lose(lost)
        self._with(self.world.runs, run, partial(self.world.emit, count=count, again=count != 1, finish=True))

    @rule(run=PICKS)
    def beat(self, run: int) -> None:
        self._with(self.world.runs, run, self.world.beat)

    @property
    def _tasks(self) -> list[Task]:
        return list(self.world.tasks.values())

    def _runtime(self, pick: int) -> Runtime:
        return self.world.runtimes[pick % len(self.world.runtimes)]

    def _with(self, items: list[T], pick: int, move: Callable[[T], Awaitable[None]]) -> None:
        """Carry out a move with one of the items, the newest for 0; no move where there are none.

        What there is depends on the server's time, and hypothesis must always be able to choose the same.
        """
        if items:
            self._do(partial(move, items[-1 - pick % len(items)]))

    def _lose(self, count: int) -> None:
        """Lose so many replies to whatever comes next."""
        if count:
            self._do(partial(self.world.lose_replies, count))

    def _do(self, move: Callable[[], Awaitable[None]]) -> None:
        self._portal.call(move)


def test_what_is_promised_holds_in_any_order_of_moves(server: EmbeddedServer) -> None:
    Protocol.server = server
    run_state_machine_as_test(
        Protocol,
        settings=settings(
            max_examples=extent(30, 1_000),
            stateful_step_count=extent(40, 60),
            deadline=None,
            derandomize=extent(True, False),
            database=None,
            phases=extent([Phase.generate], list(Phase)),  # to make an example smaller takes minutes
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
