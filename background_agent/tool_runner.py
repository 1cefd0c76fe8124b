"""Runs the calls that a model asks for, and reports each as events.

A call has a number in its task and keeps it in a repeated attempt, so that a tool with effects can tell the
repetition. What an earlier attempt finished is not called again: its result is read from the events it sent.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import anyio
from pydantic import JsonValue

from microturn.background_agent.effect_guard import EffectGuard
from microturn.background_agent.engine import Emit
from microturn.background_agent.narrator import Narrator
from microturn.background_agent.transcript import Call, Calls, Entry, Outcome
from microturn.protocols import ContextPackage, DelegationEvent, Speech, ToolSpec
from microturn.tools import ToolContext, ToolRegistry, ToolResult

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
    ) -> None:
        self._package = package
        self._tools = tools
        self._specs: dict[str, ToolSpec] = {spec.name: spec for spec in tools.specs()}
        self._emit = emit
        self._narrator = narrator
        self._data_dir = data_dir
        self._guard = guard

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
        filler = self._narrator.wait_with(spec.spoken_filler if spec is not None else None)
        detail: dict[str, JsonValue] = {"tool": call.tool, "call": call.index, "arguments": call.arguments}
        await self._emit("tool_started", speech=filler, detail=detail)
        started_s = anyio.current_time()
        result = await self._tools.call(call.tool, call.arguments, self._context(call))
        detail |= {"duration_s": round(anyio.current_time() - started_s, 4), "is_error": result.is_error}
        speech: Speech | None = None if result.is_error else self._narrator.result(result.spoken)
        self._guard.has_read(result.text)
        await self._emit("tool_finished", speech=speech, text=result.text, detail=detail)
        return result

    def _context(self, call: Call) -> ToolContext:
        return ToolContext(
            package=self._package,
            progress=self._narrator.progress,
            say=self._narrator.say,
            data_dir=self._data_dir,
            idempotency_key=ToolContext.key(self._package.task_id, call.index),
        )


def _outcome(call: Call, result: ToolResult) -> Outcome:
    return Outcome(call, result.text, result.is_error, result.retryable)


def replayed(emitted: Sequence[DelegationEvent]) -> list[Entry]:
    """What earlier attempts called and were answered, as a transcript; a call without an answer is left out."""
    entries: list[Entry] = []
    for event in emitted:
        if event.kind != "tool_finished":
            continue
        tool, index, arguments = (event.detail.get(key) for key in ("tool", "call", "arguments"))
        if isinstance(tool, str) and isinstance(index, int) and isinstance(arguments, dict):
            call = Call(index, tool, arguments)
            entries += [Calls((call,)), Outcome(call, event.text, bool(event.detail.get("is_error")))]
    return entries
