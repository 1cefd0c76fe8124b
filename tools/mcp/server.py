"""Serves the tools of a registry to MCP clients, over standard input and output or HTTP on this machine.

Every call goes through the registry, so limits, isolation and egress hold as they do for an agent. What needs a
conversation has none here: words that a tool schedules for later are refused, and so are tools that ask for approval,
because the registry does not know whether the client's user was asked.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from microturn._version import __version__
from microturn.protocols import Speech, ToolSpec, UserError
from microturn.tools._errors import ToolFailed
from microturn.tools.context import ToolContext, standalone_package
from microturn.tools.mcp.sdk import Server, ServerRequestContext, stdio_server, types
from microturn.tools.registry import ToolRegistry

LOOPBACK = "127.0.0.1"


class ToolServer:
    """A registry as MCP clients see it."""

    def __init__(self, tools: ToolRegistry, data_dir: Path) -> None:
        """Prepare to serve.

        Args:
            tools: What is offered; those that ask for approval are not.
            data_dir: The folder in which the tools keep what they keep.
        """
        self._tools = tools
        self._data_dir = data_dir
        self._offered = {spec.name: spec for spec in tools.specs() if spec.approval is None}
        self.withheld = tuple(spec.name for spec in tools.specs() if spec.approval is not None)
        """Tools that ask the user for approval and are not offered for that."""
        self._server: Server[dict[str, object]] = Server(
            "microturn", version=__version__, on_list_tools=self._list, on_call_tool=self._call
        )

    async def over_stdio(self) -> None:
        """Serve the client at the other end of the standard streams, until it closes them."""
        async with self._tools, stdio_server() as (received, sent):
            await self._server.run(received, sent, self._server.create_initialization_options())

    async def over_http(self, port: int = 0, on_ready: Callable[[str], None] = lambda url: None) -> None:
        """Serve on the loopback interface until SIGINT or SIGTERM; requests for other host names are refused.

        Args:
            port: Where to listen; 0 takes a free one.
            on_ready: Called with the address when clients may come.

        Raises:
            UserError: the port is taken.
        """
        try:
            listening = socket.create_server((LOOPBACK, port))
        except OSError as error:
            raise UserError(
                f"cannot listen on port {port}: {error.strerror}; name another one, or 0 for any that is free"
            ) from None
        app = self._server.streamable_http_app(host=LOOPBACK)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        async with self._tools:
            with listening:
                on_ready(f"http://{LOOPBACK}:{listening.getsockname()[1]}/mcp")
                await server.serve(sockets=[listening])

    async def _list(
        self, context: ServerRequestContext, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_described(spec) for spec in self._offered.values()])

    async def _call(
        self, context: ServerRequestContext, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        if params.name in self.withheld:
            text = f"`{params.name}` asks its user for approval first, which is not possible from here"
            return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)
        result = await self._tools.call(params.name, params.arguments or {}, self._context(context))
        return types.CallToolResult(content=[types.TextContent(text=result.text)], is_error=result.is_error)

    def _context(self, context: ServerRequestContext) -> ToolContext:
        reports = 0

        async def progress(text: str) -> None:
            nonlocal reports
            reports += 1
            await context.session.report_progress(reports, None, text)

        async def say(speech: Speech) -> None:
            if speech.not_before_ms is not None:
                raise ToolFailed(
                    "this tool speaks at a later time, which needs a conversation; there is none here"
                )
            await progress(speech.text)

        package = standalone_package("mcp", "a call by an MCP client")
        return ToolContext(
            package=package,
            progress=progress,
            say=say,
            data_dir=self._data_dir,
            idempotency_key=ToolContext.key(package.task_id, 0),
        )


def _described(spec: ToolSpec) -> types.Tool:
    hints = types.ToolAnnotations(
        read_only_hint=spec.side_effect == "none",
        destructive_hint=spec.side_effect == "unsafe",
        idempotent_hint=spec.side_effect != "unsafe",
        open_world_hint=bool(spec.egress),
    )
    return types.Tool(
        name=spec.name, description=spec.description, input_schema=spec.parameters, annotations=hints
    )
