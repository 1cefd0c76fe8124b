"""One child process: starts it, has it run calls one after the other, and ends it.

What it sends is held to the protocol and to limits; a child that does anything else is ended.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Awaitable

import anyio
from anyio.abc import Process, TaskGroup
from pydantic import JsonValue

from microturn.protocols import MicroturnError
from microturn.tools._errors import ToolFailed, ToolRetry
from microturn.tools.context import ToolContext
from microturn.tools.isolation._errors import ChildBrokenError, ChildDiedError
from microturn.tools.isolation.frames import Frame, FrameError, FrameReader, encode
from microturn.tools.isolation.launch import Launch
from microturn.tools.isolation.requests import requested
from microturn.tools.isolation.where import checked_place
from microturn.tools.result import Whole

START_LIMIT_S = 30.0
"""Longest time until the tool is imported; a busy machine may take long for heavy packages. Our choice."""
GRACE_S = 0.1
"""A call that is to stop gets so long to end by itself, which keeps its process warm. Our choice."""
_CPU_SHARE = 2.0
"""A call may use so many times its time limit of processor time, in threads."""
_REPORTS_LIMIT = 1000
"""Reports of one call; a flood of them would fill the bus. Our choice."""

_log = logging.getLogger(__name__)


class Child:
    """A child process that has imported its tool."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._reader = FrameReader()
        self._frames: list[Frame] = []
        self._lock = anyio.Lock()
        self.calls = 0
        """How many calls it has been given."""
        self.is_usable = True
        """Whether it can take another call."""

    @classmethod
    async def start(cls, launch: Launch) -> Child:
        """Start it and wait until it has imported the tool.

        Raises:
            ChildBrokenError: it cannot be started, or the tool not be imported there, within `START_LIMIT_S`.
        """
        try:
            with anyio.CancelScope(
                shield=True
            ):  # a start that is broken off in the middle leaves the process behind
                process = await anyio.open_process(
                    launch.line, stderr=subprocess.DEVNULL, env=launch.environment, start_new_session=True
                )
        except OSError as error:
            raise ChildBrokenError(f"its process cannot be started ({type(error).__name__})") from None
        child = cls(process)
        try:
            with anyio.fail_after(START_LIMIT_S):
                await child._send(launch.first_message)
                answer = await child._receive()
            if answer.get("kind") != "ready":
                raise ChildBrokenError(
                    f"it cannot be loaded in a process of its own: {str(answer.get('text'))[:300]}"
                )
        except TimeoutError:
            await child.end()
            raise ChildBrokenError(f"it was not loaded within {START_LIMIT_S:g} seconds") from None
        except ChildDiedError:
            await child.end()
            raise ChildBrokenError("its process ended before the tool was loaded") from None
        except BaseException:
            await child.end()
            raise
        return child

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self._process.returncode is None

    async def call(self, arguments: dict[str, JsonValue], context: ToolContext, timeout_s: float) -> Whole:
        """Run one call and give what the tool returned.

        Raises:
            TimeoutError: it took longer than `timeout_s`; the call was stopped.
            ToolRetry, ToolFailed: the tool said so.
            ChildDiedError: the process ended, or did not keep to the protocol.
        """
        self.calls += 1
        request: Frame = {
            "kind": "call",
            "arguments": arguments,
            "cpu_s": _CPU_SHARE * timeout_s,
            "context": {
                "package": context.package.model_dump(mode="json"),
                "data_dir": str(context.data_dir),
                "idempotency_key": context.idempotency_key,
            },
        }
        self.is_usable = False
        try:
            with anyio.fail_after(timeout_s) as limit:
                await self._send(request)
                end = await self._serve(context.cleaned(limit))
        except FrameError as error:
            raise ChildDiedError(f"its process broke the protocol: {error}") from None
        except BaseException:  # whatever stopped the call, the tool is told; the exception goes on
            await self._stop()
            raise
        self.is_usable = end.get("text") != "MemoryError"
        return _returned(end)

    def kill(self) -> None:
        """Kill the process and all that it started; `end` has to follow."""
        self.is_usable = False
        with contextlib.suppress(
            ProcessLookupError, PermissionError
        ):  # also where only what it started is left
            os.killpg(self._process.pid, signal.SIGKILL)

    async def end(self) -> None:
        """Kill the process and all that it started, and wait until it is gone."""
        self.kill()
        with anyio.CancelScope(shield=True):
            await self._process.aclose()

    async def _stop(self) -> None:
        """Ask the tool to end; a process that does not answer at once is of no more use."""
        with anyio.move_on_after(GRACE_S, shield=True), contextlib.suppress(ChildDiedError, FrameError):
            await self._send({"kind": "cancel"})
            while not _is_end(await self._receive()):
                pass
            self.is_usable = True

    async def _serve(self, context: ToolContext) -> Frame:
        """Do what the tool asks for until its call ends; what it has asked for and not got by then is let go."""
        failure: MicroturnError | None = None
        frame: Frame = {}
        async with anyio.create_task_group() as group:
            try:
                frame = await self._until_end(group, context)
            except MicroturnError as error:  # carried out by hand: the group would wrap it
                failure = error
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return frame

    async def _until_end(self, group: TaskGroup, context: ToolContext) -> Frame:
        reports = 0
        while not _is_end(frame := await self._receive()):
            reports += 1
            if reports > _REPORTS_LIMIT:
                raise FrameError(f"the tool reported more than {_REPORTS_LIMIT} times in one call")
            doing = requested(frame, context)
            if "number" in frame:
                group.start_soon(self._answer, frame["number"], doing)
            else:
                await doing
        return frame

    async def _answer(self, number: JsonValue, doing: Awaitable[JsonValue]) -> None:
        answer: Frame = {"kind": "answer", "number": number, "value": None, "error": None}
        try:
            answer["value"] = await doing
        except MicroturnError as error:
            answer["error"] = str(error)
        with contextlib.suppress(ChildDiedError):
            await self._send(answer)

    async def _send(self, frame: Frame) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            async with self._lock:
                await stdin.send(encode(frame))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise ChildDiedError("its process ended") from None

    async def _receive(self) -> Frame:
        stdout = self._process.stdout
        assert stdout is not None
        while not self._frames:
            try:
                self._frames.extend(self._reader.feed(await stdout.receive()))
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                raise ChildDiedError("its process ended") from None
        return self._frames.pop(0)


def _is_end(frame: Frame) -> bool:
    return frame.get("kind") in ("result", "retry", "failed", "internal", "cancelled")


def _returned(end: Frame) -> Whole:
    kind, text, say = end.get("kind"), end.get("text"), end.get("say")
    if not isinstance(text, str) or not isinstance(say, str | None):
        raise ChildDiedError("its process broke the protocol: the end of a call has no text")
    if kind == "retry":
        raise ToolRetry(text)
    if kind == "failed":
        raise ToolFailed(text)
    if kind == "internal":
        name = text if text.isidentifier() and len(text) < 100 else "an error"
        place = checked_place(end.get("where"))
        _log.error("a tool in a process of its own raised %s at %s", name, place)
        raise ToolFailed(f"it failed with an internal error ({name})")
    return Whole(text, say)
