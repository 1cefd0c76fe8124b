"""One attempt at one task: runs the engine, sends its events in order, and ends it when it has to end.

Everything that stops an engine comes through one cancel scope: the user no longer wants the task, the deadline has
passed, another attempt owns it. How the task ended is then said in one terminal event. Knows nothing of streams.
"""

from __future__ import annotations

import logging
import traceback
from typing import Literal, TypeAlias

import anyio
from anyio.lowlevel import checkpoint
from pydantic import JsonValue

from microturn.background_agent.engine import AgentEngine, Control
from microturn.background_agent.worker_bus import BeatResult, Begun, EmitResult, TaskEntry, WorkerBus
from microturn.protocols import DelegationEvent, EventKind, MicroturnError, Speech, UnavailableError
from microturn.tools import ToolRegistry

MODEL_FAILED = "I'm sorry, the part of me that works things out isn't answering right now."
"""Said when the model server is down, slow, or broke off."""
WENT_WRONG = "I'm sorry, something went wrong while I was working on that."
"""Said when an engine fails in any other way."""
TOOK_TOO_LONG = "I'm sorry, that took too long, so I stopped."
"""Said when the deadline has passed."""
_TERMINAL_TRIES = 8

AttemptEnd: TypeAlias = Literal["final", "failed", "cancelled", "expired", "fenced"]
"""How an attempt ended; `fenced` in silence."""

_log = logging.getLogger(__name__)


class Attempt:
    """A task that is this worker's. Made for one run; it is the engine's `Emit`."""

    def __init__(
        self, bus: WorkerBus, entry: TaskEntry, begun: Begun, *, lease_s: float, backlog_limit: int
    ) -> None:
        self._bus = bus
        self._entry = entry
        self._begun = begun
        self._lease_s = lease_s
        self._backlog_limit = backlog_limit
        self._control = Control(begun.attempt, begun.emitted, list(begun.updates), begun.remaining_s)
        self._scope = anyio.CancelScope()
        self._sending = anyio.Lock()
        self._caught_up = anyio.Event()
        self._backlog = 0
        self._seq = begun.next_seq
        self._held: DelegationEvent | None = None
        self._end: AttemptEnd | None = None
        self._is_cancelled = False

    async def run(self, engine: AgentEngine, tools: ToolRegistry) -> AttemptEnd:
        """Run the engine to its end, whatever that is, and say how it ended."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._beat)
            failure = await self._run_engine(engine, tools)
            end = self._end or await self._conclude(failure)
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
        """An event whose number is given when it is sent."""
        return DelegationEvent(
            task_id=self._entry.package.task_id,
            attempt=self._begun.attempt,
            seq=self._seq,
            kind=kind,
            speech=speech,
            text=text,
            detail=detail or {},
        )

    async def _run_engine(self, engine: AgentEngine, tools: ToolRegistry) -> Exception | None:
        """Run the engine within the deadline; returns what it raised."""
        self._scope.deadline = anyio.current_time() + self._begun.remaining_s
        with self._scope:
            try:
                await engine.run(self._entry.package, tools, self, self._control)
            except Exception as error:  # noqa: BLE001  # the boundary of the task: recorded, told as `failed`
                _record(self._entry.package.task_id, error)
                return error
        return None

    async def _conclude(self, failure: Exception | None) -> AttemptEnd:
        """Send the terminal event of an attempt whose engine did not."""
        if self._is_cancelled:
            return await self._finish(self._event("cancelled", None, "", None))
        if self._scope.cancelled_caught:
            detail: dict[str, JsonValue] = {"reason": "deadline"}
            return await self._finish(
                self._event("expired", Speech(text=TOOK_TOO_LONG), TOOK_TOO_LONG, detail)
            )
        spoken, detail = _apology(failure)
        return await self._finish(self._event("failed", Speech(text=spoken), spoken, detail))

    async def _finish(self, event: DelegationEvent) -> AttemptEnd:
        """Send a terminal event. A number that is taken, by a send that was cut short, is passed over."""
        async with self._sending:
            if self._end is not None:
                _log.error("task %s: a %s after the end was left out", event.task_id, event.kind)
                return self._end
            for _ in range(_TERMINAL_TRIES):
                result = await self._put(event, finish=True)
                if result.fenced:
                    self._end = "fenced"
                    return self._end
                if not result.duplicate:
                    break
            self._end = _end_of(event.kind)
        return self._end

    async def _send(self, event: DelegationEvent) -> None:
        self._heed(await self._put(event, finish=False))

    async def _put(self, event: DelegationEvent, *, finish: bool) -> EmitResult:
        """Send with the next number, which is used up once the bus has answered."""
        numbered = event.model_copy(update={"seq": self._seq})
        result = await self._bus.emit(
            numbered.task_id, self._begun.attempt, self._seq, numbered, finish=finish
        )
        self._seq += 1
        return result

    async def _beat(self) -> None:
        """Show that the attempt lives, four times per lease, and hear what the bus has to say."""
        while self._end is None:
            await anyio.sleep(self._lease_s / 4)
            self._heed(await self._bus.beat(self._entry, self._begun.attempt))

    def _heed(self, result: EmitResult | BeatResult) -> None:
        """Act on what the bus says: stop, tell the engine, or let it send again."""
        self._control.updates.extend(result.updates)
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

    def _is_behind(self) -> bool:
        return self._backlog > self._backlog_limit


def _end_of(kind: EventKind) -> AttemptEnd:
    ends: dict[str, AttemptEnd] = {"final": "final", "cancelled": "cancelled", "expired": "expired"}
    return ends.get(kind, "failed")


def _apology(failure: Exception | None) -> tuple[str, dict[str, JsonValue]]:
    """What to say of a failure, and what operators are told; the text of a foreign error may hold anything."""
    if failure is None:
        return WENT_WRONG, {"reason": "the engine ended without an answer"}
    cause = _leaf(failure)
    detail: dict[str, JsonValue] = {"reason": type(cause).__name__}
    if isinstance(cause, MicroturnError):
        detail["message"] = str(cause)
    down = isinstance(cause, UnavailableError)
    return (MODEL_FAILED if down else WENT_WRONG), detail


def _leaf(error: Exception) -> Exception:
    """The first of the errors in a group, which task groups wrap them in."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _record(task_id: str, error: Exception) -> None:
    """Log what was raised and where; not its text, unless it is ours and so free of what users said."""
    cause = _leaf(error)
    frames = traceback.extract_tb(cause.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"
    text = str(cause) if isinstance(cause, MicroturnError) else ""
    _log.error("task %s failed: %s at %s %s", task_id, type(cause).__name__, where, text)
