"""What the tools of a session have said, for the tasks that come after: "and tomorrow?" means the weather in Bergen.

Read from the events of earlier tasks. Knows nothing of how tools are called, and leaves it to the tasks to say whose
results still count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue
from pydantic_core import to_json

from microturn.background_agent.journal import Journal
from microturn.protocols import DelegationEvent
from microturn.runtime.delegation import Delegation
from microturn.tools import clean

KEPT_RESULTS = 64
"""Results that are remembered, the newest of all tools together. Our choice."""
TOLD_TOOLS = 8
"""Tools whose newest result goes with a task. Our choice."""
RESULT_CHARS = 500
"""Longest text of a result; what goes on is cut off. Our choice."""
ARGUMENTS_CHARS = 300
"""Arguments that are longer as JSON are left out, also because they could be nested deeper than a package may be. Our
choice."""


@dataclass(frozen=True, slots=True)
class _Result:
    task_id: str
    revision: int
    tool: str
    told: dict[str, JsonValue]


class ToolMemory:
    """The newest results of one session's tools. Owned by the beat."""

    def __init__(self) -> None:
        self._results: deque[_Result] = deque(maxlen=KEPT_RESULTS)

    def note(self, event: DelegationEvent, now_ms: float | None) -> None:
        """Keep what a tool has returned; an error and an event that names no call are passed over.

        Args:
            event: any event of a task of this session.
            now_ms: session time at which it came; None where that is not known.
        """
        if event.kind != "tool_finished":
            return
        for outcome in Journal.read([event]).finished:
            if not outcome.is_error:
                told = _told(outcome.text, outcome.call.arguments, now_ms)
                self._results.append(_Result(event.task_id, event.revision, outcome.call.tool, told))

    def state(self, tasks: Mapping[str, Delegation]) -> dict[str, JsonValue]:
        """What each tool said last, by the name of the tool, the newest last: `ContextPackage.tool_state`.

        A result of a task that is not wanted any more, or of one that has been corrected since, does not count.
        """
        newest: dict[str, JsonValue] = {}
        for result in reversed(self._results):
            task = tasks[result.task_id]
            if len(newest) < TOLD_TOOLS and not task.unwanted and result.revision >= task.revision:
                newest.setdefault(result.tool, result.told)
        return dict(reversed(newest.items()))


def _told(text: str, arguments: dict[str, JsonValue], now_ms: float | None) -> dict[str, JsonValue]:
    told: dict[str, JsonValue] = {}
    if arguments and _is_short(arguments):
        told["arguments"] = arguments
    told["result"] = clean(text[: 2 * RESULT_CHARS])[:RESULT_CHARS]
    if now_ms is not None:
        told["time_ms"] = round(now_ms)
    return told


def _is_short(arguments: dict[str, JsonValue]) -> bool:
    try:
        return len(to_json(arguments)) <= ARGUMENTS_CHARS
    except ValueError:  # nested deeper than JSON is written
        return False
