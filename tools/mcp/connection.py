"""One MCP server's session, kept warm: a task of its own holds it, and renews it when it breaks.

Knows nothing of pins or of how tools are named here.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import anyio
from pydantic import JsonValue

from microturn._version import __version__
from microturn.tools._errors import ToolFailed, ToolRetry
from microturn.tools.mcp.config import ServerEntry, StdioServer
from microturn.tools.mcp.convert import offer_of, result_text
from microturn.tools.mcp.http import open_http
from microturn.tools.mcp.lost import Lost, describe, first_line
from microturn.tools.mcp.offer import Offer
from microturn.tools.mcp.sdk import Client, MCPError, MessageHandlerFnT, types
from microturn.tools.mcp.stdio import open_stdio

START_LIMIT_S = 15.0
"""Longest wait for a server to start and to list its tools."""
RECONNECT_WAIT_S = 5.0
"""Longest wait of a call for a session that is being renewed."""
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 30.0
"""Pauses between attempts to connect double up to this one."""
REPORTS_IN_FLIGHT = 8
"""Reports of a call that may wait to be taken; what a server sends beyond that is dropped. Our choice."""
PAGE_LIMIT = 20
TOOL_LIMIT = 256

Report: TypeAlias = Callable[[str], Awaitable[None]]
OnList: TypeAlias = Callable[[list[Offer]], None]

_log = logging.getLogger(__name__)


class Connection:
    """The session with one server. Belongs to one event loop; `run` is its task."""

    def __init__(self, name: str, entry: ServerEntry, on_list: OnList) -> None:
        """Prepare; nothing is started yet.

        Args:
            name: As the configuration has it.
            entry: How to reach it.
            on_list: Called with the server's tools whenever they were read: at each start, and when they change.
        """
        self._name = name
        self._entry = entry
        self._on_list = on_list
        self._client: Client | None = None
        self._lost = Lost()
        self._ready = anyio.Event()
        self._wanted = anyio.Event()
        self.settled = anyio.Event()
        """Set when the first attempt to connect has succeeded or failed."""
        self.problem = ""
        """Why there is no session now; empty while there is one."""

    async def run(self) -> None:
        """Keep the session until cancelled."""
        failures = 0
        while True:
            self._lost = Lost()
            had_begun = await self._hold()
            failures = 0 if had_begun else failures + 1
            self.settled.set()
            _log.warning("MCP server %r is not connected: %s", self._name, self.problem)
            await self._pause(failures)

    async def call(
        self, tool: str, arguments: dict[str, JsonValue], report: Report, *, may_repeat: bool
    ) -> str:
        """Call a tool and return its result as text. Cancelling this cancels the call at the server.

        Args:
            tool: The server's own name of it.
            arguments: As its schema has them.
            report: Gets the sentences that the server sends as progress.
            may_repeat: Whether a call whose connection broke may be made again on a new one.

        Raises:
            ToolRetry: the server says that the call was wrong, or that the tool failed.
            ToolFailed: there is no session, it broke, or the server broke its protocol.
        """
        try:
            return await self._call_once(tool, arguments, report)
        except _BrokenError as error:
            if not may_repeat or error.is_servers_fault:
                raise ToolFailed(
                    f"the connection to {self._name} broke during the call: {error}; whether it was done is not known"
                ) from None
        try:
            return await self._call_once(tool, arguments, report)
        except _BrokenError as error:
            raise ToolFailed(f"the connection to {self._name} broke again: {error}") from None

    async def _call_once(self, tool: str, arguments: dict[str, JsonValue], report: Report) -> str:
        client = await self._session()
        lost = self._lost

        in_flight = 0

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            nonlocal in_flight
            if message and in_flight < REPORTS_IN_FLIGHT:  # the SDK runs each report as a task of its own
                in_flight += 1
                try:
                    await report(message)
                finally:
                    in_flight -= 1

        try:
            result = await client.call_tool(tool, dict(arguments), progress_callback=on_progress)
        except MCPError as error:
            if not _is_broken(error):
                raise _refusal(error, self._name) from None
            raise self._broken(client, lost, first_line(error.message)) from None
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            raise self._broken(client, lost, "it was closed") from None
        except (RuntimeError, ValueError) as error:
            # The SDK's texts quote the result; what is in it is not for an error.
            raise ToolFailed(
                f"{self._name} answered with something that MCP does not allow ({type(error).__name__})"
            ) from None
        text = result_text(result)
        if result.is_error:
            raise ToolRetry(text)
        return text

    async def _session(self) -> Client:
        """Return the session, waiting a little for one that is being renewed.

        Raises:
            ToolFailed: there is none in time.
        """
        if self._client is None:
            self._wanted.set()
            with anyio.move_on_after(RECONNECT_WAIT_S):
                await self._ready.wait()
        if self._client is None:
            raise ToolFailed(f"{self._name} cannot be reached now")
        return self._client

    def _broken(self, client: Client, lost: Lost, reason: str) -> _BrokenError:
        """Give a session up that broke under a call; whoever noticed first has said why."""
        lost.tell(reason)
        self._forget(client)
        return _BrokenError(lost)

    def _forget(self, client: Client) -> None:
        if self._client is client:
            self._client = None
            self._ready = anyio.Event()

    async def _hold(self) -> bool:
        """Connect and stay connected until the session breaks; return whether it had begun."""
        had_begun = False
        try:
            with anyio.fail_after(START_LIMIT_S) as limit:
                async with open_session(self._entry, self._lost, self._on_message) as client:
                    self._on_list(await list_tools(client))
                    limit.deadline = float("inf")
                    had_begun = True
                    await self._serve(client)
        except TimeoutError:
            self._lost.tell(_too_slow())
        except Exception as error:  # noqa: BLE001  # the task's boundary: a server must not end the worker
            self._lost.tell(describe(error))
        self.problem = self._lost.reason
        if not had_begun and (complaint := self._lost.last_complaint()):
            self.problem += f"; it last said {complaint!r}"
        return had_begun

    async def _serve(self, client: Client) -> None:
        self._client, self.problem = client, ""
        self._ready.set()
        self.settled.set()
        self._changed = anyio.Event()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._list_again, client)
                tasks.start_soon(self._listen, client)
                await self._lost.wait()
                tasks.cancel_scope.cancel()
        finally:
            self._forget(client)

    async def _on_message(self, message: object) -> None:
        if isinstance(message, types.ToolListChangedNotification) and self._client is not None:
            self._changed.set()

    async def _listen(self, client: Client) -> None:
        """Ask servers of the newer protocol to tell when their tools change; older ones do so unasked."""
        tools = client.server_capabilities.tools
        if client.protocol_version < "2026" or tools is None or not tools.list_changed:
            return
        async with client.listen(tools_list_changed=True) as changes:
            async for _ in changes:
                self._changed.set()

    async def _list_again(self, client: Client) -> None:
        while True:
            await self._changed.wait()
            self._changed = anyio.Event()
            self._on_list(await list_tools(client))

    async def _pause(self, failures: int) -> None:
        """Wait before the next attempt, longer each time; a call that wants the session shortens it."""
        pause_s = min(FIRST_PAUSE_S * 2**failures, LONGEST_PAUSE_S) * random.uniform(0.75, 1.25)
        await anyio.sleep(FIRST_PAUSE_S)
        with anyio.move_on_after(pause_s - FIRST_PAUSE_S):
            await self._wanted.wait()
        self._wanted = anyio.Event()


class _BrokenError(Exception):
    """The session broke while a call waited for its answer; the text says why."""

    def __init__(self, lost: Lost) -> None:
        super().__init__(lost.reason)
        self.is_servers_fault = lost.is_servers_fault


@asynccontextmanager
async def open_session(
    entry: ServerEntry, lost: Lost, on_message: MessageHandlerFnT
) -> AsyncIterator[Client]:
    """Open a session of MCP with a server."""
    transport = open_stdio(entry, lost) if isinstance(entry, StdioServer) else open_http(entry)
    identity = types.Implementation(name="microturn", version=__version__)
    async with Client(transport, cache=None, client_info=identity, message_handler=on_message) as client:
        # The SDK has no switch for this, and the regular expressions in a server's schema can keep Python busy for ever.
        client.session.validate_tool_result = _taken_as_it_is  # type: ignore[method-assign]  # see above
        yield client


async def _taken_as_it_is(name: str, result: types.CallToolResult) -> None:
    """Compare nothing with the schema that a server has declared for its results: to a model they are data anyway."""


async def list_tools(client: Client) -> list[Offer]:
    """Read all pages of a server's tools, up to `TOOL_LIMIT` of them."""
    offers: list[Offer] = []
    cursor: str | None = None
    for _ in range(PAGE_LIMIT):
        page = await client.list_tools(cursor=cursor)
        offers += [offer_of(each) for each in page.tools]
        cursor = page.next_cursor
        if cursor is None or len(offers) >= TOOL_LIMIT:
            break
    return offers[:TOOL_LIMIT]


