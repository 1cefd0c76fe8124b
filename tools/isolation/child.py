"""The program of a child process: binds itself to its limits, imports one tool, and runs calls of it.

It talks over what were its standard input and output; a tool that prints writes to nowhere. The limits are in force
before any of the tool's code is loaded. Nothing that it sends is trusted by the other end.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterator

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from microturn.protocols import MicroturnError, UserError
from microturn.tools._errors import ToolRetry
from microturn.tools.decorator import AnyTool, Tool
from microturn.tools.isolation.child_context import Answers, child_context
from microturn.tools.isolation.forwarder import forward_to
from microturn.tools.isolation.frames import Frame, FrameReader, encode
from microturn.tools.isolation.known_places import KnownPlaces
from microturn.tools.isolation.limits import ResourceLimits, allow_cpu_s
from microturn.tools.isolation.syscalls import die_with_parent, forbid
from microturn.tools.isolation.where import where_raised
from microturn.tools.result import WHOLE_LIMIT_BYTES, to_whole
from microturn.tools.text import cap

_PIECE_BYTES = 65_536


class Link:
    """The two pipes to the parent; `send` may be called from any thread."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._reader = FrameReader()
        self._lock = threading.Lock()

    def send(self, frame: Frame) -> None:
        """Write one message; blocks while the parent does not read."""
        data = memoryview(encode(frame))
        with self._lock:
            while data:
                data = data[os.write(self._outgoing, data) :]

    def frames(self) -> Iterator[Frame]:
        """Read messages until the parent is gone; blocks while there is none."""
        while piece := os.read(self._incoming, _PIECE_BYTES):
            yield from self._reader.feed(piece)


class Server:
    """Runs the calls of one tool, one after the other."""

    def __init__(self, served: AnyTool, link: Link) -> None:
        self._tool = served
        self._link = link
        self._answers = Answers(link.send)
        self._scope: anyio.CancelScope | None = None

    async def serve(self, frames: Iterator[Frame]) -> None:
        """Answer until the process ends, which it does when the parent is gone."""
        put, get = anyio.create_memory_object_stream[Frame](16)
        async with anyio.create_task_group() as group:
            group.start_soon(_pump, frames, put)
            await self._take(get, group)

    async def _take(self, get: MemoryObjectReceiveStream[Frame], group: TaskGroup) -> None:
        async for frame in get:
            if frame["kind"] == "call":
                self._scope = anyio.CancelScope()
                group.start_soon(self._call, frame, self._scope)
            elif frame["kind"] == "cancel" and self._scope is not None:
                self._scope.cancel()
            elif frame["kind"] == "answer":
                self._answers.put(frame)

    async def _call(self, frame: Frame, scope: anyio.CancelScope) -> None:
        allow_cpu_s(frame["cpu_s"])
        end: Frame = {"kind": "cancelled"}
        with scope:
            end = await self._run(frame)
        self._link.send(end)

    async def _run(self, frame: Frame) -> Frame:
        try:
            keywords = self._tool.arguments.validate(frame["arguments"])
            if self._tool.arguments.context_parameter is not None:
                context = child_context(frame["context"], self._answers)
                keywords[self._tool.arguments.context_parameter] = context
            whole = to_whole(await self._tool.function(**keywords))
            return {"kind": "result", "text": cap(whole.text, WHOLE_LIMIT_BYTES).text, "say": whole.spoken}
        except ToolRetry as error:
            return {"kind": "retry", "text": str(error)}
        except MicroturnError as error:
            return {"kind": "failed", "text": str(error)}
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the boundary of the call: told to the parent
            return {"kind": "internal", "text": type(error).__name__, "where": where_raised(error)}


async def _pump(frames: Iterator[Frame], put: MemoryObjectSendStream[Frame]) -> None:
    """Hand messages from the pipe to the event loop; end the process when the parent has closed it."""

    def read() -> None:
        for frame in frames:
            anyio.from_thread.run(put.send, frame)
        os._exit(0)

    await anyio.to_thread.run_sync(read, abandon_on_cancel=True)


def main() -> None:
    """Set up and serve; the first message says what."""
    link = _take_over_pipes()
    frames = link.frames()
    start = next(frames, None)
    if start is None:
        return
    try:
        _bind(start)
        KnownPlaces.install(start["places"])
        served = _load(start["module"], start["name"])
    except BaseException as error:
        link.send({"kind": "broken", "text": f"{type(error).__name__}: {error}"})
        raise
    link.send({"kind": "ready"})
    anyio.run(Server(served, link).serve, frames)


def _take_over_pipes() -> Link:
    """Keep the pipes under numbers of our own, and leave nowhere to read from and to write to in their place."""
    incoming, outgoing = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    return Link(incoming, outgoing)


def _bind(start: Frame) -> None:
    """Give up what the tool does not get, for good."""
    die_with_parent()
    limits = ResourceLimits(**start["limits"])
    if start["may_start_processes"]:
        limits.limit_processes()
    if start["egress_socket"] is not None:
        forward_to(start["egress_socket"])
    limits.apply()
    forbid(processes=not start["may_start_processes"], sockets=not start["may_open_sockets"])


def _load(module: str, name: str) -> AnyTool:
    """Import the module and find the tool in it.

    Raises:
        UserError: it is not there, or is no tool.
    """
    found: object = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Tool):
        raise UserError(f"there is no tool `{name}` in `{module}`")
    return found


if __name__ == "__main__":
    main()
