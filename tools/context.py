"""What a running tool may know and do beyond its arguments.

Knows nothing of how progress or speech travels: whoever calls the registry hands in two functions.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeAlias

import anyio

from microturn.protocols import ContextPackage, Reference, Speech
from microturn.tools._errors import ReferenceGoneError, ToolFailed
from microturn.tools.text import clean, one_line

PROGRESS_LIMIT_CHARS = 500
SPEECH_LIMIT_CHARS = 1000
QUESTION_LIMIT_CHARS = 500
STANDALONE_DEADLINE_S = 3600.0
"""For a call outside a conversation, where nobody waits for words."""

Load: TypeAlias = Callable[[Reference], Awaitable[bytes]]
"""Loads what a reference of the package stands for.

Raises:
    ReferenceGoneError: it is not there any more.
    ReferenceAlteredError: what is there is not what was kept.
"""


async def nothing_kept(reference: Reference) -> bytes:
    """Load nothing: where there is no place in which anything is kept."""
    raise ReferenceGoneError(reference)


class Ask(Protocol):
    """Puts a question to the user."""

    async def __call__(self, question: str, *, timeout_s: float = 60.0) -> str:
        """Ask by voice, at the next natural pause, and return the user's own words.

        Args:
            question: one sentence, as it is to be said.
            timeout_s: how long the answer may take, in seconds from now, the saying of the question included.

        Raises:
            ToolFailed: nobody has answered in time, or the user will not answer.
        """


async def nobody_to_ask(question: str, *, timeout_s: float = 60.0) -> str:
    """Ask nobody: where no user listens."""
    raise ToolFailed("the user cannot be asked from here; go on with what is known")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """Handed to a tool that has a parameter of this type. One call owns it."""

    package: ContextPackage
    """The task on whose behalf the tool runs."""
    progress: Callable[[str], Awaitable[None]]
    """Reports how far the work has come. The words may be woven into the live speech, so make them sentences."""
    say: Callable[[Speech], Awaitable[None]]
    """Schedules words. `Speech.not_before_ms` is session time; count it from `package.said_end_ms`."""
    data_dir: Path
    """A folder of this user's that outlives the process. It may not exist yet."""
    idempotency_key: str
    """The task's id and the number of the call in it: a repeated attempt brings the same key again."""
    load: Load = nothing_kept
    """Loads what the user has shown, one of `package.key_frames`: its bytes, at most 1 MiB. An error that the tool does
    not handle is told to the model."""
    ask: Ask = nobody_to_ask
    """Asks the user something that only they know, and waits for the answer. What comes back is the user's words, to be
    checked like any other input."""

    @staticmethod
    def key(task_id: str, call_index: int) -> str:
        """Make the idempotency key of a task's call, the calls being counted from 0."""
        return f"{task_id}/{call_index}"

    def cleaned(self, limit: anyio.CancelScope | None = None) -> ToolContext:
        """Return this context with control characters taken out of, and a limit put on, all that is reported.

        Args:
            limit: the scope that ends the call when its time is up. While the user is asked its time stands still.
        """

        async def progress(text: str) -> None:
            await self.progress(clean(text[: 2 * PROGRESS_LIMIT_CHARS])[:PROGRESS_LIMIT_CHARS])

        async def say(speech: Speech) -> None:
            await self.say(speech.model_copy(update={"text": one_line(speech.text, SPEECH_LIMIT_CHARS)}))

        clock = _Standstill(limit)

        async def ask(question: str, *, timeout_s: float = 60.0) -> str:
            with clock.stopped():
                return await self.ask(one_line(question, QUESTION_LIMIT_CHARS), timeout_s=timeout_s)

        return replace(self, progress=progress, say=say, ask=ask)


def standalone_package(origin: str, intent: str) -> ContextPackage:
    """Make the task for one call outside a conversation, asked for now.

    Args:
        origin: Where the call comes from, in one word; it stands for the session.
        intent: What it is, in place of what a user wants.
    """
    task_id = f"{origin}-{uuid.uuid4()}"
    return ContextPackage(
        task_id=task_id,
        session_id=origin,
        idempotency_key=task_id,
        intent=intent,
        said_start_ms=0,
        said_end_ms=0,
        local_time=datetime.now().astimezone().isoformat(timespec="seconds"),
        deadline_s=STANDALONE_DEADLINE_S,
    )


class _Standstill:
    """Stops the time of a scope while at least one question waits for its answer."""

    def __init__(self, limit: anyio.CancelScope | None) -> None:
        self._limit = limit or anyio.CancelScope()
        self._open = 0
        self._left_s = math.inf

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop it for as long as the block."""
        if not self._open:
            self._left_s = self._limit.deadline - anyio.current_time()
            self._limit.deadline = math.inf
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self._limit.deadline = anyio.current_time() + self._left_s
