"""One attempt at one task: runs the engine, sends its events in order, and ends it when it has to end.

Everything that stops an engine comes through one cancel scope: the user no longer wants the task, the deadline has
passed, another attempt owns it, or the user corrected the task before its end was sent, upon which the engine is run
again. How the task ended is then said in one terminal event. Knows nothing of streams.
"""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass
from typing import Literal, TypeAlias

import anyio
from anyio.lowlevel import checkpoint
from pydantic import JsonValue

from microturn.background_agent.engine import AgentEngine, Control
from microturn.background_agent.event_size import fitted_event
from microturn.background_agent.heard import newer_receipt
from microturn.background_agent.worker_bus import BeatResult, Begun, EmitResult, TaskEntry, WorkerBus
from microturn.protocols import DelegationEvent, EventKind, MicroturnError, Receipt, Speech, UnavailableError
from microturn.tools import ToolRegistry

MODEL_FAILED = "I'm sorry, the part of me that works things out isn't answering right now."
"""Said when the model server is down, slow, or broke off."""
WENT_WRONG = "I'm sorry, something went wrong while I was working on that."
"""Said when an engine fails in any other way."""
TOOK_TOO_LONG = "I'm sorry, that took too long, so I stopped."
"""Said when the deadline has passed."""
KEPT_CHANGING = "I'm sorry, I couldn't keep up with the changes. Please ask me once more."
"""Said when the user has corrected the task more often than the engine is run."""
RUNS = 8
"""How often the engine is run at most, so that corrections cannot keep a task from ending. Our choice."""
_TERMINAL_TRIES = 8

