"""Stores what users have answered to the questions of their tasks, through outages and whatever else waits to be sent.

An answer that is lost lets its task wait for nothing, and its user say everything again. So answers have a way of their
own, on which there is room for one to each question that was put. Knows nothing of what was asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from microturn.runtime.bus.health import HealthMonitor
from microturn.runtime.bus.outgoing import Item, Outgoing
from microturn.runtime.bus.pending_writes import PendingWrites

_Question: TypeAlias = tuple[str, int]
"""Task, and number of the event that asked."""


class AnswerWriter:
    """One runtime's answers. `run` is to be started in the owner's task group."""

    def __init__(
        self, outgoing: Outgoing, *, health: HealthMonitor, on_answer: Callable[[Item], None]
    ) -> None:
        """`on_answer` is told what the server said to each."""
        self._outgoing = outgoing
        self._on_answer = on_answer
        self._answers: dict[_Question, Item] = {}
        self._writes = PendingWrites(self._store, health=health)

    def put(self, item: Item) -> None:
        """Store an answer, in place of an earlier one to the same question that still waits. Never waits or refuses."""
        question = (item.task_id, item.seq)
        self._answers[question] = item
        self._writes.put(question)

    async def all_stored(self) -> None:
        """Wait until the server has all of them."""
        await self._writes.all_stored()

    async def run(self) -> None:
        """Store what waits until cancelled, through outages."""
        await self._writes.run()

    async def _store(self, question: _Question) -> bool:
        item = self._answers[question]
        item.outcome = await self._outgoing.perform(item)
        if self._answers[question] is item:
            del self._answers[question]
        self._on_answer(item)
        return True
