"""Starts an MCP server as a process and exchanges messages with it, one JSON text to a line.

The SDK has such a transport too. This one takes lines of a limited length only, so that a server cannot fill the
memory, keeps the last lines of what the server complains of, and tells when it has gone.

Source: Model Context Protocol, revision 2025-11-25, transports and lifecycle: the framing and the order of shutdown.
The limits and waits are our choice.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from subprocess import PIPE

import anyio
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from microturn.tools.mcp.config import StdioServer
from microturn.tools.mcp.lost import Lost, describe
from microturn.tools.mcp.sdk import SessionMessage, get_default_environment, types

MESSAGE_LIMIT_BYTES = 8 * 1024 * 1024
"""Longest message that is taken. A result that is kept aside whole is at most half of it."""
EXIT_WAIT_S = 1.0
"""Wait for the process to end by itself after its input was closed, and again after SIGTERM."""
COMPLAINT_LIMIT_BYTES = 2048

Received = MemoryObjectReceiveStream[SessionMessage | Exception]
Sent = MemoryObjectSendStream[SessionMessage]


@asynccontextmanager
async def open_stdio(server: StdioServer, lost: Lost) -> AsyncIterator[tuple[Received, Sent]]:
    """Start the server; yield the streams of its messages. At the end the process and all that it started are gone.

    Raises:
        OSError: it cannot be started.
    """
    process = await anyio.open_process(
        [server.command, *server.args],
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=get_default_environment() | server.env,
        cwd=server.cwd,
        start_new_session=True,
    )
    receiving, received = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    sent, sending = anyio.create_memory_object_stream[SessionMessage](0)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_receive, process, receiving, lost)
            tasks.start_soon(_send, process, sending)
            tasks.start_soon(_keep_complaints, process, lost)
            try:
                yield received, sent
            except Exception as error:
                lost.tell(describe(error))
                raise
            finally:
                with anyio.CancelScope(shield=True):
                    await _end(process)
                tasks.cancel_scope.cancel()
    finally:
        for stream in (receiving, received, sent, sending):
            stream.close()
        with anyio.CancelScope(shield=True):
            await process.aclose()


async def _receive(
    process: Process, messages: MemoryObjectSendStream[SessionMessage | Exception], lost: Lost
) -> None:
    """Hand on what the server writes, until it closes its output or writes a line that is too long."""
    assert process.stdout is not None
    async with messages:
        try:
            async for line in _lines(process.stdout):
                with suppress(ValueError):  # some servers print; what is no message is passed over
                    message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
                    await messages.send(SessionMessage(message))
            lost.tell("it closed its output")
        except _TooLongError:
            lost.tell(f"it sent a message of more than {MESSAGE_LIMIT_BYTES:,} bytes", is_servers_fault=True)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            lost.tell("the connection was closed")


async def _send(process: Process, messages: MemoryObjectReceiveStream[SessionMessage]) -> None:
    assert process.stdin is not None
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        async for each in messages:
            text = each.message.model_dump_json(by_alias=True, exclude_unset=True)
            await process.stdin.send(text.encode() + b"\n")


async def _keep_complaints(process: Process, lost: Lost) -> None:
    """Keep the end of what the server writes to its error output, for the case that it does not start."""
    assert process.stderr is not None
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        while True:
            chunk = await process.stderr.receive()
            lost.complaints = (lost.complaints + chunk)[-COMPLAINT_LIMIT_BYTES:]


class _TooLongError(Exception):
    """A line goes on beyond the limit."""


async def _lines(stream: ByteReceiveStream) -> AsyncIterator[bytes]:
    """Yield lines as they come; each byte is looked at once.

    Raises:
        _TooLongError: a line is longer than a message may be.
    """
    begun = bytearray()
    with suppress(anyio.EndOfStream):
        while True:
            *ended, rest = (await stream.receive()).split(b"\n")
            for line in ended:
                begun += line
                yield bytes(begun)
                begun.clear()
            begun += rest
            if len(begun) > MESSAGE_LIMIT_BYTES:
                raise _TooLongError


async def _end(process: Process) -> None:
    """Close the server's input, wait, then end it and its children by force."""
    assert process.stdin is not None
    with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        await process.stdin.aclose()
    if not await _has_ended(process):
        _signal_group(process, signal.SIGTERM)
        await _has_ended(process)
    _signal_group(
        process, signal.SIGKILL
    )  # also what a server that has ended left behind in its process group
    await _has_ended(process)


async def _has_ended(process: Process) -> bool:
    """Wait a while for the end of the process; `wait()` would wait also for children that keep its pipes open."""
    with anyio.move_on_after(EXIT_WAIT_S):
        while process.returncode is None:  # noqa: ASYNC110  # because there is no event for it, see above
            await anyio.sleep(0.01)
    return process.returncode is not None


def _signal_group(process: Process, how: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, how)
