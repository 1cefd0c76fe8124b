"""A model server that answers from a script, over real HTTP on the loopback interface: to test engines with.

It plays the good cases and the bad ones: busy, silent, stuck, broken off. Knows nothing of models.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import anyio
from anyio.abc import SocketAttribute, SocketStream
from pydantic import JsonValue

_PIECE_CHARS = 7


@dataclass(frozen=True, slots=True)
class Say:
    """Stream a text, a few characters at a time, and end well."""

    text: str
    finish_reason: str = "stop"


@dataclass(frozen=True, slots=True)
class CallTools:
    """Ask for native tool calls: pairs of a name and arguments as JSON text, which may be wrong on purpose."""

    calls: tuple[tuple[str, str], ...]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with an HTTP status."""

    status: int


@dataclass(frozen=True, slots=True)
class Fail:
    """Stream a text and then fail."""

    how: Literal["hang", "cut", "end", "error"]
    """`hang`: send nothing more. `cut`: drop the connection. `end`: end the stream without a finish reason.
    `error`: report an error in the stream."""
    text: str = ""
    sends_head: bool = True
    """Whether anything is sent at all."""


Line: TypeAlias = Say | CallTools | Refuse | Fail


@dataclass(slots=True)
class ScriptedModel:
    """The server's script and what it has seen."""

    script: list[Line]
    """Answers still to be given, the first one first; a request beyond them is refused with status 418."""
    url: str = ""
    requests: list[dict[str, JsonValue]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    hung_up: anyio.Event = field(default_factory=anyio.Event)
    """Set when a client closes its connection while the server hangs."""

    def messages(self, request: int = -1) -> list[tuple[str, str]]:
        """The messages of a request as pairs of role and content."""
        messages = self.requests[request]["messages"]
        if not isinstance(messages, list):
            return []
        return [(str(m.get("role")), str(m.get("content"))) for m in messages if isinstance(m, dict)]


@asynccontextmanager
async def scripted_model(*script: Line) -> AsyncIterator[ScriptedModel]:
    """Serve a script for as long as the block runs; `url` is the base of the interface."""
    model = ScriptedModel(list(script))
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    model.url = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/v1"

    async def handle(client: SocketStream) -> None:
        async with client:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
                await _answer(model, client)

    async with anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        yield model
        group.cancel_scope.cancel()
    await listener.aclose()


async def _answer(model: ScriptedModel, client: SocketStream) -> None:
    """Read one request and play the next line."""
    body, key = await _request(client)
    model.requests.append(body)
    model.keys.append(key)
    line = model.script.pop(0) if model.script else Refuse(418)
    match line:
        case Refuse(status):
            await client.send(
                f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
            )
        case Say(text, finish_reason):
            await _head(client)
            await _stream_text(client, text)
            await _end(client, finish_reason)
        case CallTools(calls, text):
            await _head(client)
            await _stream_text(client, text)
            await _stream_calls(client, calls)
            await _end(client, "tool_calls")
        case Fail():
            await _fail(model, client, line)


async def _request(client: SocketStream) -> tuple[dict[str, JsonValue], str]:
    """The body and the authorisation of one request."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await client.receive()
    head, _, rest = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")[1:]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(rest) < int(headers.get("content-length", "0")):
        rest += await client.receive()
    body: dict[str, JsonValue] = json.loads(rest)
    return body, headers.get("authorization", "")


async def _fail(model: ScriptedModel, client: SocketStream, line: Fail) -> None:
    if line.sends_head:
        await _head(client)
        await _stream_text(client, line.text)
    if line.how == "hang":
        try:
            while True:
                await client.receive()
        finally:
            model.hung_up.set()
    elif line.how == "error":
        await _event(client, {"error": {"message": "out of memory", "code": 500}})
        await client.send(b"0\r\n\r\n")
    elif line.how == "end":
        await client.send(b"0\r\n\r\n")


async def _head(client: SocketStream) -> None:
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    await client.send(head.encode())


async def _event(client: SocketStream, event: JsonValue) -> None:
    data = f"data: {json.dumps(event)}\n\n".encode()
    await client.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")


async def _delta(client: SocketStream, delta: JsonValue, finish_reason: str | None = None) -> None:
    await _event(client, {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})


async def _stream_text(client: SocketStream, text: str) -> None:
    for start in range(0, len(text), _PIECE_CHARS):
        await _delta(client, {"content": text[start : start + _PIECE_CHARS]})


async def _stream_calls(client: SocketStream, calls: Sequence[tuple[str, str]]) -> None:
    """Send each call in pieces: its name first, then its arguments."""
    for index, (name, arguments) in enumerate(calls):
        named: JsonValue = {"index": index, "id": f"id{index}", "function": {"name": name, "arguments": ""}}
        await _delta(client, {"tool_calls": [named]})
        for start in range(0, len(arguments), _PIECE_CHARS):
            piece: JsonValue = {"arguments": arguments[start : start + _PIECE_CHARS]}
            await _delta(client, {"tool_calls": [{"index": index, "function": piece}]})


async def _end(client: SocketStream, finish_reason: str) -> None:
    await _delta(client, {}, finish_reason)
    usage: JsonValue = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 8},
    }
    await _event(client, {"choices": [], "usage": usage})
    data = b"data: [DONE]\n\n"
    await client.send(f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n")
