"""The calls of a task so far, read from its events: what was finished, and what was begun and may have been done.

A call is noted with the bus before it is made (`tool_started`) and after it (`tool_finished`), so that whoever takes
over from a worker that died knows which calls it can repeat. Where the user is asked first, the question names the call,
too. Knows nothing of how calls are made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from microturn.background_agent.transcript import Call, Outcome
from microturn.protocols import DelegationEvent

NOT_KNOWN = "unknown"
"""Value of `outcome` in the detail of a call of which nobody knows whether it was done."""
UNKNOWN_TEXT = (
    "It is not known whether this was done: the work was interrupted in the middle of it. "
    "Do not do it again. Tell the user so."
)
_NAME_LIMIT_CHARS = 64
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""What a tool can be called; a call of anything else was never made."""
_INDEX_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class Journal:
    """The calls of one task, in the order in which they were begun."""

    finished: tuple[Outcome, ...] = ()
    """Calls whose outcome is known, or was declared to be unknown."""
    unfinished: tuple[Call, ...] = ()
    """Calls that were begun and not finished."""
    awaiting: tuple[Call, ...] = ()
    """Calls that were not begun, of which the user was asked whether they may be made, and which no correction has
    overtaken."""
    in_doubt: frozenset[str] = frozenset()
    """Names of the tools with a call of which nobody knows whether it was done."""
    next_index: int = 0
    """Number of the task's next call; no number is used twice."""

    @classmethod
    def read(cls, emitted: Iterable[DelegationEvent], revision: int = 0) -> Journal:
        """Read a task's events; one whose detail is no call of a tool is passed over.

        `revision` is how often the user has corrected the task.
        """
        asked: dict[int, tuple[Call, int]] = {}
        begun: dict[int, Call] = {}
        finished: dict[int, Outcome] = {}
        in_doubt: set[str] = set()
        for event in emitted:
            call = named_call(event.detail)
            if call is not None and event.is_question and event.detail.get("asks") == "approval":
                asked[call.index] = (call, event.revision)
            if call is None or event.kind not in ("tool_started", "tool_finished"):
                continue
            begun.setdefault(call.index, call)
            if event.kind == "tool_finished":
                finished[call.index] = Outcome(call, event.text, event.detail.get("is_error") is True)
                if event.detail.get("outcome") == NOT_KNOWN:
                    in_doubt.add(call.tool)
        unfinished = tuple(call for index, call in begun.items() if index not in finished)
        known = tuple(finished[index] for index in begun if index in finished)
        awaiting = tuple(call for i, (call, heeds) in asked.items() if i not in begun and heeds >= revision)
        return cls(known, unfinished, awaiting, frozenset(in_doubt), 1 + max([*begun, *asked], default=-1))

    def newest(self, most_reads: int, effects: Sequence[str]) -> tuple[Outcome, ...]:
        """The finished calls, of those without an effect only the newest `most_reads`.

        Args:
            most_reads: so many results are worth their room in a prompt.
            effects: names of the tools that have an effect.
        """
        reads = [outcome.call.index for outcome in self.finished if outcome.call.tool not in effects]
        left_out = set(reads[: max(0, len(reads) - most_reads)])
        return tuple(outcome for outcome in self.finished if outcome.call.index not in left_out)


def call_detail(call: Call) -> dict[str, JsonValue]:
    """The detail by which an event names its call."""
    return {"tool": call.tool[:_NAME_LIMIT_CHARS], "call": call.index, "arguments": call.arguments}


def named_call(detail: dict[str, JsonValue]) -> Call | None:
    """The call that an event names; None where it names none."""
    tool, index, arguments = (detail.get(key) for key in ("tool", "call", "arguments"))
    if not isinstance(tool, str) or not _NAME.fullmatch(tool) or not isinstance(arguments, dict):
        return None
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < _INDEX_LIMIT:
        return None
    return Call(index, tool, arguments)
