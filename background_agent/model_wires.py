"""How servers stream an answer: the forms of several interfaces, for the scripted model server of the tests.

    openai      chat completions as OpenAI streams them
    vllm        the same from vLLM: a role first, thoughts apart, calls in pieces that end anywhere
    ollama      the same from Ollama: thoughts under another name, each call whole
    tags        the same from a server that leaves thoughts in the text, between tags
    anthropic   Messages: typed events, blocks that begin and end
    gemini      streamGenerateContent: parts of a candidate, each call whole

Source: the public references of these interfaces; the streams were written here. Knows nothing of sockets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Literal, Protocol, TypeAlias

from pydantic import JsonValue

PIECE_CHARS = 7
"""Text and arguments come in pieces of so many characters."""
PROMPT_TOKENS = 10
CACHED_TOKENS = 8
COMPLETION_TOKENS = 5
"""What every answer is counted as."""
WireName: TypeAlias = Literal["openai", "vllm", "ollama", "tags", "anthropic", "gemini"]
ToolCalls: TypeAlias = tuple[tuple[str, str], ...]
"""Pairs of a name and arguments as JSON text."""


class Wire(Protocol):
    """One interface's form of a streamed answer. Each method gives events, as bytes for the stream; one answer each."""

    def begin(self) -> Iterator[bytes]:
        """What comes before anything that the model writes."""

    def thought(self, text: str) -> Iterator[bytes]:
        """What the model thinks aloud."""

    def text(self, text: str) -> Iterator[bytes]:
        """What the model says."""

    def calls(self, calls: ToolCalls) -> Iterator[bytes]:
        """The tools that the model wants called."""

    def error(self) -> Iterator[bytes]:
        """A failure in the middle of the stream."""

    def end(self, reason: Literal["stop", "length", "tool_calls"]) -> Iterator[bytes]:
        """The end, and what it cost."""


def wire_of(name: WireName) -> Wire:
    """A wire for one answer."""
    match name:
        case "openai":
            return OpenAIWire()
        case "vllm":
            return VllmWire()
        case "ollama":
            return OllamaWire()
        case "tags":
            return TagsWire()
        case "anthropic":
            return AnthropicWire()
        case "gemini":
            return GeminiWire()


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), PIECE_CHARS):
        yield text[start : start + PIECE_CHARS]


def _data(event: JsonValue) -> bytes:
    return f"data: {json.dumps(event)}\n\n".encode()


class OpenAIWire:
    """Chat completions."""

    def begin(self) -> Iterator[bytes]:
        """Nothing."""
        return iter(())

    def thought(self, text: str) -> Iterator[bytes]:
        """Nothing: OpenAI keeps the thoughts of its models."""
        return iter(())

    def text(self, text: str) -> Iterator[bytes]:
        """Pieces of the content."""
        for piece in _pieces(text):
            yield self._delta({"content": piece})

    def calls(self, calls: ToolCalls) -> Iterator[bytes]:
        """Each call in pieces: its name first, then its arguments."""
        for index, (name, arguments) in enumerate(calls):
            function: JsonValue = {"name": name, "arguments": ""}
            named: JsonValue = {"index": index, "id": f"id{index}", "type": "function", "function": function}
            yield self._delta({"tool_calls": [named]})
            for piece in _pieces(arguments):
                yield self._delta({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})

    def error(self) -> Iterator[bytes]:
        """An event that is an error."""
        yield _data({"error": {"message": "out of memory", "code": 500}})

    def end(self, reason: Literal["stop", "length", "tool_calls"]) -> Iterator[bytes]:
        """The finish reason, then the counts, then the mark of the end."""
        yield self._delta({}, reason)
        usage: JsonValue = {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": COMPLETION_TOKENS,
            "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
            "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
        }
        yield _data(self._chunk([]) | {"usage": usage})
        yield b"data: [DONE]\n\n"

    def _delta(self, delta: JsonValue, finish_reason: str | None = None) -> bytes:
        return _data(self._chunk([{"index": 0, "delta": delta, "finish_reason": finish_reason}]))

    def _chunk(self, choices: list[JsonValue]) -> dict[str, JsonValue]:
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": choices,
        }


class VllmWire(OpenAIWire):
    """Chat completions from vLLM, with a parser of thoughts."""

    def begin(self) -> Iterator[bytes]:
        """The role, with an empty content."""
        yield self._delta({"role": "assistant", "content": ""})

    def thought(self, text: str) -> Iterator[bytes]:
        """Thoughts in a field of their own."""
        for piece in _pieces(text):
            yield self._delta({"reasoning_content": piece})


class OllamaWire(OpenAIWire):
    """Chat completions from Ollama."""

    def thought(self, text: str) -> Iterator[bytes]:
        """Thoughts in a field of their own, beside an empty content."""
        for piece in _pieces(text):
            yield self._delta({"role": "assistant", "content": "", "reasoning": piece})

    def calls(self, calls: ToolCalls) -> Iterator[bytes]:
        """Each call whole."""
        for index, (name, arguments) in enumerate(calls):
            function: JsonValue = {"name": name, "arguments": arguments}
            call: JsonValue = {
                "id": f"call_{index}",
                "index": index,
                "type": "function",
                "function": function,
            }
            yield self._delta({"role": "assistant", "content": "", "tool_calls": [call]})