async def list_once(entry: ServerEntry) -> list[Offer]:
    """Connect, read the tools, and end the session.

    Raises:
        ToolFailed: that did not work; the text says why.
    """

    async def ignore(message: object) -> None:
        pass

    lost = Lost()
    try:
        with anyio.fail_after(START_LIMIT_S):
            async with open_session(entry, lost, ignore) as client:
                return await list_tools(client)
    except TimeoutError:
        raise ToolFailed(_too_slow()) from None
    except Exception as error:  # noqa: BLE001  # the boundary to a stranger's server: converted
        complaint = lost.last_complaint()
        said = f"; it last said {complaint!r}" if complaint else ""
        raise ToolFailed(f"{lost.reason or describe(error)}{said}") from None


def _too_slow() -> str:
    return f"it did not start and list its tools within {START_LIMIT_S:g} s"


def _is_broken(error: MCPError) -> bool:
    """Whether the session is over, rather than the one call."""
    return error.code == types.CONNECTION_CLOSED or (
        error.code == types.INVALID_REQUEST and "session" in error.message.lower()
    )


def _refusal(error: MCPError, server: str) -> ToolRetry | ToolFailed:
    text = f"{server} refused the call: {error.message}"
    return ToolRetry(text) if error.code == types.INVALID_PARAMS else ToolFailed(text)
