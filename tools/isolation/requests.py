"""What a tool in a child process may ask of this one in the middle of a call: its context, over the pipe."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from pydantic import JsonValue, ValidationError

from microturn.protocols import Reference, Speech
from microturn.tools._errors import ToolFailed
from microturn.tools.context import ToolContext
from microturn.tools.isolation.frames import Frame, FrameError

_Request: TypeAlias = Callable[[Frame, ToolContext], Awaitable[JsonValue]]

_LONGEST_WAIT_S = 600.0


def requested(frame: Frame, context: ToolContext) -> Awaitable[JsonValue]:
    """Read a request and give what is to be awaited to do it.

    Raises:
        FrameError: it is nothing that a tool can ask for.
    """
    try:
        return _REQUESTS[frame["kind"]](frame, context)
    except (KeyError, TypeError, ValueError, ValidationError):
        raise FrameError("the tool asked for something that there is not") from None


def _progress(frame: Frame, context: ToolContext) -> Awaitable[JsonValue]:
    return context.progress(str(frame["text"]))


def _say(frame: Frame, context: ToolContext) -> Awaitable[JsonValue]:
    speech = Speech.model_validate(frame["speech"])
    return context.say(speech.model_copy(update={"kind": "fact"}))  # questions go another way, by `ask`


def _ask(frame: Frame, context: ToolContext) -> Awaitable[JsonValue]:
    timeout_s = min(max(float(frame["timeout_s"]), 0.0), _LONGEST_WAIT_S)
    return context.ask(str(frame["question"]), timeout_s=timeout_s)


def _load(frame: Frame, context: ToolContext) -> Awaitable[JsonValue]:
    reference = Reference.model_validate(frame["reference"])

    async def load() -> str:
        if reference not in context.package.key_frames:
            raise ToolFailed("the tool asked for something that the user has not shown in this task")
        return base64.b64encode(await context.load(reference)).decode()

    return load()


_REQUESTS: dict[str, _Request] = {"progress": _progress, "say": _say, "ask": _ask, "load": _load}
