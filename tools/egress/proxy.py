"""The only way out of a sandbox: a proxy on a socket file that connects to a tool's hosts and to nothing else.

It speaks the one method by which HTTP clients tunnel TLS (CONNECT), to port 443 only. So what travels is encrypted
between the tool and the host, and the proxy reads none of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import ByteStream, TaskGroup, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream

from microturn.protocols import MicroturnError
from microturn.tools.egress.addresses import Resolver, checked_address, resolve
from microturn.tools.egress.hosts import AllowedHosts

_PORT = 443
_HEAD_LIMIT_BYTES = 8192
_HEAD_LIMIT_S = 10.0
_CONNECT_LIMIT_S = 10.0
_TRAFFIC_LIMIT_BYTES = 64 * 1024 * 1024
"""Of one connection, in each direction. Our choice."""
_REQUEST = re.compile(rb"CONNECT ([A-Za-z0-9._-]{1,253}):(\d{1,5}) HTTP/1\.[01]\r\n")
_CONNECTIONS = 16

Connect = Callable[[str, int], Coroutine[Any, Any, ByteStream]]


async def connect_tcp(address: str, port: int) -> ByteStream:
    """Connect to an address."""
    return await anyio.connect_tcp(address, port)


class EgressProxy:
    """Serves the sandboxes of one tool."""

    def __init__(
        self, hosts: AllowedHosts, *, resolver: Resolver = resolve, connect: Connect = connect_tcp
    ) -> None:
        self._hosts = hosts
        self._resolver = resolver
        self._connect = connect
        self._slots = anyio.Semaphore(_CONNECTIONS)

    async def listen(self, path: Path, group: TaskGroup) -> None:
        """Make the socket file and serve it in `group` until that is cancelled."""
        await group.start(self._serve_at, path)

    async def _serve_at(self, path: Path, *, task_status: TaskStatus[None]) -> None:
        async with await anyio.create_unix_listener(path) as listener:
            task_status.started()
            await listener.serve(self._serve)

    async def _serve(self, client: ByteStream) -> None:
        async with self._slots, client:
            await self._tunnel(client)

    async def _tunnel(self, client: ByteStream) -> None:
        reader = BufferedByteReceiveStream(client)
        try:
            with anyio.fail_after(_HEAD_LIMIT_S):
                head = await reader.receive_until(b"\r\n\r\n", _HEAD_LIMIT_BYTES) + b"\r\n"
            server = await self._opened(head)
        except (_Refused, TimeoutError, OSError, anyio.IncompleteRead, anyio.DelimiterNotFound) as error:
            await _refuse(client, str(error) if isinstance(error, _Refused) else "the host cannot be reached")
            return
        async with server:
            await client.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await _carry_both(reader, client, server)

    async def _opened(self, head: bytes) -> ByteStream:
        asked = _REQUEST.match(head)
        if asked is None or int(asked[2]) != _PORT:
            raise _Refused("only https, on its usual port, leads out of the sandbox")
        host = asked[1].decode("ascii")
        if not self._hosts.allow(host):
            raise _Refused("this host is not one that the tool may reach")
        try:
            address = await checked_address(host, _PORT, self._resolver)
        except MicroturnError as error:
            raise _Refused(str(error)) from None
        with anyio.fail_after(_CONNECT_LIMIT_S):
            return await self._connect(address, _PORT)


class _Refused(Exception):
    """A connection is not made; the text says why and goes to the tool."""


async def _refuse(client: ByteStream, why: str) -> None:
    try:
        body = why.encode()
        head = f"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
        await client.send(head.encode() + body)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return


async def _carry_both(reader: BufferedByteReceiveStream, client: ByteStream, server: ByteStream) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_carry, reader, server)
        await _carry(server, client)
        group.cancel_scope.cancel()


async def _carry(source: Any, sink: ByteStream) -> None:  # Any: the two kinds of stream share no base
    """Pass bytes on until the source ends, one of them breaks, or the limit is reached."""
    left = _TRAFFIC_LIMIT_BYTES
    try:
        while left > 0:
            piece = await source.receive(65_536)
            left -= len(piece)
            await sink.send(piece)
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        return
