"""Reaches an MCP server by streamable HTTP, with a limit on the length of what it answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from microturn.tools.mcp.config import HttpServer
from microturn.tools.mcp.sdk import create_mcp_http_client, httpx2, streamable_http_client
from microturn.tools.mcp.stdio import MESSAGE_LIMIT_BYTES


@asynccontextmanager
async def open_http(
    server: HttpServer,
) -> AsyncIterator[Any]:  # Any: the SDK's pair of streams has no public name
    """Yield the streams of the server's messages.

    Redirects are followed within the server's own origin only, which is the SDK's rule.
    """
    async with create_mcp_http_client(headers=dict(server.headers)) as client:
        client.event_hooks["response"].append(_limit)
        client.event_hooks["request"].append(_ask_for_plain)
        transport: AbstractAsyncContextManager[Any] = streamable_http_client(
            server.url, http_client=client, max_sse_event_size=MESSAGE_LIMIT_BYTES
        )
        async with transport as streams:
            yield streams


async def _ask_for_plain(request: httpx2.Request) -> None:
    request.headers["accept-encoding"] = "identity"


async def _limit(response: httpx2.Response) -> None:
    """Bound the body: a stream of events is bounded event by event, everything else as a whole.

    Raises:
        httpx2.StreamError: it is compressed although that was not asked for, and could unfold to any length.
    """
    if response.headers.get("content-encoding", "identity") != "identity":
        raise httpx2.DecodingError("the server compressed its answer although it was asked not to")
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Bounded(response.stream)


class _Bounded(httpx2.AsyncByteStream):
    """A body that ends with an error at the limit."""

    def __init__(self, body: httpx2.AsyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        length = 0
        async for chunk in self._body:
            length += len(chunk)
            if length > MESSAGE_LIMIT_BYTES:
                raise httpx2.StreamError(f"it sent a message of more than {MESSAGE_LIMIT_BYTES:,} bytes")
            yield chunk

    async def aclose(self) -> None:
        """Close the body."""
        await self._body.aclose()
