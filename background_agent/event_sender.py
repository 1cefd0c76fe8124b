"""Sends the events of one attempt in their order, all that wait in one call.

Who puts an event does not wait for the bus, and whoever cancels that one cuts no call short: a call belongs to the
sender, which knows the outcome of one before it makes the next. So no number is lost, and none is used twice. Knows
nothing of engines, and nothing of what the bus says of the task.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import anyio

from microturn.background_agent.tracing import note_sent
from microturn.background_agent.worker_bus import EmitResult, WorkerBus
from microturn.protocols import DelegationEvent

MOST_WAITING = 64
"""Events that wait to be sent; one more waits for room. Our choice: what one call takes."""

GATHER_S = 0.001
"""After a call, how long what is put next waits for more; the first event after a pause goes at once, and so does what
somebody waits for. Our choice: nothing beside a beat of 200 ms, and long beside the way of an engine from one piece to
the next, so that a burst costs two calls and not one for each piece or two."""

OnSent = Callable[[Sequence[DelegationEvent], EmitResult], None]
"""Hears what the bus has of a call, and what it said."""


class EventSender:
    """The events of one attempt on their way to the bus. `run` is to be started in the owner's task group."""

    def __init__(
        self,
        bus: WorkerBus,
        task_id: str,
        attempt: int,
        next_seq: int,
        *,
        on_sent: OnSent,
        on_error: Callable[[Exception], None],
    ) -> None:
        """`on_error` hears what a call raised. Its events and those that waited are gone then, their numbers free."""
        self._bus = bus
        self._task_id = task_id
        self._attempt = attempt
        self._seq = next_seq
        self._on_sent = on_sent
        self._on_error = on_error
        self._waiting: deque[DelegationEvent] = deque()
        self._under_way = 0
        self._put_ever = 0
        self._is_closed = False
        self._has_some = anyio.Event()
        self._is_awaited = anyio.Event()
        self._changed: anyio.Event | None = None
        """Set at the next change; None where nobody waits for one."""

    @property
    def unsent(self) -> int:
        """Events of which it is not known yet whether the bus has them."""
        return len(self._waiting) + self._under_way

    def open(self) -> None:
        """Take events again."""
        self._is_closed = False

    def close(self) -> None:
        """Drop what is put from now on, until `open`. What waits is still sent."""
        self._is_closed = True

    def abandon(self) -> None:
        """As `close`, and drop what waits too. A call that is under way is not cut off."""
        self.close()
        self._waiting.clear()
        self._notify()

    async def put(self, event: DelegationEvent) -> None:
        """Put an event behind the others; it gets its number when it is sent. Waits while too many wait."""
        while len(self._waiting) >= MOST_WAITING:
            await self._change()
        if not self._is_closed:
            self._put_ever += 1
            self._waiting.append(event)
            self._has_some.set()

    async def all_sent(self) -> None:
        """Wait until nothing that was put until now is unsent."""
        last = self._put_ever
        while self._put_ever - self.unsent < last:
            await self._change()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            while not self._waiting:
                self._has_some = anyio.Event()
                await self._has_some.wait()
            self._is_awaited = anyio.Event()
            await self._send_waiting()
            self._notify()
            with anyio.move_on_after(GATHER_S):
                await self._is_awaited.wait()

    def _take(self) -> list[DelegationEvent]:
        """What goes into the next call, under its numbers: all that waits, up to an end."""
        events: list[DelegationEvent] = []
        while self._waiting and not (events and events[-1].is_terminal):
            events.append(self._waiting.popleft().model_copy(update={"seq": self._seq + len(events)}))
        return events

    async def _send_waiting(self) -> None:
        events = self._take()
        self._under_way = len(events)
        try:
            result = await self._bus.emit(self._task_id, self._attempt, events, finish=events[-1].is_terminal)
        except Exception as error:  # noqa: BLE001  # told to the attempt, which ends as after any other failure
            self._under_way = 0
            self.abandon()
            self._on_error(error)
            return
        self._under_way = 0
        if result.fenced:
            events = []
        elif result.corrected:
            events = events[:-1]
        self._seq += len(events)
        note_sent(events)
        self._on_sent(events, result)

    async def _change(self) -> None:
        self._is_awaited.set()
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    def _notify(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()
