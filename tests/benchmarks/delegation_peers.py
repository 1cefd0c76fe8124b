"""The same delegation through our bus and through job queues, side by side on one server.

A 10 kB package is handed over, twenty pieces of a result come back, then the end. Calm: the systems take turns, a few
tasks each, and every figure is of the same minutes. Under faults: a worker is killed in mid-stream, and another one
is there.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import anyio
from alternatives.trial import Order, Trial
from peer_environment import PEERS, python_of
from peer_programs import System

SYSTEMS = ("microturn", *PEERS)
CALM = Order(tasks=20)
CROWDED = Order(tasks=100, at_once=10)
BROKEN = Order(pieces=20, pause_s=0.05, within_s=15.0)
"""A task of one second, which is half of every lease."""
KILL_WITHIN_S = 0.7
"""After the first piece; a task has a second."""


@dataclass(slots=True)
class Calm:
    """What one system did while nothing failed."""

    trials: list[Trial] = field(default_factory=list)
    tasks_per_s: list[float] = field(default_factory=list)
    """With ten tasks at once, in each round."""

    def handover_s(self) -> list[float]:
        """From before the submit to the entry into the task's function."""
        return [trial.begun_s - trial.submitted_s for trial in self.trials if trial.begun_s is not None]

    def first_piece_s(self) -> list[float]:
        """From before the submit to the first piece at the caller."""
        return [trial.got_s[0] - trial.submitted_s for trial in self.trials if trial.got_s]

    def whole_s(self) -> list[float]:
        """From before the submit to the end at the caller."""
        return [trial.ended_s - trial.submitted_s for trial in self.trials if trial.ended_s is not None]


@dataclass(slots=True)
class Broken:
    """What became of one system's tasks whose worker was killed."""

    trials: list[Trial] = field(default_factory=list)

    def lost(self) -> int:
        """Pieces that never came, of tasks that did end and of those that did not."""
        return sum(trial.lost(BROKEN.pieces) for trial in self.trials)

    def doubled(self) -> int:
        """Pieces that came again."""
        return sum(trial.doubled() for trial in self.trials)

    def unfinished(self) -> int:
        """Tasks without an end after 15 s."""
        return sum(trial.ended_s is None for trial in self.trials)

    def recovery_s(self) -> float | None:
        """The median of the longest waits between two pieces; None if no task went on."""
        gaps = [trial.longest_gap_s() for trial in self.trials if trial.ended_s is not None]
        return median(gaps) if gaps else None


@asynccontextmanager
async def running(
    names: Sequence[str], folder: Path, url: str, package: Path, *, workers: int
) -> AsyncIterator[list[System]]:
    """The programs of the systems, started and ready."""
    systems = [System(name, python_of(name, folder), url, package) for name in names]
    try:
        for system in systems:
            await system.start(workers)
        yield systems
    finally:
        for system in systems:
            await system.close()


async def measure_calm(systems: Sequence[System], rounds: int) -> dict[str, Calm]:
    """Let the systems take turns; the first round, in which everything is loaded, does not count."""
    found = {system.name: Calm() for system in systems}
    for number in range(rounds + 1):
        for system in random.sample(systems, len(systems)):
            one_by_one, crowd = await _trials(system, CALM), await _trials(system, CROWDED)
            if number:
                found[system.name].trials += one_by_one
                found[system.name].tasks_per_s.append(_rate(crowd))
    return found


async def measure_broken(systems: Sequence[System], kills: int, *, nudge_s: float = 0.0) -> dict[str, Broken]:
    """Kill a worker of each system in mid-stream, so many times. The systems are at it at the same time: they wait
    more than they work.
    """
    found = {system.name: Broken() for system in systems}

    async def of_one(system: System) -> None:
        for _ in range(kills):
            found[system.name].trials.append(await _break(system, nudge_s))

    async with anyio.create_task_group() as tasks:
        for system in systems:
            tasks.start_soon(of_one, system)
    return found


async def _break(system: System, nudge_s: float) -> Trial:
    await system.order(replace(BROKEN, nudge_s=nudge_s))
    pid = await system.first_pid()
    await anyio.sleep(random.uniform(0.1, KILL_WITHIN_S))
    victim = next(worker for worker in system.workers if worker.pid == pid)
    await victim.kill()
    system.workers.remove(victim)
    [trial] = await system.trials()
    await system.add_worker()
    return trial


async def _trials(system: System, order: Order) -> list[Trial]:
    await system.order(order)
    return await system.trials()


def _rate(trials: Sequence[Trial]) -> float:
    ends = [trial.ended_s for trial in trials if trial.ended_s is not None]
    return len(ends) / (max(ends) - min(trial.submitted_s for trial in trials)) if ends else 0.0
