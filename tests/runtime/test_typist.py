"""Typing into a session: from a terminal at once, from elsewhere line by line as a conversation."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TextIO

import pytest

from microturn.protocols import Delegate, Speech
from microturn.runtime.beat import Tick
from microturn.runtime.clock import VirtualClock
from microturn.runtime.events import SpeechBegan, UserSaid
from microturn.runtime.host import Host
from microturn.runtime.ingress import Ingress
from microturn.runtime.session import Session
from microturn.runtime.testing import Answer, Listener, Result, ScriptedBackground, ScriptedModel
from microturn.runtime.typist import Typist

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


class Terminal(io.StringIO):
    """Lines from a person."""

    def isatty(self) -> bool:
        """It is a terminal."""
        return True


async def type_into_a_session(lines: TextIO) -> tuple[Typist, Listener]:
    """Run a session until its typing ends; the model says four words to every line."""
    typist, listener, source = Typist(lines), Listener(), Ingress()
    clock = VirtualClock(lambda: typist.is_awaited)
    host = Host(ScriptedModel(answer=lambda _: Answer("That is so good.")), clock)
    session = Session("s", source, ScriptedBackground(), observers=[typist, listener])
    host.add(session)
    typist.start(session, source)

    def over(tick: Tick) -> bool:
        return (source.ended and session.is_idle) or tick.index > 200

    await host.run(over)
    assert source.ended
    return typist, listener


async def test_a_line_from_a_pipe_waits_until_the_one_before_is_answered() -> None:
    _, listener = await type_into_a_session(io.StringIO("one\n\n  two  \nthree"))
    said = [event.transcript for event in listener.seen(UserSaid)]
    assert [each.text for each in said] == ["one", "two", "three"]
    begun_ms = [event.at_ms for event in listener.seen(SpeechBegan)]
    assert all(said[n + 1].start_ms >= begun_ms[n] + 4 * 300 for n in range(2))
    assert len(listener.heard) == 3


async def test_a_line_from_a_pipe_is_typed_when_a_question_waits_for_it() -> None:
    typist, source = Typist(io.StringIO("send it?\nyes")), Ingress()
    question = Speech(text="Shall I send this to Bob?", kind="question")
    asked = Result(500, "partial", question, detail={"asks": "approval", "answer_within_s": 30.0})

    def answer(text: str) -> Answer:
        return Answer("One moment.", (Delegate(text, 0, 0),)) if text.endswith("?") else Answer()

    clock = VirtualClock(lambda: typist.is_awaited)
    host, listener = Host(ScriptedModel(answer=answer), clock), Listener()
    background = ScriptedBackground(lambda _: [asked], host.beat.session_ms)
    session = Session("s", source, background, observers=[typist, listener])
    host.add(session)
    typist.start(session, source)
    await host.run(lambda tick: source.ended or tick.index > 200)
    _, yes = (event.transcript for event in listener.seen(UserSaid))
    _, began = listener.seen(SpeechBegan)
    assert began.at_ms + 6 * 300 <= yes.start_ms <= began.at_ms + 6 * 300 + 1600


async def test_a_person_at_a_terminal_need_not_wait() -> None:
    _, listener = await type_into_a_session(Terminal("one\ntwo\n"))
    first, second = (event.transcript.start_ms for event in listener.seen(UserSaid))
    assert second - first <= 400


async def test_the_end_of_the_lines_ends_the_source_even_without_a_line() -> None:
    _, listener = await type_into_a_session(io.StringIO(""))
    assert listener.seen(UserSaid) == []


async def test_lines_that_are_no_text_end_the_typing_with_a_sentence(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"hello\n\xff\xfe\n")
    with garbage.open(encoding="utf-8", buffering=1) as lines:
        typist, _ = await type_into_a_session(lines)
    assert typist.problem == "The typed lines could not be read any further (UnicodeDecodeError)."
