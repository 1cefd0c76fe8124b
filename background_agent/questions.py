"""Puts a task's questions to its user, each once, whatever dies on the way.

A question is an event of the task, named by its number, and its answer is kept with the task. So an attempt that takes
over finds both: it waits for the answer to what was asked, and does not ask again. Knows nothing of how an answer is
judged.
"""

from __future__ import annotations

import itertools
from typing import Literal, TypeAlias

from pydantic import JsonValue

from microturn.background_agent.engine import Control, Emit
from microturn.background_agent.journal import call_detail, named_call
from microturn.background_agent.speech_text import to_speech
from microturn.background_agent.transcript import Call
from microturn.background_agent.work_clock import WorkClock
from microturn.protocols import DelegationEvent, Speech
from microturn.tools import Ask, ToolFailed

PRIORITY = 2
"""A question is said before the facts of other tasks: somebody waits for its answer. Our choice."""
GRACE_S = 1.0
"""How much longer an answer is waited for than the user is given, for its way here. Our choice."""
NO_ANSWER = "the user was asked and gave no answer; go on without it"
NOT_SAYABLE = "the question has nothing in it that can be said; ask in plain words"
NOT_ANSWERED = "the user was asked and does not want to answer; go on without it"

Purpose: TypeAlias = Literal["approval", "tool"]
"""What a question is for: whether a call may be made; something that a running tool has to know."""


class Questions:
    """The questions of one run."""

    def __init__(self, emit: Emit, control: Control, clock: WorkClock) -> None:
        """`clock` is stopped while an answer is waited for."""
        self._emit = emit
        self._control = control
        self._clock = clock

    async def ask(self, text: str, purpose: Purpose, call: Call, number: int, timeout_s: float) -> str | None:
        """Ask, unless that was done before, and wait for the answer.

        Args:
            text: the question as it is to be said.
            purpose: what it is for.
            call: the call of a tool that it is about.
            number: counts the questions of one purpose about one call, from 0.
            timeout_s: how long the answer may take, in seconds.

        Returns:
            The user's words; empty where the user will not answer, None where nobody has answered or the user has
            corrected the task instead.
        """
        asked = self._asked(text, purpose, call, number)
        if asked is None:
            detail: dict[str, JsonValue] = {"asks": purpose, "number": number, "answer_within_s": timeout_s}
            speech = Speech(text=text, priority=PRIORITY, kind="question")
            await self._emit("partial", speech=speech, text=text, detail=detail | call_detail(call))
            asked = self._asked(text, purpose, call, number)
        if asked is None:  # it could not be sent; the run is about to be broken off
            return None
        with self._clock.stopped():
            return await self._control.answer(asked.seq, timeout_s + GRACE_S)

    def of(self, call: Call) -> Ask:
        """What a running call asks its user with.

        Its questions have numbers, so that a call that is repeated gets the answers that were given before.
        """
        numbers = itertools.count()

        async def ask(question: str, *, timeout_s: float = 60.0) -> str:
            spoken = to_speech(question)
            if not spoken:
                raise ToolFailed(NOT_SAYABLE)
            words = await self.ask(spoken, "tool", call, next(numbers), timeout_s)
            if not words:
                raise ToolFailed(NO_ANSWER if words is None else NOT_ANSWERED)
            return words

        return ask

    def were_asked_by(self, call: Call) -> bool:
        """Whether the call, when it ran, has put a question to the user."""
        return any(
            event.is_question and asks_for(event) == "tool" and named_call(event.detail) == call
            for event in self._control.emitted
        )

    def _asked(self, text: str, purpose: Purpose, call: Call, number: int) -> DelegationEvent | None:
        """The newest event that asks this and still counts."""
        control = self._control
        for event in reversed(control.emitted):
            if not (
                event.is_question and asks_for(event) == purpose and event.detail.get("number") == number
            ):
                continue
            is_current = event.revision == control.revision
            if not is_current and (purpose == "approval" or event.seq not in control.answers):
                continue  # What was approved before a correction is not approved after it.
            if named_call(event.detail) == Call(call.index, call.tool, call.arguments) and event.text == text:
                return event
        return None


def asks_for(event: DelegationEvent) -> str | None:
    """What a question is for; None where the event does not say."""
    purpose = event.detail.get("asks")
    return purpose if isinstance(purpose, str) else None
