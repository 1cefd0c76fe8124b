"""The context of a tool that runs in a child process: what it reports and asks for goes over the pipe."""

from __future__ import annotations

import base64
from collections.abc import Callable
from itertools import count
from pathlib import Path

import anyio

from microturn.protocols import ContextPackage, Reference, Speech
from microturn.tools._errors import ToolFailed
from microturn.tools.context import ToolContext
from microturn.tools.isolation.frames import Frame


class Answers:
    """Sends what a tool wants of the parent, and waits for what it asked for."""

    def __init__(self, send: Callable[[Frame], None]) -> None:
        self._send = send
        self._numbers = count()
        self._arrived: dict[int, anyio.Event] = {}
        self._answers: dict[int, Frame] = {}

    def put(self, frame: Frame) -> None:
        """Take in an answer; one that nobody waits for any more is dropped."""
        arrived = self._arrived.get(frame["number"])
        if arrived is not None:
            self._answers[frame["number"]] = frame
            arrived.set()

    def tell(self, frame: Frame) -> None:
        """Send what needs no answer."""
        self._send(frame)

    async def ask(self, frame: Frame) -> str:
        """Send a request and return its answer.

        Raises:
            ToolFailed: the parent could not do it; the text says why.
        """
        number = next(self._numbers)
        self._arrived[number] = anyio.Event()
        try:
            self._send({**frame, "number": number})
            await self._arrived[number].wait()
            answer = self._answers.pop(number)
        finally:
            del self._arrived[number]
        if answer.get("error") is not None:
            raise ToolFailed(answer["error"])
        value: str = answer["value"]
        return value


def child_context(frame: Frame, answers: Answers) -> ToolContext:
    """Make the context of one call from what the parent sent."""

    async def progress(text: str) -> None:
        answers.tell({"kind": "progress", "text": text})

    async def say(speech: Speech) -> None:
        answers.tell({"kind": "say", "speech": speech.model_dump(mode="json")})

    async def load(reference: Reference) -> bytes:
        request = {"kind": "load", "reference": reference.model_dump(mode="json")}
        return base64.b64decode(await answers.ask(request))

    async def ask(question: str, *, timeout_s: float = 60.0) -> str:
        return await answers.ask({"kind": "ask", "question": question, "timeout_s": timeout_s})

    return ToolContext(
        package=ContextPackage.model_validate(frame["package"]),
        progress=progress,
        say=say,
        data_dir=Path(frame["data_dir"]),
        idempotency_key=frame["idempotency_key"],
        load=load,
        ask=ask,
    )
