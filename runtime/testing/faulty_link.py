"""A faulty way to a server: a proxy that loses, delays, garbles or cuts what a Redis server answers.

It runs in a thread with an event loop of its own, so that neither a busy nor a cancelled test disturbs it, and its
faults are switched while it runs. What a server sends at once counts as one reply. Knows nothing of what is said
over it, but that a reply begins with a mark of its type.
"""

from __future__ import annotations

import asyncio
import math
import random
import socket
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, unquote, urlsplit

READ_BYTES = 65_536
"""Most that is passed on at once. Our choice."""
_NO_TYPE_MARKS = b"\x00\x07@ABCDEFGZabcdefgz{}~\xfe\xff"
"""Bytes with which no reply begins under the protocol's versions 2 and 3."""
_BACKLOG = 100
"""Connections that may wait to be accepted. Source: asyncio's own servers."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with a link. The default is nothing."""

    drop_every: int = 0
    """Instead of passing every n-th reply, its connection is broken: the command was done and nobody knows."""
    garble_every: int = 0
    """Every n-th reply begins with a byte that is no reply's. (Wrong bytes inside a reply are what TCP catches.)"""
    limit: int | None = None
    """Replies that are dropped or garbled at most; then they pass. None is no limit."""
    delay_s: float = 0.0
    """How long every reply takes, one after another on each connection."""
    stall: bool = False
    """Connections are accepted and kept, and nothing passes either way until it is healed."""
    cut: bool = False
    """All connections are broken and new ones are refused."""


@dataclass(slots=True)
class LinkCounters:
    """What has passed over a link since it was made."""

    connections: int = 0
    replies: int = 0
    """All that came from the server, the dropped and garbled ones included."""
    dropped: int = 0
    garbled: int = 0


class FaultyLink:
    """A proxy between clients and one server; a context manager, to be used from any thread but its own.

    Without a seed every n-th reply is dropped or garbled exactly; with one, the gaps vary between 1 and 2 n - 1, so
    that no rhythm of the client's fits the link's.
    """

    def __init__(self, target: str, *, path: Path | None = None, seed: int | None = None) -> None:
        """Take the server's URL (`unix://` or `redis://`) and listen at `path`, or on a free port of the loopback."""
        self.counters = LinkCounters()
        self._target = urlsplit(target)
        self._path = path
        self._port = 0
        self._random = random.Random(seed)
        self._gaps = None if seed is None else self._random
        self._faults = Faults()
        self._drop = self._garble = _Countdown(0, None)
        self._hits_left = 0.0
        self._flows = asyncio.Event()
        self._listener: socket.socket | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty link", daemon=True)

    @property
    def url(self) -> str:
        """The address for clients. On a loopback port it is known once the link is started."""
        return f"unix://{quote(str(self._path))}" if self._path else f"redis://127.0.0.1:{self._port}"

    @property
    def faults(self) -> Faults:
        """What is wrong now."""
        return self._faults

    def set(self, faults: Faults) -> None:
        """Replace what is wrong, and count to the next fault anew. Returns when it is in force."""
        self._do(self._set(faults))

    def heal(self) -> None:
        """Make all well: `set(Faults())`."""
        self.set(Faults())

    def start(self) -> Self:
        """Begin to listen.

        Raises:
            OSError: nobody can listen there.
        """
        self._thread.start()
        self._do(self._listen())
        self._flows.set()
        return self

    def stop(self) -> None:
        """Break all connections and end the thread."""
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _do(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _set(self, faults: Faults) -> None:
        self._faults = faults
        self._drop, self._garble = (
            _Countdown(every, self._gaps) for every in (faults.drop_every, faults.garble_every)
        )
        self._hits_left = math.inf if faults.limit is None else faults.limit
        if faults.stall:
            self._flows.clear()
        else:
            self._flows.set()
        if faults.cut:
            await self._break_all()
        elif self._listener is None:
            await self._listen()

    async def _listen(self) -> None:
        """Listen by a socket of our own: an asyncio server that is closed leaks what it is just accepting."""
        if self._path is None:
            listener = socket.create_server(("127.0.0.1", self._port), backlog=_BACKLOG)
            self._port = listener.getsockname()[1]
        else:
            self._path.unlink(missing_ok=True)
            listener = _listener_at(self._path)
        listener.setblocking(False)
        self._loop.add_reader(listener, self._accept, listener)
        self._listener = listener

    async def _break_all(self) -> None:
        """Accept no more, and break what was accepted. Returns when all of it is gone."""
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _close(self) -> None:
        await self._break_all()
        others = asyncio.all_tasks() - {asyncio.current_task()}  # they passed on requests, and are cancelled
        await asyncio.gather(*others, return_exceptions=True)
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _accept(self, listener: socket.socket) -> None:
        """Take a connection and begin to serve it, in a task that is ours to cancel."""
        try:
            accepted, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # who wanted it is gone
        accepted.setblocking(False)
        task = self._loop.create_task(self._connection(accepted))
        self._open.add(task)
        task.add_done_callback(partial(self._forget, accepted))
        self.counters.connections += 1

    def _forget(self, accepted: socket.socket, task: asyncio.Task[None]) -> None:
        """Close the socket also of a connection that was broken before its task began."""
        self._open.discard(task)
        accepted.close()

    async def _connection(self, accepted: socket.socket) -> None:
        writers: list[asyncio.StreamWriter] = []
        requests: asyncio.Task[None] | None = None
        try:
            reader, client = await asyncio.open_connection(sock=accepted)
            writers.append(client)
            answers, server = await self._connect()
            writers.append(server)
            requests = asyncio.ensure_future(self._pass_requests(reader, server))
            await self._pass_replies(answers, client)
        except OSError:
            pass  # the server or the client is gone, and so is the connection
        finally:
            if requests is not None:
                requests.cancel()
            for writer in writers:
                writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._target.scheme == "unix":
            return await asyncio.open_unix_connection(unquote(self._target.path))
        return await asyncio.open_connection(self._target.hostname, self._target.port or 6379)

    async def _pass_requests(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        """Pass on what the client sends; its end is the connection's."""
        with suppress(OSError):
            while data := await reader.read(READ_BYTES):
                await self._flows.wait()
                server.write(data)
                await server.drain()
        server.transport.abort()

    async def _pass_replies(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """Pass on what the server sends until one of them ends or a reply is dropped."""
        while data := await reader.read(READ_BYTES):
            self.counters.replies += 1
            await asyncio.sleep(self._faults.delay_s)
            await self._flows.wait()
            if self._is_hit(self._drop):
                self.counters.dropped += 1
                return
            if self._is_hit(self._garble):
                self.counters.garbled += 1
                data = self._garbled(data)
            client.write(data)
            await client.drain()

    def _is_hit(self, countdown: _Countdown) -> bool:
        """Whether this reply gets the fault, which then counts against the limit."""
        is_hit = self._hits_left > 0 and countdown.is_over()
        self._hits_left -= is_hit
        return is_hit

    def _garbled(self, data: bytes) -> bytes:
        return bytes([self._random.choice(_NO_TYPE_MARKS)]) + data[1:]


def _listener_at(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class _Countdown:
    """Says at which of the replies a fault is due."""

    def __init__(self, every: int, gaps: random.Random | None) -> None:
        self._every = every
        self._gaps = gaps
        self._left = self._next_gap()

    def is_over(self) -> bool:
        """Count one reply."""
        if not self._every:
            return False
        self._left -= 1
        if self._left:
            return False
        self._left = self._next_gap()
        return True

    def _next_gap(self) -> int:
        return self._gaps.randint(1, 2 * self._every - 1) if self._gaps and self._every else self._every