class TagsWire(OpenAIWire):
    """Chat completions from a server that knows nothing of thoughts."""

    def thought(self, text: str) -> Iterator[bytes]:
        """Thoughts in the content, between tags."""
        return self.text(f"<think>\n{text}\n</think>\n\n") if text else iter(())


class AnthropicWire:
    """Messages."""

    def __init__(self) -> None:
        self._blocks = 0

    def begin(self) -> Iterator[bytes]:
        """The message with its first counts, and a ping."""
        usage: JsonValue = {
            "input_tokens": PROMPT_TOKENS - CACHED_TOKENS,
            "cache_read_input_tokens": CACHED_TOKENS,
            "cache_creation_input_tokens": 0,
            "output_tokens": 1,
        }
        message: JsonValue = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        yield self._event({"type": "message_start", "message": message})
        yield self._event({"type": "ping"})

    def thought(self, text: str) -> Iterator[bytes]:
        """A block of thinking, signed at its end."""
        if text:
            deltas: list[JsonValue] = [
                {"type": "thinking_delta", "thinking": piece} for piece in _pieces(text)
            ]
            deltas.append({"type": "signature_delta", "signature": "c2lnbmVk"})
            yield from self._block({"type": "thinking", "thinking": "", "signature": ""}, deltas)

    def text(self, text: str) -> Iterator[bytes]:
        """A block of text."""
        if text:
            deltas: list[JsonValue] = [{"type": "text_delta", "text": piece} for piece in _pieces(text)]
            yield from self._block({"type": "text", "text": ""}, deltas)

    def calls(self, calls: ToolCalls) -> Iterator[bytes]:
        """A block for each call, its arguments in pieces."""
        for index, (name, arguments) in enumerate(calls):
            deltas: list[JsonValue] = [
                {"type": "input_json_delta", "partial_json": piece} for piece in ["", *_pieces(arguments)]
            ]
            yield from self._block(
                {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}, deltas
            )

    def error(self) -> Iterator[bytes]:
        """An event that is an error."""
        error: JsonValue = {"type": "api_error", "message": "out of memory"}
        yield self._event({"type": "error", "error": error})

    def end(self, reason: Literal["stop", "length", "tool_calls"]) -> Iterator[bytes]:
        """The reason with the counts, then the end."""
        reasons = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
        delta: JsonValue = {"stop_reason": reasons[reason], "stop_sequence": None}
        usage: JsonValue = {"output_tokens": COMPLETION_TOKENS}
        yield self._event({"type": "message_delta", "delta": delta, "usage": usage})
        yield self._event({"type": "message_stop"})

    def _block(self, block: JsonValue, deltas: list[JsonValue]) -> Iterator[bytes]:
        index = self._blocks
        self._blocks += 1
        yield self._event({"type": "content_block_start", "index": index, "content_block": block})
        for delta in deltas:
            yield self._event({"type": "content_block_delta", "index": index, "delta": delta})
        yield self._event({"type": "content_block_stop", "index": index})

    def _event(self, event: dict[str, JsonValue]) -> bytes:
        return f"event: {event['type']}\n".encode() + _data(event)


class GeminiWire:
    """streamGenerateContent as server-sent events."""

    def begin(self) -> Iterator[bytes]:
        """Nothing."""
        return iter(())

    def thought(self, text: str) -> Iterator[bytes]:
        """Parts that are marked as thoughts."""
        for piece in _pieces(text):
            yield self._part({"text": piece, "thought": True})

    def text(self, text: str) -> Iterator[bytes]:
        """Parts of text."""
        for piece in _pieces(text):
            yield self._part({"text": piece})

    def calls(self, calls: ToolCalls) -> Iterator[bytes]:
        """Each call whole. Arguments that are no JSON object are left out: this interface cannot have them."""
        for name, arguments in calls:
            try:
                given: JsonValue = json.loads(arguments)
            except ValueError:
                given = {}
            yield self._part(
                {"functionCall": {"name": name, "args": given if isinstance(given, dict) else {}}}
            )

    def error(self) -> Iterator[bytes]:
        """An event that is an error."""
        yield _data({"error": {"code": 500, "message": "out of memory", "status": "INTERNAL"}})

    def end(self, reason: Literal["stop", "length", "tool_calls"]) -> Iterator[bytes]:
        """An empty part with the reason and the counts."""
        usage: JsonValue = {
            "promptTokenCount": PROMPT_TOKENS,
            "cachedContentTokenCount": CACHED_TOKENS,
            "candidatesTokenCount": COMPLETION_TOKENS,
            "totalTokenCount": PROMPT_TOKENS + COMPLETION_TOKENS,
        }
        ended = "MAX_TOKENS" if reason == "length" else "STOP"
        yield self._part({"text": ""}, {"finishReason": ended}, {"usageMetadata": usage})

    def _part(
        self,
        part: JsonValue,
        candidate: dict[str, JsonValue] | None = None,
        response: dict[str, JsonValue] | None = None,
    ) -> bytes:
        content: JsonValue = {"role": "model", "parts": [part]}
        answer: JsonValue = {"content": content, "index": 0, **(candidate or {})}
        return _data({"candidates": [answer], "modelVersion": "m", "responseId": "r", **(response or {})})
