"""The MCP servers that a worker uses, and their tools.

A server that does not start, or whose tools have changed, is reported and never stops a start.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
from pydantic import JsonValue

from microturn.protocols import UnavailableError, UserError
from microturn.tools._errors import ToolFailed
from microturn.tools.decorator import AnyTool
from microturn.tools.mcp.config import CONFIG_VARIABLE, McpConfig, ServerEntry, read_config
from microturn.tools.mcp.offer import Offer, local_names
from microturn.tools.mcp.pins import Difference, Pins, accepting, compare
from microturn.tools.registry import ToolRegistry

if TYPE_CHECKING:
    from microturn.tools.mcp.connection import Connection

_log = logging.getLogger(__name__)


class McpServers:
    """All servers of a configuration, as an async context manager: their sessions are warm inside it.

    Belongs to one event loop. Entering waits until every server has answered or failed, at most as long as one start
    may take; one that failed is tried again in the background, and its accepted tools are offered all the same.
    """

    def __init__(self, config: McpConfig, pins: Pins | None = None) -> None:
        self._servers = [
            _Server(name, entry, pins or Pins()) for name, entry in sorted(config.servers.items())
        ]
        self._config_problems = dict(config.problems)
        self._left_out: dict[str, str] = {}
        self._stack = AsyncExitStack()

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] = os.environ, pins: Pins | None = None
    ) -> McpServers:
        """Take the servers of the file that `MICROTURN_MCP` names; none where it is not set.

        Raises:
            UserError: the file cannot be read.
        """
        path = environ.get(CONFIG_VARIABLE)
        return cls(read_config(Path(path), environ) if path else McpConfig(), pins)

    async def __aenter__(self) -> Self:
        """Start the sessions."""
        try:
            connections = [server.connect() for server in self._servers]
        except UnavailableError as error:
            self._give_up(error)
            return self
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(tasks.cancel_scope.cancel)
            for connection in connections:
                tasks.start_soon(connection.run)
            for connection in connections:
                await connection.settled.wait()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all sessions and the processes of the servers."""
        await self._stack.__aexit__(None, None, None)  # told of an error, the task group would wrap it

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong now, by the server's name. For operators."""
        found = {server.name: server.problem() for server in self._servers}
        return self._config_problems | self._left_out | {name: text for name, text in found.items() if text}

    def tools(self) -> list[AnyTool]:
        """Return the tools of all servers that can be used; what cannot is in `problems`."""
        made: dict[str, AnyTool] = {}
        try:
            offered = [(server, each) for server in self._servers for each in server.tools()]
        except UnavailableError as error:
            self._give_up(error)
            return []
        for server, each in offered:
            if made.setdefault(each.spec.name, each) is not each:
                self._left_out[server.name] = f"its tool `{each.spec.name}` has the name of another server's"
        return list(made.values())

    @contextmanager
    def lent_to(self, registry: ToolRegistry) -> Iterator[None]:
        """Have the tools in a registry as `add_to` does, until the end of the block, as they work no longer."""
        broken = dict(registry.broken)
        added = self.add_to(registry)
        try:
            yield
        finally:
            for name in added:
                registry.remove(name)
            registry.broken = broken

    def add_to(self, registry: ToolRegistry) -> list[str]:
        """Add the tools to a registry and return their names; those that it refuses, and all problems, are noted in its
        `broken`."""
        added = []
        for each in self.tools():
            try:
                registry.add(each)
            except UserError as error:
                registry.broken[each.spec.name] = str(error)
            else:
                added.append(each.spec.name)
        for name, problem in self.problems.items():
            registry.broken[f"MCP server {name}"] = problem
            _log.warning("MCP server %r: %s", name, problem)
        return added

    def _give_up(self, error: UnavailableError) -> None:
        """Leave all servers out, because the extra `mcp` is not installed."""
        self._left_out.update({server.name: str(error) for server in self._servers})
        self._servers = []


class _Server:
    """One server: what was accepted of it, what it offers now, and the session."""

    def __init__(self, name: str, entry: ServerEntry, pins: Pins) -> None:
        self.name = name
        self._entry = entry
        self._pins = pins
        self._connection: Connection | None = None
        self._accepted: Sequence[Offer] = ()
        self._is_new = False
        self._difference = Difference()
        self._pin_problem = ""
        self._tool_problems: list[str] = []
        self._read_pin()

    def connect(self) -> Connection:
        """Make the connection whose `run` is to be run.

        Raises:
            UnavailableError: the extra `mcp` is not installed.
        """
        from microturn.tools.mcp.connection import Connection  # the SDK takes a second to import

        self._connection = Connection(self.name, self._entry, self._on_list)
        return self._connection

    def problem(self) -> str:
        """Return what is wrong with it now; empty where nothing is."""
        parts = [self._pin_problem, *self._tool_problems]
        if self._connection is not None and self._connection.problem:
            parts.append(f"it is not connected: {self._connection.problem}")
        if self._connection is None and self._is_new:
            parts.append(
                f"its tools are not known yet; a worker's start or {accepting(self.name)} asks for them"
            )
        if self._difference:
            parts.append(
                f"its tools are not those that were accepted ({self._difference.summary()}); what differs is not "
                f"used until {accepting(self.name)} accepts it"
            )
        return "; ".join(part for part in parts if part)

    def tools(self) -> list[AnyTool]:
        """Make tools of what was accepted and is wanted."""
        from microturn.tools.mcp.convert import make_tool  # the SDK takes a second to import

        made: list[AnyTool] = []
        self._tool_problems = []
        names = local_names(self.name, self._accepted)
        for offer in self._accepted:
            if self._is_wanted(offer):
                try:
                    made.append(make_tool(names[offer.name], offer, self._entry, self._calls(offer)))
                except UserError as error:
                    self._tool_problems.append(str(error))
        return made

    def _is_wanted(self, offer: Offer) -> bool:
        return self._entry.tools is None or offer.name in self._entry.tools

    def _calls(self, offer: Offer) -> Callable[..., Awaitable[str]]:
        return functools.partial(self._call, may_repeat=offer.side_effect != "unsafe")

    async def _call(
        self,
        tool: str,
        arguments: dict[str, JsonValue],
        report: Callable[[str], Awaitable[None]],
        *,
        may_repeat: bool,
    ) -> str:
        assert self._connection is not None
        if tool in self._difference.changed or tool in self._difference.removed:
            raise ToolFailed(
                f"{self.name} has changed what this tool is since it was accepted; the operator has to look at it"
            )
        return await self._connection.call(tool, arguments, report, may_repeat=may_repeat)

    def _read_pin(self) -> None:
        try:
            pin = self._pins.read(self.name)
        except UserError as error:
            self._pin_problem = str(error)
        else:
            self._accepted = pin.tools if pin is not None else ()
            self._is_new = pin is None

    def _on_list(self, offers: list[Offer]) -> None:
        """Accept the tools of a server that is met for the first time; compare those of one that is known."""
        if self._pin_problem:
            return
        if self._is_new:
            try:
                self._accepted = self._pins.write(self.name, offers).tools
            except UserError as error:
                self._pin_problem = str(error)
                return
            self._is_new = False
            _log.info("MCP server %r is new: its %d tools were accepted", self.name, len(offers))
        before, self._difference = self._difference, compare(self._accepted, offers)
        if self._difference and self._difference != before:
            _log.warning("MCP server %r has changed its tools: %s", self.name, self._difference.summary())
