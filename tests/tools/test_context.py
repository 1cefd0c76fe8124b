"""What a tool may do beyond its arguments: what it reports is cleaned, and the user's time is not its own."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

from microturn.protocols import Speech
from microturn.tools import ToolContext, ToolFailed
from microturn.tools.context import QUESTION_LIMIT_CHARS, Ask, nobody_to_ask
from microturn.tools.testing import make_context

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


class Reports:
    """Takes in what a tool reports, and takes a while to answer."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s
        self.seen: list[str] = []

    async def progress(self, text: str) -> None:
        self.seen.append(text)

    async def say(self, speech: Speech) -> None:
        self.seen.append(speech.text)

    async def ask(self, question: str, *, timeout_s: float = 60.0) -> str:
        self.seen.append(question)
        await anyio.sleep(self.takes_s)
        return "four"


def context(reports: Reports, ask: Ask) -> ToolContext:
    return replace(make_context(), progress=reports.progress, say=reports.say, ask=ask)


async def test_what_is_asked_is_one_clean_short_line() -> None:
    reports = Reports()
    cleaned = context(reports, reports.ask).cleaned()
    assert await cleaned.ask("For\n how\u202e many\x00?" + " x" * 5000) == "four"
    (asked,) = reports.seen
    assert asked.startswith("For how many? x")
    assert len(asked) <= QUESTION_LIMIT_CHARS


async def test_the_time_of_a_call_stands_still_while_the_user_is_asked_and_then_goes_on() -> None:
    reports = Reports(takes_s=0.3)
    with anyio.CancelScope(deadline=anyio.current_time() + 0.2) as limit:
        cleaned = context(reports, reports.ask).cleaned(limit)
        assert await cleaned.ask("For how many?") == "four"
        await anyio.sleep(0.05)
        assert not limit.cancel_called
        await anyio.sleep(1.0)
    assert limit.cancelled_caught


async def test_two_questions_at_once_do_not_lengthen_the_time_of_a_call_twice() -> None:
    reports = Reports(takes_s=0.2)
    began_s = anyio.current_time()
    with anyio.CancelScope(deadline=began_s + 0.3) as limit:
        cleaned = context(reports, reports.ask).cleaned(limit)
        async with anyio.create_task_group() as group:
            group.start_soon(cleaned.ask, "one?")
            group.start_soon(cleaned.ask, "two?")
        await anyio.sleep(5)
    assert limit.cancelled_caught
    assert anyio.current_time() - began_s < 2


async def test_where_nobody_listens_a_question_fails_and_says_so() -> None:
    with pytest.raises(ToolFailed, match="cannot be asked"):
        await context(Reports(), nobody_to_ask).ask("For how many?")
