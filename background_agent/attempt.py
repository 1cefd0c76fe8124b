"""One attempt at one task: runs the engine, sends its events in order, and ends it when it has to end.

Everything that stops an engine comes through one cancel scope: the user no longer wants the task, the deadline has
passed, another attempt owns it, or the user corrected the task before its end was sent, upon which the engine is run
again. How the task ended is then said in one terminal event. Knows nothing of streams.
"""

from __future__ import annotations

import functools
import logging
import traceback
from collections.abc import Sequence
from typing import Literal, TypeAlias

import anyio
from anyio.lowlevel import checkpoint
from pydantic import JsonValue

from microturn.background_agent.engine import AgentEngine, Control
from microturn.background_agent.event_sender import EventSender
from microturn.background_agent.event_size import fitted_event
from microturn.background_agent.tracing import note_answers
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
LISTEN_EVERY_S = 0.025
"""How often an attempt that waits for a slow reader asks whether it has caught up. Our choice."""
_AWAITED = frozenset({"tool_started", "tool_finished"})
"""Kinds that an engine goes on after only once they are stored: what a tool does must not come before its record."""

AttemptEnd: TypeAlias = Literal["final", "failed", "cancelled", "expired", "fenced"]
"""How an attempt ended; `fenced` in silence."""

_log = logging.getLogger(__name__)


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
        self._answers: dict[int, str] = dict(begun.answers)
        self._control = self._new_control()
        self._scope = anyio.CancelScope()
        self._sender = EventSender(
            bus,
            entry.package.task_id,
            begun.attempt,
            begun.next_seq,
            on_sent=self._note_sent,
            on_error=self._note_error,
        )
        self._error: Exception | None = None
        self._caught_up = anyio.Event()
        self._wants_news = anyio.Event()
        self._backlog = 0
        self._held: DelegationEvent | None = None
        self._end: AttemptEnd | None = None
        self._is_cancelled = False
        self._is_refused = False

    async def run(self, engine: AgentEngine, tools: ToolRegistry) -> AttemptEnd:
        """Run the engine to its end, whatever that is, and say how it ended."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._beat)
            group.start_soon(self._listen)
            group.start_soon(self._sender.run)
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
        """Send one event of the engine; see `Emit`. Waits while the reader is behind, and until tool calls and questions
        are stored."""
        event = self._event(kind, speech, text, detail)
        if event.is_terminal:
            await self._finish(event)
        elif self._is_behind() and kind == "progress":
            self._held = event  # Of the reports that nobody has read yet, only the newest is worth sending.
            return
        else:
            await self._catch_up()
            held, self._held = self._held, None
            if held is not None and kind != "progress":
                await self._sender.put(held)
            await self._sender.put(event)
            if kind in _AWAITED or event.is_question:
                await self._sender.all_sent()
        await checkpoint()

    async def _catch_up(self) -> None:
        """Wait until the reader is not behind."""
        while self._is_behind():
            self._ask_for_news()
            await self._caught_up.wait()

    def _ask_for_news(self) -> None:
        """Have the bus asked soon, as somebody waits for what only it can tell."""
        self._wants_news.set()

    def _event(
        self, kind: EventKind, speech: Speech | None, text: str, detail: dict[str, JsonValue] | None
    ) -> DelegationEvent:
        """An event that fits the bus, whose number is given when it is sent."""
        return fitted_event(
            DelegationEvent(
                task_id=self._entry.package.task_id,
                attempt=self._begun.attempt,
                seq=self._begun.next_seq,
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
            self._sender.open()
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
            self._answers,
            load=functools.partial(self._bus.load, self._entry),
        )

    async def _run_engine(
        self, engine: AgentEngine, tools: ToolRegistry
    ) -> tuple[BaseException | None, bool]:
        """Run the engine within the deadline; returns what it raised, and whether the deadline cut it off."""
        self._scope = anyio.CancelScope(deadline=self._deadline_s)
        if self._is_cancelled:
            return None, False
        failure: BaseException | None = None
        with self._scope:
            try:
                await engine.run(self._entry.package, tools, self, self._control)
            except (Exception, SystemExit) as error:  # noqa: BLE001  # the boundary of the task: recorded, told as `failed`
                _record(self._entry.package.task_id, error)
                failure = error
        await self._sender.all_sent()
        unsendable, self._error = self._error, None
        failure = failure or unsendable
        return failure, failure is None and self._scope.cancelled_caught

    async def _conclude(self, failure: BaseException | None, *, is_late: bool) -> None:
        """Send the terminal event of a run whose engine did not."""
        if self._is_cancelled:
            await self._end_with(self._event("cancelled", None, "", None))
        elif is_late:
            self._control.news()  # It is true whatever the corrections were.
            late = self._event("expired", Speech(text=TOOK_TOO_LONG), TOOK_TOO_LONG, {"reason": "deadline"})
            await self._end_with(late)
        else:
            spoken, detail = _apology(failure)
            await self._end_with(self._event("failed", Speech(text=spoken), spoken, detail))

    async def _give_up(self) -> AttemptEnd:
        """End a task that was corrected too often. Each refusal is one more correction, so this ends."""
        while self._end is None:
            self._control.news()
            detail: dict[str, JsonValue] = {"reason": "corrections"}
            await self._end_with(self._event("failed", Speech(text=KEPT_CHANGING), KEPT_CHANGING, detail))
        return self._end

    async def _end_with(self, event: DelegationEvent) -> None:
        """Send a terminal event of our own; what the bus raises is raised, as there is nothing else to be told."""
        self._sender.open()
        await self._finish(event)
        if self._error is not None:
            raise self._error

    async def _finish(self, event: DelegationEvent) -> None:
        """Send a terminal event, unless the user has corrected what it is built on."""
        if self._end is not None:
            _log.error("task %s: a %s after the end was left out", event.task_id, event.kind)
        elif event.kind in ("final", "failed") and event.revision < len(self._updates):
            self._refuse()
        else:
            await self._sender.put(event)
            await self._sender.all_sent()

    def _note_sent(self, events: Sequence[DelegationEvent], result: EmitResult) -> None:
        """Keep what the bus has, and act on what it says."""
        self._emitted.extend(events)
        if events and events[-1].is_terminal:
            self._end = _end_of(events[-1].kind)
            self._sender.abandon()
        if result.corrected:
            self._sender.abandon()
            self._refuse()
        self._heed(result)

    def _note_error(self, error: Exception) -> None:
        """Break off the run, as what it has sent cannot be stored."""
        self._error = error
        self._scope.cancel()

    def _refuse(self) -> None:
        """Break off the run, which was to end without heeding a correction."""
        self._is_refused = True
        self._sender.close()
        self._scope.cancel()

    async def _beat(self) -> None:
        """Show that the attempt lives, four times per lease, and hear what the bus has to say.

        At once where the bus has news, and sooner while the engine waits for a slow reader, of which nothing else would
        tell.
        """
        while self._end is None:
            if not self._is_waited_for:
                with anyio.move_on_after(self._lease_s / 4):
                    await self._wants_news.wait()
            self._wants_news = anyio.Event()
            if self._is_waited_for:
                await anyio.sleep(min(LISTEN_EVERY_S, self._lease_s / 4))
            self._heed(await self._bus.beat(self._entry, self._begun.attempt))

    async def _listen(self) -> None:
        """Have the bus asked as soon as it may have something to say."""
        while True:
            await self._bus.until_news(self._entry, self._begun.attempt)
            self._ask_for_news()

    @property
    def _is_waited_for(self) -> bool:
        """Whether the engine waits until the reader has caught up."""
        return self._caught_up.statistics().tasks_waiting > 0

    def _heed(self, result: EmitResult | BeatResult) -> None:
        """Act on what the bus says: stop, tell the engine, or let it send again."""
        self._updates.extend(result.updates)
        self._note_receipts(result.receipts)
        note_answers({seq: words for seq, words in result.answers.items() if seq not in self._answers})
        self._answers |= result.answers
        if result.updates or result.receipts or result.answers:
            self._control.notify()
        self._backlog = result.backlog
        if self._is_waited_for and not self._is_behind():
            self._caught_up.set()
            self._caught_up = anyio.Event()
        if self._end is not None:
            return
        if result.fenced:
            self._end = "fenced"
            self._sender.abandon()
            self._scope.cancel()
        elif result.cancel:
            self._is_cancelled = True
            self._scope.cancel()

    def _note_receipts(self, receipts: tuple[Receipt, ...]) -> None:
        for receipt in receipts:
            known = self._receipts.get(receipt.seq)
            self._receipts[receipt.seq] = receipt if known is None else known.followed_by(receipt)

    def _is_behind(self) -> bool:
        return self._backlog + self._sender.unsent > self._backlog_limit


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
