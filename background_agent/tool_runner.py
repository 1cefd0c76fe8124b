"""Runs the calls that a model asks for, and reports each as events.

A call has a number in its task and keeps it in a repeated attempt, so that a tool with effects can tell the
repetition. What an earlier run finished is not called again: its result is read from the events it sent. What it
began and did not finish is made good first: an idempotent call is repeated under its number, and of one that must not
be repeated the user and the model are told that nobody knows whether it was done. A call that has asked its user
something is repeated, too, and finds its answers: nobody is asked twice.

Before a tool with an approval is called the user is asked. The question and its answer are kept with the task, so that
a repeated attempt goes on with them; what was approved and begun is not asked for again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import anyio

from microturn.background_agent.approver import Approver
from microturn.background_agent.chat_client import as_json
from microturn.background_agent.effect_guard import EffectGuard
from microturn.background_agent.engine import Control, Emit
from microturn.background_agent.journal import NOT_KNOWN, UNKNOWN_TEXT, Journal, call_detail
from microturn.background_agent.narrator import Narrator
from microturn.background_agent.questions import Questions
from microturn.background_agent.tracing import tool_span
from microturn.background_agent.transcript import Call, Outcome
from microturn.background_agent.work_clock import WorkClock
from microturn.protocols import ContextPackage, Speech, ToolSpec
from microturn.tools import Ask, ToolContext, ToolRegistry, ToolResult

READS_KEPT = 4
"""Results of earlier runs, of calls without an effect, that a model is shown again. Our choice."""
DOUBT = "I was interrupted in the middle of one step, {name}, so I can't tell whether it was done."
"""Said of a call with an effect that may or may not have been made, and is not made again."""

_log = logging.getLogger(__name__)


class ToolRunner:
    """The tools as one attempt uses them."""

    def __init__(
        self,
        package: ContextPackage,
        tools: ToolRegistry,
        emit: Emit,
        *,
        narrator: Narrator,
        guard: EffectGuard,
        data_dir: Path,
        journal: Journal,
        control: Control,
        clock: WorkClock,
    ) -> None:
        self._package = package
        self._tools = tools
        self._specs: dict[str, ToolSpec] = {spec.name: spec for spec in tools.specs()}
        self._emit = emit
        self._narrator = narrator
        self._data_dir = data_dir
        self._guard = guard
        self._journal = journal
        self._control = control
        self._questions = Questions(emit, control, clock)
        self._approver = Approver(tools, self._questions, emit, control)
        self._in_doubt = set(journal.in_doubt)

    async def resume(self) -> list[Outcome]:
        """Make good what earlier runs left unfinished; return the outcomes of all calls before this run."""
        effects = [name for name, spec in self._specs.items() if spec.side_effect != "none"]
        for outcome in self._journal.finished:
            self._guard.has_read(outcome.text)
        outcomes = list(self._journal.newest(READS_KEPT, effects))
        for call in self._journal.unfinished:
            spec = self._specs.get(call.tool)
            if spec is None or spec.side_effect == "unsafe":
                outcomes.append(await self._leave_in_doubt(call))
            elif spec.side_effect == "idempotent" or self._questions.were_asked_by(call):
                outcomes.append(_outcome(call, await self._make(call)))
        asked_for = [call for call in self._journal.awaiting if call.tool in self._specs]
        return outcomes + [_outcome(call, await self._begin(call)) for call in asked_for]

    async def _leave_in_doubt(self, call: Call) -> Outcome:
        """Close a call of which nobody knows whether it was done, and say so."""
        self._in_doubt.add(call.tool)
        _log.warning("tool %s is not called again: it may have been done", call.tool)
        detail = call_detail(call) | {"is_error": True, "outcome": NOT_KNOWN}
        doubt = self._narrator.result(DOUBT.format(name=call.tool.replace("_", " ")))
        await self._emit("tool_finished", speech=doubt, text=UNKNOWN_TEXT, detail=detail)
        return Outcome(call, UNKNOWN_TEXT, is_error=True)

    async def run(self, calls: Sequence[Call]) -> list[tuple[Outcome, ToolResult]]:
        """Run calls that were asked for at once: together where none has an effect, else one after the other."""
        results: dict[int, ToolResult] = {}

        async def one(call: Call) -> None:
            results[call.index] = await self._call(call)

        if all(self._only_reads(call) for call in calls):
            async with anyio.create_task_group() as group:
                for call in calls:
                    group.start_soon(one, call)
        else:
            for call in calls:
                await one(call)
        return [(_outcome(call, results[call.index]), results[call.index]) for call in calls]

    def _only_reads(self, call: Call) -> bool:
        spec = self._specs.get(call.tool)
        return spec is None or spec.side_effect == "none"

    async def _call(self, call: Call) -> ToolResult:
        if call.fault is not None:
            return ToolResult(text=call.fault, is_error=True, retryable=True)
        spec = self._specs.get(call.tool)
        if spec is not None and self._guard.forbids(spec):
            _log.warning("tool %s was not called: a result asked for it, the user did not", spec.name)
            return ToolResult(
                text=f"`{spec.name}` was not called: the user did not ask for that.", is_error=True
            )
        if call.tool in self._in_doubt:
            return ToolResult(text=UNKNOWN_TEXT, is_error=True)
        return await self._begin(call)

    async def _begin(self, call: Call) -> ToolResult:
        """Ask for a call where it needs asking, note that it is begun, and make it."""
        spec = self._specs.get(call.tool)
        if spec is not None and (refusal := await self._approver.refused(call, spec)) is not None:
            return refusal
        filler = self._narrator.wait_with(spec.spoken_filler if spec is not None else None)
        await self._emit("tool_started", speech=filler, detail=call_detail(call))
        return await self._make(call)

    async def _make(self, call: Call) -> ToolResult:
        """Make a call that was noted as begun, and note how it ended."""
        started_s = anyio.current_time()
        result = await self._traced(call)
        duration_s = round(anyio.current_time() - started_s, 4)
        detail = call_detail(call) | {"duration_s": duration_s, "is_error": result.is_error}
        speech: Speech | None = None if result.is_error else self._narrator.result(result.spoken)
        self._guard.has_read(result.text)
        await self._emit("tool_finished", speech=speech, text=result.text, detail=detail)
        return result

    async def _traced(self, call: Call) -> ToolResult:
        spec = self._specs.get(call.tool)
        if spec is None:
            return await self._tools.call(call.tool, call.arguments, self._context(call))
        with tool_span(spec, call.call_id) as span:
            span.arguments(as_json(call.arguments))
            result = await self._tools.call(call.tool, call.arguments, self._context(call))
            span.result(result.text, is_error=result.is_error)
        return result

    def _context(self, call: Call) -> ToolContext:
        return ToolContext(
            package=self._package,
            progress=self._narrator.progress,
            say=self._narrator.say,
            data_dir=self._data_dir,
            idempotency_key=ToolContext.key(self._package.task_id, call.index),
            load=self._control.load,
            ask=self._ask_of(call),
        )

    def _ask_of(self, call: Call) -> Ask:
        """What a call asks its user with; the answer, the user's own words, can be what asks for an effect."""
        asks = self._questions.of(call)

        async def ask(question: str, *, timeout_s: float = 60.0) -> str:
            words = await asks(question, timeout_s=timeout_s)
            self._guard.is_told(words)
            return words

        return ask


def _outcome(call: Call, result: ToolResult) -> Outcome:
    return Outcome(call, result.text, result.is_error, result.retryable)
