"""A model server that answers from a script, over real HTTP on the loopback interface: to test engines with.

It plays the good cases and the bad ones, in the forms of several interfaces: busy, silent, stuck, broken off, without
end. Knows nothing of models.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import anyio
from anyio.abc import SocketAttribute, SocketStream
from pydantic import JsonValue

from microturn.background_agent.model_wires import ToolCalls, Wire, WireName, wire_of

_LAST_CHUNK = b"0\r\n\r\n"
"""How a body in chunks ends."""


@dataclass(frozen=True, slots=True)
class Say:
    """Stream a text, a few characters at a time, and end well."""

    text: str
    finish_reason: Literal["stop", "length"] = "stop"
    thought: str = ""
    """What the model thinks aloud before."""


@dataclass(frozen=True, slots=True)
class CallTools:
    """Ask for native tool calls: pairs of a name and arguments as JSON text, which may be wrong on purpose."""

    calls: ToolCalls
    text: str = ""
    thought: str = ""


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
    thought: str = ""
    sends_head: bool = True
    """Whether anything is sent at all."""


@dataclass(frozen=True, slots=True)
class GoOn:
    """Stream the same text, or the same thought, until the client hangs up. On interfaces with blocks, many of them."""

    text: str = ""
    thought: str = ""


Line: TypeAlias = Say | CallTools | Refuse | Fail | GoOn


@dataclass(slots=True)
class ScriptedModel:
    """The server's script and what it has seen."""

    script: list[Line]
    """Answers still to be given, the first one first; a request beyond them is refused with status 418."""
    url: str = ""
    """Base of an OpenAI-compatible interface."""
    root: str = ""
    """The address alone, which is the base of the others."""
    wire: WireName = "openai"
    requests: list[dict[str, JsonValue]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    hung_up: anyio.Event = field(default_factory=anyio.Event)
    """Set when a client closes its connection while the server hangs."""

    def told(self, request: int = -1) -> str:
        """All that a request says, in any interface, as JSON text."""
        return json.dumps(self.requests[request], ensure_ascii=False)

    def messages(self, request: int = -1) -> list[tuple[str, str]]:
        """The messages of a request as pairs of role and content."""
        messages = self.requests[request]["messages"]
        if not isinstance(messages, list):
            return []
        return [(str(m.get("role")), str(m.get("content"))) for m in messages if isinstance(m, dict)]


@asynccontextmanager
async def scripted_model(*script: Line, wire: WireName = "openai") -> AsyncIterator[ScriptedModel]:
    """Serve a script for as long as the block runs; `url` is the base of the interface."""
    model = ScriptedModel(list(script), wire=wire)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    model.root = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
    model.url = f"{model.root}/v1"

    async def handle(client: SocketStream) -> None:
        async with client:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
                await _answer(model, client)

    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        yield model
        group.cancel_scope.cancel()


async def _answer(model: ScriptedModel, client: SocketStream) -> None:
    """Read one request and play the next line."""
    body, key = await _request(client)
    model.requests.append(body)
    model.keys.append(key)
    line = model.script.pop(0) if model.script else Refuse(418)
    wire = wire_of(model.wire)
    match line:
        case Refuse(status):
            await client.send(
                f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
            )
        case Say(text, finish_reason, thought):
            await _head(client)
            await _send(client, wire.begin())
            await _send(client, wire.thought(thought))
            await _send(client, wire.text(text))
            await _send(client, wire.end(finish_reason))
            await client.send(_LAST_CHUNK)
        case CallTools(calls, text, thought):
            await _head(client)
            await _send(client, wire.begin())
            await _send(client, wire.thought(thought))
            await _send(client, wire.text(text))
            await _send(client, wire.calls(calls))
            await _send(client, wire.end("tool_calls"))
            await client.send(_LAST_CHUNK)
        case Fail():
            await _fail(model, client, wire, line)
        case GoOn():
            await _head(client)
            await _send(client, wire.begin())
            await _go_on_for_ever(model, client, wire, line)


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


async def _fail(model: ScriptedModel, client: SocketStream, wire: Wire, line: Fail) -> None:
    if line.sends_head:
        await _head(client)
        await _send(client, wire.begin())
        await _send(client, wire.thought(line.thought))
        await _send(client, wire.text(line.text))
    if line.how == "hang":
        await _until_hung_up(model, client)
    elif line.how == "error":
        await _send(client, wire.error())
        await client.send(_LAST_CHUNK)
    elif line.how == "end":
        await client.send(_LAST_CHUNK)


async def _until_hung_up(model: ScriptedModel, client: SocketStream) -> None:
    try:
        while True:
            await client.receive()
    finally:
        model.hung_up.set()


async def _go_on_for_ever(model: ScriptedModel, client: SocketStream, wire: Wire, line: GoOn) -> None:
    """Stream the same again and again until the client hangs up."""
    try:
        while True:
            await _send(client, wire.thought(line.thought))
            await _send(client, wire.text(line.text))
    finally:
        model.hung_up.set()


async def _head(client: SocketStream) -> None:
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    await client.send(head.encode())


async def _send(client: SocketStream, events: Iterable[bytes]) -> None:
    for event in events:
        await client.send(f"{len(event):x}\r\n".encode() + event + b"\r\n")
