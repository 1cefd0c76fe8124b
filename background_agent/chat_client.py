"""Streaming client of an OpenAI-compatible `/chat/completions`.

It says what happened in the words of `_errors`: down, slow, broken off in mid-stream, refused. It tries again only
while not a byte of an answer has come, so that no token is ever paid for or heard twice. Cancelling the scope
around it closes the connection, upon which the common servers stop to generate. Knows nothing of agents.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import anyio
import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from microturn.background_agent._errors import (
    ModelBrokeOffError,
    ModelDownError,
    ModelRequestError,
    ModelSlowError,
)
from microturn.background_agent.limits import CHARS_PER_TOKEN

ChatMessage: TypeAlias = Mapping[str, JsonValue]
"""One message of the conversation, as the interface defines it: `role`, `content`, and for tools their ids."""

_BUSY: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses that may pass by themselves."""
_MAX_LINE_CHARS = 1 << 20
"""A longer line of a stream is not an answer but a fault."""
_CHARS_PER_GUESSED_TOKEN = 4
"""Ordinary text has about so many. Our choice."""


@dataclass(frozen=True, slots=True)
class ChatLimits:
    """How long to wait for a model server, and how often."""

    connect_s: float = 5.0
    first_byte_s: float = 60.0
    """Until the answer begins; a local model may first finish another request."""
    silence_s: float = 20.0
    """Between two pieces of an answer."""
    retries: int = 2
    """Further tries after the first one."""
    retry_wait_s: float = 0.25
    """Before the first retry; doubled before each further one."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What is asked of the model."""

    messages: Sequence[ChatMessage]
    max_tokens: int = 400
    temperature: float = 0.0
    response_schema: JsonValue = None
    """JSON schema to which the answer must conform."""
    tools: Sequence[JsonValue] = ()
    """Native tool definitions; left out where empty."""

    def body(self, model: str) -> dict[str, JsonValue]:
        """The request in the words of the interface."""
        body: dict[str, JsonValue] = {
            "model": model,
            "messages": [dict(message) for message in self.messages],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.response_schema is not None:
            schema: JsonValue = {"name": "action", "strict": True, "schema": self.response_schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if self.tools:
            body["tools"] = list(self.tools)
        return body


@dataclass(slots=True)
class ToolCall:
    """One native tool call as it comes together."""

    call_id: str = ""
    name: str = ""
    arguments: str = ""
    """JSON, once the answer has ended."""


@dataclass(slots=True)
class ChatAnswer:
    """An answer as far as it has come; complete once the stream has ended without an error."""

    text: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    finish_reason: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt, what the server had ready."""
    completion_tokens: int = 0
    """What the server counted; 0 until it has told."""
    received_chars: int = 0
    """All that has come, with reasoning and calls."""

    @property
    def written_tokens(self) -> int:
        """Tokens of the answer: as counted by the server, or guessed where it was left before that was told."""
        return self.completion_tokens or self.received_chars // _CHARS_PER_GUESSED_TOKEN


class _CallDelta(BaseModel):
    class Function(BaseModel):
        name: str | None = None
        arguments: str | None = None

    index: int = 0
    id: str | None = None
    function: Function = Function()


class _Chunk(BaseModel):
    """One event of the stream; what is not listed does not matter here."""

    class Choice(BaseModel):
        class Delta(BaseModel):
            content: str | None = None
            reasoning_content: str | None = None
            reasoning: str | None = None
            """What a reasoning model thinks aloud, in the words of one server or another. It is never spoken."""
            tool_calls: list[_CallDelta] | None = None

        delta: Delta = Delta()
        finish_reason: str | None = None

    class Usage(BaseModel):
        class Details(BaseModel):
            cached_tokens: int | None = None

        prompt_tokens: int = 0
        completion_tokens: int = 0
        prompt_tokens_details: Details | None = None

    choices: list[Choice] = []
    usage: Usage | None = None
    error: JsonValue = None


@dataclass(frozen=True, slots=True)
class Address:
    """Where a model server is."""

    url: str
    """Base of the interface, usually ending in `/v1`."""
    key: str | None = field(default=None, repr=False)


Revive: TypeAlias = Callable[[], Awaitable[Address]]
"""Starts a server again if it has ended; returns where it is now."""


class ChatClient:
    """One model behind one address. Used by many tasks at once; `aclose` when nothing more is asked.

    With `revive`, a server that cannot be reached is started again before the next try.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        limits: ChatLimits | None = None,
        revive: Revive | None = None,
    ) -> None:
        self._address = Address(url.rstrip("/"), key)
        self._revive = revive
        self.model = model
        self.limits = limits or ChatLimits()
        timeout = httpx.Timeout(self.limits.silence_s, connect=self.limits.connect_s, read=None)
        self._http = httpx.AsyncClient(timeout=timeout)

    def __repr__(self) -> str:
        """Leave the key out."""
        return f"ChatClient(url={self.url!r}, model={self.model!r})"

    @property
    def url(self) -> str:
        """Base of the interface."""
        return self._address.url

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def stream(self, request: ChatRequest, answer: ChatAnswer) -> AsyncGenerator[str, None]:
        """Yield the pieces of the answer's text as they come, and fill `answer` meanwhile.

        Close the iterator (`contextlib.aclosing`) when you leave it early. An answer that goes on long after its limit
        of tokens is cut off, as if the server had done it.

        Raises:
            ModelDownError: no connection, or a status that says overloaded or broken, after all tries.
            ModelSlowError: no byte within the limit.
            ModelBrokeOffError: the stream ended before the answer did.
            ModelRequestError: the request itself was refused.
        """
        async with self._opened(request.body(self.model)) as response:
            async for data in self._events(response, answer):
                if data == "[DONE]":
                    break
                if piece := self._take_in(data, answer):
                    yield piece
                if answer.received_chars > request.max_tokens * CHARS_PER_TOKEN:
                    answer.finish_reason = "length"
                    break
        if answer.finish_reason is None:
            raise ModelBrokeOffError(
                f"{self.url} ended its answer without a finish reason; see the server's log",
                partial=answer.text,
            )

    @asynccontextmanager
    async def _opened(self, body: dict[str, JsonValue]) -> AsyncIterator[httpx.Response]:
        """The answer's head, after as many tries as allowed."""
        for left in range(self.limits.retries, -1, -1):
            try:
                response = await self._try_to_open(body)
                break
            except ModelDownError:
                if left == 0:
                    raise
                await anyio.sleep(self.limits.retry_wait_s * 2 ** (self.limits.retries - left))
                if self._revive is not None:
                    self._address = await self._revive()
        try:
            yield response
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    async def _try_to_open(self, body: dict[str, JsonValue]) -> httpx.Response:
        key = self._address.key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        request = self._http.build_request("POST", f"{self.url}/chat/completions", json=body, headers=headers)
        try:
            with anyio.fail_after(self.limits.first_byte_s):
                response = await self._http.send(request, stream=True)
        except TimeoutError:
            raise self._slow(self.limits.first_byte_s, "began no answer", "") from None
        except httpx.HTTPError as error:
            raise ModelDownError(
                f"{self.url} cannot be reached ({type(error).__name__}); is the model server running?"
            ) from error
        if response.status_code == 200:
            return response
        await response.aclose()
        raise self._refused(response.status_code)

    def _refused(self, status: int) -> ModelDownError | ModelRequestError:
        if status in _BUSY:
            return ModelDownError(f"{self.url} answered HTTP status {status}: it cannot serve now; try later")
        hint = {
            401: "check MICROTURN_MODEL_KEY",
            403: "check MICROTURN_MODEL_KEY",
            404: "check the address and the model",
        }
        return ModelRequestError(
            f"{self.url} refused the request for model {self.model!r} with HTTP status {status}; "
            f"{hint.get(status, 'it may be longer than the context of the model')}"
        )

    def _slow(self, limit_s: float, what: str, partial: str) -> ModelSlowError:
        return ModelSlowError(
            f"{self.url} {what} within {limit_s:g} s; the model is overloaded or stuck", partial=partial
        )

    async def _events(self, response: httpx.Response, answer: ChatAnswer) -> AsyncIterator[str]:
        """The data of the stream's events.

        Source: WHATWG HTML, section 9.2.6, as far as this interface uses it: one `data:` line per event.
        """
        lines = response.aiter_lines()
        limit_s = self.limits.first_byte_s
        while True:
            try:
                with anyio.fail_after(limit_s):
                    line = await _next_data(lines)
            except TimeoutError:
                raise self._slow(limit_s, "sent nothing", answer.text) from None
            except httpx.HTTPError as error:
                raise ModelBrokeOffError(
                    f"{self.url} broke off its answer ({type(error).__name__})", partial=answer.text
                ) from error
            if line is None:
                return
            if len(line) > _MAX_LINE_CHARS:
                raise ModelBrokeOffError(
                    f"{self.url} sent a line of {len(line)} characters", partial=answer.text
                )
            limit_s = self.limits.silence_s
            yield line

    def _take_in(self, data: str, answer: ChatAnswer) -> str:
        """Add one event to the answer; returns the text that it brought."""
        try:
            chunk = _Chunk.model_validate_json(data)
        except ValidationError:
            raise ModelBrokeOffError(
                f"{self.url} sent an event that is no completion", partial=answer.text
            ) from None
        if chunk.error is not None:
            raise ModelBrokeOffError(f"{self.url} reported an error in mid-stream", partial=answer.text)
        if chunk.usage is not None:
            _count(chunk.usage, answer)
        piece = ""
        for choice in chunk.choices[:1]:
            answer.finish_reason = choice.finish_reason or answer.finish_reason
            for delta in choice.delta.tool_calls or ():
                _add_call(delta, answer.tool_calls)
                answer.received_chars += len(delta.function.arguments or "")
            piece = choice.delta.content or ""
            thought = choice.delta.reasoning_content or choice.delta.reasoning or ""
            answer.received_chars += len(piece) + len(thought)
        answer.text += piece
        return piece


async def _next_data(lines: AsyncIterator[str]) -> str | None:
    """The data of the next event, or None at the end. Comments, which keep a connection alive, are passed over."""
    async for line in lines:
        if line.startswith("data:"):
            return line.removeprefix("data:").strip()
    return None


def _count(usage: _Chunk.Usage, answer: ChatAnswer) -> None:
    answer.prompt_tokens = usage.prompt_tokens
    answer.completion_tokens = usage.completion_tokens
    if usage.prompt_tokens_details is not None:
        answer.cached_tokens = usage.prompt_tokens_details.cached_tokens or 0


def _add_call(delta: _CallDelta, calls: list[ToolCall]) -> None:
    """Join a piece of a native tool call to the call with its index."""
    while len(calls) <= min(delta.index, 31):
        calls.append(ToolCall())
    call = calls[min(delta.index, 31)]
    call.call_id = delta.id or call.call_id
    call.name += delta.function.name or ""
    call.arguments += delta.function.arguments or ""


def as_json(value: JsonValue) -> str:
    """Compact JSON with a fixed spelling, so that equal values are equal bytes for a prefix cache."""
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
