"""Asks the user before a tool is called whose author wants that, and judges the answer.

Only plain words of the user's let a call through. Knows nothing of how calls are made.
"""

from __future__ import annotations

from typing import Final

from pydantic import JsonValue

from microturn.background_agent.approval import (
    CORRECTED,
    DECLINED,
    ONCE_MORE,
    UNANSWERED,
    approval_question,
    may_be_echo,
)
from microturn.background_agent.engine import Control, Emit
from microturn.background_agent.journal import call_detail
from microturn.background_agent.questions import Questions
from microturn.background_agent.transcript import Call
from microturn.background_agent.yes_no import judge
from microturn.protocols import ToolSpec
from microturn.tools import ToolError, ToolRegistry, ToolResult

APPROVAL_TIMEOUT_S = 60.0
"""How long the user may take to approve a call. Our choice."""
_NOT_APPROVED: Final[dict[str, JsonValue]] = {"is_error": True, "outcome": "declined"}
"""Detail of the end of a call that was never begun."""


class Approver:
    """Lets the calls of one run through, or not."""

    def __init__(self, tools: ToolRegistry, questions: Questions, emit: Emit, control: Control) -> None:
        self._tools = tools
        self._questions = questions
        self._emit = emit
        self._control = control

    async def refused(self, call: Call, spec: ToolSpec) -> ToolResult | None:
        """Ask for a call where its tool wants that; None where it may be made, else what it gives instead.

        Nobody is asked for a call that cannot be made.
        """
        if spec.approval is None:
            return None
        try:
            self._tools.get(call.tool).arguments.validate(call.arguments)
        except ToolError as error:
            return ToolResult(text=str(error), is_error=True, retryable=True)
        refusal = await self._refusal(call, spec)
        if refusal is None:
            return None
        text = refusal.format(name=spec.name)
        await self._emit("tool_finished", text=text, detail=call_detail(call) | _NOT_APPROVED)
        return ToolResult(text=text, is_error=True)

    async def _refusal(self, call: Call, spec: ToolSpec) -> str | None:
        """Why a call may not be made, or None where it may.

        An unclear answer is asked about once more, and then counts as a no, as does none.
        """
        question = approval_question(spec, call.arguments)
        for number, text in enumerate((question, f"{ONCE_MORE} {question}")):
            words = await self._questions.ask(text, "approval", call, number, APPROVAL_TIMEOUT_S)
            if self._control.has_news:
                return CORRECTED
            if not words:
                return UNANSWERED
            verdict = judge(words)
            if verdict == "yes" and may_be_echo(words, spec, call.arguments):
                verdict = "unclear"
            if verdict != "unclear":
                return None if verdict == "yes" else DECLINED
        return DECLINED
