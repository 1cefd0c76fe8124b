"""Reflexes: requests that fit a tool's phrase are answered by the tool alone, before any model has read them.

Everything else, and every call that goes wrong, is left to the engine behind. Source of the idea: template matching
in home voice assistants; a phrase fits the whole request or not at all, so that nothing is understood by half.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import anyio
import platformdirs
from pydantic import JsonValue

from microturn.background_agent.approver import Approver
from microturn.background_agent.engine import AgentEngine, Control, Emit
from microturn.background_agent.journal import call_detail
from microturn.background_agent.narrator import SCHEDULED
from microturn.background_agent.questions import Questions
from microturn.background_agent.speech_text import to_speech
from microturn.background_agent.transcript import Call
from microturn.background_agent.work_clock import WorkClock
from microturn.protocols import ContextPackage, Speech
from microturn.tools import ToolContext, ToolRegistry, ToolResult

MOST_TRIES = 3
"""Calls that are tried before the request is left to the engine behind."""
MOST_CHARS = 300
"""Longest request that is compared with phrases; whoever says more asks for more than one thing. Our choice."""

NOT_DONE: Final = "All right, I haven't done it."
"""Said of a call that the user did not approve of."""
_BY_REFLEX: Final[dict[str, JsonValue]] = {"engine": "reflex"}


class ReflexEngine:
    """An `AgentEngine` in front of another."""

    def __init__(self, behind: AgentEngine, *, data_dir: Path | None = None) -> None:
        self._behind = behind
        self._data_dir = data_dir or Path(platformdirs.user_data_dir("microturn"))

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        """Answer by reflex where a phrase fits, else let the engine behind do the task.

        A task for which anything was sent before is not fresh: the engine behind knows how to take it up.

        Raises:
            UnavailableError: what the engine behind raises.
        """
        fresh = not control.emitted and not control.updates and len(package.intent) <= MOST_CHARS
        matches = tools.matches(package.intent)[:MOST_TRIES] if fresh else []
        for number, match in enumerate(matches):
            reflex = _Reflex(Call(number, match.tool, match.arguments), package, tools, emit, control)
            if not control.has_news and await reflex.answer(self._data_dir):
                return
            if reflex.was_refused:
                break
        await self._behind.run(package, tools, emit, control)


class _Reflex:
    """One call that answers a request."""

    def __init__(
        self, call: Call, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control
    ) -> None:
        self._call = call
        self._package = package
        self._tools = tools
        self._emit = emit
        self._control = control
        self._questions = Questions(emit, control, WorkClock())
        self._spec = tools.get(call.tool).spec
        self._has_effect = self._spec.side_effect != "none"
        self._scheduled: list[Speech] = []
        self.was_refused = False
        """Whether it cannot be made as it was asked for; then no other reading of the request is tried."""

    async def answer(self, data_dir: Path) -> bool:
        """Make the call, say what came of it, and end the task, unless it went wrong or the user wants something else."""
        approver = Approver(self._tools, self._questions, self._emit, self._control)
        refusal = await approver.refused(self._call, self._spec)
        if refusal is not None:
            self.was_refused = refusal.retryable or self._control.has_news
            if not self.was_refused:
                await self._emit("final", speech=Speech(text=NOT_DONE), text=NOT_DONE, detail=_BY_REFLEX)
            return not self.was_refused
        detail = call_detail(self._call)
        if self._has_effect:
            # Noted before it is made, so that whoever takes over from here does not make it a second time.
            await self._emit("tool_started", detail=detail)
        started_s = anyio.current_time()
        result = await self._tools.call(self._call.tool, self._call.arguments, self._context(data_dir))
        detail |= {"duration_s": round(anyio.current_time() - started_s, 4), "is_error": result.is_error}
        if result.is_error:
            if self._has_effect:
                await self._emit("tool_finished", text=result.text, detail=detail)
            return False
        for speech in self._scheduled:
            await self._emit("partial", speech=speech, text=speech.text, detail=SCHEDULED)
        await self._emit("tool_finished", text=result.text, detail=detail)
        await self._emit("final", speech=Speech(text=_spoken(result)), text=result.text, detail=_BY_REFLEX)
        return True

    def _context(self, data_dir: Path) -> ToolContext:
        return ToolContext(
            package=self._package,
            progress=_ignore,
            say=self._schedule,
            data_dir=data_dir,
            idempotency_key=ToolContext.key(self._package.task_id, self._call.index),
            load=self._control.load,
            ask=self._questions.of(self._call),
        )

    async def _schedule(self, speech: Speech) -> None:
        self._scheduled.append(speech)


def _spoken(result: ToolResult) -> str:
    return result.spoken or to_speech(result.text)


async def _ignore(_: str) -> None:
    """Progress of a call that takes milliseconds is worth no words."""