AttemptEnd: TypeAlias = Literal["final", "failed", "cancelled", "expired", "fenced"]
"""How an attempt ended; `fenced` in silence."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Sending:
    """An event under its number, on its way to the bus."""

    event: DelegationEvent
    finish: bool


class Attempt:
    """A task that is this worker's. Made for one use; it is the engine's `Emit`."""

    def __init__(
        self, bus: WorkerBus, entry: TaskEntry, begun: Begun, *, lease_s: float, backlog_limit: int
    ) -> None:
        self._bus = bus
        self._entry = entry
        self._begun = begun
        self._lease_s = lease_s
        self._backlog_limit = backlog_limit
        self._deadline_s = anyio.current_time() + begun.remaining_s
        self._emitted = [event for event in begun.emitted if event.kind != "accepted"]
        self._updates = list(begun.updates)
        self._receipts: dict[int, Receipt] = {}
        self._note_receipts(begun.receipts)
        self._control = self._new_control()
        self._scope = anyio.CancelScope()
        self._sending = anyio.Lock()
        self._unsettled: _Sending | None = None
        self._caught_up = anyio.Event()
        self._backlog = 0
        self._seq = begun.next_seq
        self._held: DelegationEvent | None = None
        self._end: AttemptEnd | None = None
        self._is_cancelled = False
        self._is_refused = False

    async def run(self, engine: AgentEngine, tools: ToolRegistry) -> AttemptEnd:
        """Run the engine to its end, whatever that is, and say how it ended."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._beat)
            end = await self._work(engine, tools)
            group.cancel_scope.cancel()
        return end

    async def __call__(
        self,
        kind: EventKind,
        *,
        speech: Speech | None = None,
        text: str = "",
        detail: dict[str, JsonValue] | None = None,
    ) -> None:
        """Send one event of the engine; see `Emit`. Waits while the reader is behind."""
        event = self._event(kind, speech, text, detail)
        if event.is_terminal:
            await self._finish(event)
            await checkpoint()
            return
        if self._is_behind() and kind == "progress":
            self._held = event  # Of the reports that nobody has read yet, only the newest is worth sending.
            return
        while self._is_behind():
            await self._caught_up.wait()
        async with self._sending:
            held, self._held = self._held, None
            if held is not None and kind != "progress":
                await self._send(held)
            await self._send(event)
        await checkpoint()

    def _event(
        self, kind: EventKind, speech: Speech | None, text: str, detail: dict[str, JsonValue] | None
    ) -> DelegationEvent:
        """An event that fits the bus, whose number is given when it is sent."""
        return fitted_event(
            DelegationEvent(
                task_id=self._entry.package.task_id,
                attempt=self._begun.attempt,
                seq=self._seq,
                kind=kind,
                speech=speech,
                text=text,
                detail=detail or {},
                revision=self._control.revision,
            )
        )

    async def _work(self, engine: AgentEngine, tools: ToolRegistry) -> AttemptEnd:
        """Run the engine, and again where the user has corrected the task before its end, until an end is taken."""
        for _ in range(RUNS):
            self._control = self._new_control()
            self._is_refused, self._held = False, None
            failure, is_late = await self._run_engine(engine, tools)
            if self._end is None and not self._is_refused:
                await self._conclude(failure, is_late=is_late)
            if self._end is not None:
                return self._end
        return await self._give_up()

    def _new_control(self) -> Control:
        return Control(
            self._begun.attempt,
            self._emitted,
            self._updates,
            max(0.0, self._deadline_s - anyio.current_time()),
            self._receipts,
        )

    async def _run_engine(
        self, engine: AgentEngine, tools: ToolRegistry
    ) -> tuple[BaseException | None, bool]:
        """Run the engine within the deadline; returns what it raised, and whether the deadline cut it off."""
        self._scope = anyio.CancelScope(deadline=self._deadline_s)
        if self._is_cancelled:
            return None, False
        with self._scope:
            try:
                await engine.run(self._entry.package, tools, self, self._control)
            except (Exception, SystemExit) as error:  # noqa: BLE001  # the boundary of the task: recorded, told as `failed`
                _record(self._entry.package.task_id, error)
                return error, False
        return None, self._scope.cancelled_caught

    async def _conclude(self, failure: BaseException | None, *, is_late: bool) -> None:
        """Send the terminal event of a run whose engine did not."""
        if self._is_cancelled:
            await self._finish(self._event("cancelled", None, "", None))
        elif is_late:
            self._control.news()  # It is true whatever the corrections were.
            late = self._event("expired", Speech(text=TOOK_TOO_LONG), TOOK_TOO_LONG, {"reason": "deadline"})
            await self._finish(late)
        else:
            spoken, detail = _apology(failure)
            await self._finish(self._event("failed", Speech(text=spoken), spoken, detail))

    async def _give_up(self) -> AttemptEnd:
        """End a task that was corrected too often. Each refusal is one more correction, so this ends."""
        while self._end is None:
            self._control.news()
            detail: dict[str, JsonValue] = {"reason": "corrections"}
            await self._finish(self._event("failed", Speech(text=KEPT_CHANGING), KEPT_CHANGING, detail))
        return self._end

    async def _finish(self, event: DelegationEvent) -> None:
        """Send a terminal event, unless the user has corrected what it is built on.

        A number that is taken is passed over.
        """
        async with self._sending:
            await self._settle()
            if self._end is not None:
                _log.error("task %s: a %s after the end was left out", event.task_id, event.kind)
                return
            for _ in range(_TERMINAL_TRIES):
                if event.kind in ("final", "failed") and event.revision < len(self._updates):
                    self._refuse()
                    return
                result = await self._put(_Sending(self._numbered(event), finish=True))
                if not result.duplicate:
                    break

    async def _send(self, event: DelegationEvent) -> None:
        """Send an event that is not the last, unless the run that it comes from has ended."""
        await self._settle()
        if self._end is None and not self._is_refused:
            await self._put(_Sending(self._numbered(event), finish=False))

    async def _settle(self) -> None:
        """Repeat a send that was cut short: whether the bus took it is not known, and repeating does no harm."""
        if self._unsettled is not None:
            await self._put(self._unsettled)

    def _numbered(self, event: DelegationEvent) -> DelegationEvent:
        return event.model_copy(update={"seq": self._seq})

    async def _put(self, sending: _Sending) -> EmitResult:
        """Send an event; its number is used up once the bus has answered, unless the bus refused it as corrected."""
        event, self._unsettled = sending.event, sending
        try:
            result = await self._bus.emit(
                event.task_id, self._begun.attempt, event.seq, event, finish=sending.finish
            )
        except Exception:
            self._unsettled = None
            raise
        self._unsettled = None
        if result.corrected:
            self._refuse()
        elif not result.fenced:
            self._note_sent(event, is_end=sending.finish, is_duplicate=result.duplicate)
        self._heed(result)
        return result

    def _note_sent(self, event: DelegationEvent, *, is_end: bool, is_duplicate: bool) -> None:
        """Keep what the bus has; an event that it has seen before is one whose sending was repeated."""
        self._seq = event.seq + 1
        if is_end and is_duplicate:
            return  # The number went to another event, and the end is sent once more.
        self._emitted.append(event)
        if is_end:
            self._end = _end_of(event.kind)

    def _refuse(self) -> None:
        """Break off the run, which was to end without heeding a correction."""
        self._is_refused = True
        self._scope.cancel()

    async def _beat(self) -> None:
        """Show that the attempt lives, four times per lease, and hear what the bus has to say."""
        while self._end is None:
            await anyio.sleep(self._lease_s / 4)
            self._heed(await self._bus.beat(self._entry, self._begun.attempt))

    def _heed(self, result: EmitResult | BeatResult) -> None:
        """Act on what the bus says: stop, tell the engine, or let it send again."""
        self._updates.extend(result.updates)
        self._note_receipts(result.receipts)
        self._backlog = result.backlog
        if not self._is_behind():
            self._caught_up.set()
            self._caught_up = anyio.Event()
        if self._end is not None:
            return
        if result.fenced:
            self._end = "fenced"
            self._scope.cancel()
        elif result.cancel:
            self._is_cancelled = True
            self._scope.cancel()

    def _note_receipts(self, receipts: tuple[Receipt, ...]) -> None:
        for receipt in receipts:
            self._receipts[receipt.seq] = newer_receipt(self._receipts.get(receipt.seq), receipt)

    def _is_behind(self) -> bool:
        return self._backlog > self._backlog_limit


def _end_of(kind: EventKind) -> AttemptEnd:
    ends: dict[str, AttemptEnd] = {"final": "final", "cancelled": "cancelled", "expired": "expired"}
    return ends.get(kind, "failed")


def _apology(failure: BaseException | None) -> tuple[str, dict[str, JsonValue]]:
    """What to say of a failure, and what operators are told; the text of a foreign error may hold anything."""
    if failure is None:
        return WENT_WRONG, {"reason": "the engine ended without an answer"}
    cause = _leaf(failure)
    detail: dict[str, JsonValue] = {"reason": type(cause).__name__}
    if isinstance(cause, MicroturnError):
        detail["message"] = str(cause)
    down = isinstance(cause, UnavailableError)
    return (MODEL_FAILED if down else WENT_WRONG), detail


def _leaf(error: BaseException) -> BaseException:
    """The first of the errors in a group, which task groups wrap them in."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _record(task_id: str, error: BaseException) -> None:
    """Log what was raised and where; not its text, unless it is ours and so free of what users said."""
    cause = _leaf(error)
    frames = traceback.extract_tb(cause.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"
    text = str(cause) if isinstance(cause, MicroturnError) else ""
    _log.error("task %s failed: %s at %s %s", task_id, type(cause).__name__, where, text)
