"""Reflexes: requests that fit a tool's phrase are answered by the tool alone, before any model has read them.

Everything else, and every call that goes wrong, is left to the engine behind. Source of the idea: template matching
in home voice assistants; a phrase fits the whole request or not at all, so that nothing is understood by half.
"""

from __future__ import annotations

from pathlib import Path

import anyio
import platformdirs
from pydantic import JsonValue

from microturn.background_agent.engine import AgentEngine, Control, Emit
from microturn.background_agent.speech_text import to_speech
from microturn.protocols import ContextPackage, Speech
from microturn.tools import Match, ToolContext, ToolRegistry, ToolResult

MOST_TRIES = 3
"""Calls that are tried before the request is left to the engine behind."""


class ReflexEngine:
    """An `AgentEngine` in front of another."""

    def __init__(self, behind: AgentEngine, *, data_dir: Path | None = None) -> None:
        self._behind = behind
        self._data_dir = data_dir or Path(platformdirs.user_data_dir("microturn"))

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        """Answer by reflex where a phrase fits, else let the engine behind do the task.

        Raises:
            UnavailableError: what the engine behind raises.
        """
        fresh = control.attempt == 1 and not control.emitted and not control.updates
        for match in tools.matches(package.intent)[:MOST_TRIES] if fresh else ():
            if await self._answer(match, package, tools, emit):
                return
        await self._behind.run(package, tools, emit, control)

    async def _answer(self, match: Match, package: ContextPackage, tools: ToolRegistry, emit: Emit) -> bool:
        """Make the call; say its result and end the task, unless it went wrong."""
        scheduled: list[Speech] = []

        async def note(speech: Speech) -> None:
            scheduled.append(speech)

        context = ToolContext(
            package=package,
            progress=_ignore,
            say=note,
            data_dir=self._data_dir,
            idempotency_key=ToolContext.key(package.task_id, 0),
        )
        started_s = anyio.current_time()
        result = await tools.call(match.tool, match.arguments, context)
        if result.is_error:
            return False
        for speech in scheduled:
            await emit("partial", speech=speech, text=speech.text)
        detail: dict[str, JsonValue] = {
            "tool": match.tool,
            "call": 0,
            "arguments": match.arguments,
            "duration_s": round(anyio.current_time() - started_s, 4),
        }
        await emit("tool_finished", text=result.text, detail=detail)
        await emit(
            "final", speech=Speech(text=_spoken(result)), text=result.text, detail={"engine": "reflex"}
        )
        return True


def _spoken(result: ToolResult) -> str:
    return result.spoken or to_speech(result.text)


async def _ignore(_: str) -> None:
    """Progress of a call that takes milliseconds is worth no words."""
