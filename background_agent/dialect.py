"""The two ways to ask a model for its next step: JSON actions held to a schema, and native tool calls.

A dialect turns the transcript into a request, and the model's words into a decision. It sends nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pydantic import JsonValue
from pydantic_core import from_json

from microturn.background_agent.action_schema import action_schema
from microturn.background_agent.chat_client import ChatAnswer, ChatMessage, ChatRequest, as_json
from microturn.background_agent.framing import frame_outcome, frame_result
from microturn.background_agent.profile import ModelProfile
from microturn.background_agent.prompt import call_text, examples_for, system_prompt
from microturn.background_agent.thinking import without_thinking
from microturn.background_agent.transcript import (
    Answer,
    Call,
    Calls,
    Decision,
    Entry,
    Malformed,
    Note,
    Outcome,
    Said,
    Task,
)
from microturn.protocols import ToolSpec

EMPTY_REPLY = "Your reply was empty. Call a tool or answer."
MAX_CALLS = 8
"""Most native calls taken from one answer."""
_UNLIMITED = 1 << 30


class Dialect(Protocol):
    """How one model is spoken to, with one set of tools."""

    def request(
        self, entries: Sequence[Entry], *, final_only: bool, most_tokens: int = _UNLIMITED
    ) -> ChatRequest:
        """What to send. With `final_only` the model must answer and may call nothing more.

        `most_tokens` is what may be written, where that is less than the profile allows.
        """

    def visible(self, text: str) -> str:
        """What of an answer that is still coming is meant for the user."""

    def decide(self, answer: ChatAnswer, next_call: int) -> Decision:
        """What a complete answer means; calls are numbered from `next_call`."""


def dialect_for(profile: ModelProfile, specs: Sequence[ToolSpec]) -> Dialect:
    """The dialect of a profile."""
    return JsonActions(profile, specs) if profile.dialect == "json_actions" else NativeTools(profile, specs)


class JsonActions:
    """One JSON object per step. What small models can do, and any server that knows `response_format`."""

    def __init__(self, profile: ModelProfile, specs: Sequence[ToolSpec]) -> None:
        self._profile = profile
        self._names = frozenset(spec.name for spec in specs)
        self._prefix = self._fixed_prefix(specs)
        self._schema = self._schema_for(specs, final_only=False)
        self._final_schema = self._schema_for(specs, final_only=True)

    def _fixed_prefix(self, specs: Sequence[ToolSpec]) -> list[ChatMessage]:
        messages: list[ChatMessage] = [_message("system", system_prompt(specs, self._profile))]
        for example in examples_for(specs) if self._profile.shows_examples else ():
            asked = example.task
            for tool, arguments, result in example.steps:
                messages += [_message("user", asked), _message("assistant", call_text(tool, arguments))]
                asked = frame_result(tool, result, self._profile.result_bytes)
            messages += [
                _message("user", asked),
                _message("assistant", as_json({"final": example.final})),
            ]
        return messages

    def _schema_for(self, specs: Sequence[ToolSpec], *, final_only: bool) -> dict[str, JsonValue]:
        return action_schema(
            specs,
            can_say=self._profile.can_say,
            final_only=final_only,
            answer_chars=self._profile.answer_chars,
        )

    def request(
        self, entries: Sequence[Entry], *, final_only: bool, most_tokens: int = _UNLIMITED
    ) -> ChatRequest:
        """The prefix, the transcript as turns, and the schema of one action."""
        messages = list(self._prefix)
        for entry in entries:
            messages += self._messages(entry)
        schema = self._final_schema if final_only else self._schema
        max_tokens = min(self._profile.step_tokens, most_tokens)
        return ChatRequest(_joined(messages), max_tokens=max_tokens, response_schema=schema)

    def _messages(self, entry: Entry) -> list[ChatMessage]:
        match entry:
            case Task(text) | Note(text):
                return [_message("user", text)]
            case Calls(calls):
                return [_message("assistant", call_text(call.tool, call.arguments)) for call in calls]
            case Outcome():
                return [_message("user", frame_outcome(entry, self._profile.result_bytes))]
            case Said(text):
                return [_message("assistant", as_json({"say": text})), _message("user", "Go on.")]

    def visible(self, text: str) -> str:
        """The text of `final` or `say`, as far as it has come."""
        action = _object(without_thinking(text))
        words = action.get("final", action.get("say", ""))
        return words if isinstance(words, str) else ""

    def decide(self, answer: ChatAnswer, next_call: int) -> Decision:
        """Read the action; an answer that the length limit cut off counts as far as it goes."""
        action = _object(without_thinking(answer.text))
        is_cut = answer.finish_reason == "length"
        if isinstance(final := action.get("final"), str) and final.strip():
            return Answer(final.strip()[: self._profile.answer_chars], is_cut)
        if isinstance(said := action.get("say"), str) and said.strip():
            return Said(said.strip())
        name, arguments = action.get("tool"), action.get("arguments")
        if is_cut:
            return Malformed("Your reply was too long. Reply with one short JSON action.")
        if not isinstance(name, str):
            return Malformed('Reply with one JSON action: {"tool": ..., "arguments": ...} or {"final": ...}.')
        if not isinstance(arguments, dict):
            return Malformed(f'The "arguments" of {name[:64]} must be a JSON object.')
        return Calls((Call(next_call, name, arguments),))


class NativeTools:
    """`tools=` and tool messages. What large models were trained for."""

    def __init__(self, profile: ModelProfile, specs: Sequence[ToolSpec]) -> None:
        self._profile = profile
        self._prefix = [_message("system", system_prompt(specs, profile))]
        self._tools: list[JsonValue] = [
            {
                "type": "function",
                "function": {
                    "name": spec.name,
                    "description": spec.description,
                    "parameters": spec.parameters,
                },
            }
            for spec in specs
        ]

    def request(
        self, entries: Sequence[Entry], *, final_only: bool, most_tokens: int = _UNLIMITED
    ) -> ChatRequest:
        """The prefix, the transcript with tool messages, and the tools unless the model must answer now."""
        messages = [*self._prefix, *map(self._message, entries)]
        if final_only:
            messages.append(_message("user", "Answer now with what you have; call no more tools."))
        tools = () if final_only else self._tools
        return ChatRequest(messages, max_tokens=min(self._profile.step_tokens, most_tokens), tools=tools)

    def _message(self, entry: Entry) -> ChatMessage:
        match entry:
            case Task(text) | Note(text):
                return _message("user", text)
            case Said(text):
                return _message("assistant", text)
            case Calls(calls, said):
                return {
                    "role": "assistant",
                    "content": said or None,
                    "tool_calls": [_native_call(call) for call in calls],
                }
            case Outcome(call):
                framed = frame_outcome(entry, self._profile.result_bytes)
                return {"role": "tool", "tool_call_id": call.call_id, "content": framed}

    def visible(self, text: str) -> str:
        """All of it but what the model thinks aloud."""
        return without_thinking(text)

    def decide(self, answer: ChatAnswer, next_call: int) -> Decision:
        """Take the calls where there are any, else the text as the answer."""
        text = without_thinking(answer.text).strip()
        if answer.tool_calls:
            asked = enumerate(answer.tool_calls[:MAX_CALLS], start=next_call)
            return Calls(tuple(read_call(n, call.name, call.arguments) for n, call in asked), text)
        if text:
            return Answer(text[: self._profile.answer_chars], answer.finish_reason == "length")
        return Malformed(EMPTY_REPLY)


def _message(role: str, content: str) -> ChatMessage:
    return {"role": role, "content": content}


def _joined(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The messages with neighbours of one role joined: many chat templates insist that roles alternate."""
    joined: list[ChatMessage] = []
    for message in messages:
        if joined and joined[-1]["role"] == message["role"]:
            joined[-1] = _message(str(message["role"]), f"{joined[-1]['content']}\n\n{message['content']}")
        else:
            joined.append(message)
    return joined


def _object(text: str) -> dict[str, JsonValue]:
    """The JSON object at the beginning of a text that may still be coming; empty where there is none."""
    start = text.find("{")
    if start < 0:
        return {}
    try:
        value = from_json(text[start:].rstrip("` \n"), allow_partial="trailing-strings")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _native_call(call: Call) -> JsonValue:
    """A call as the interface has it in a message of the assistant."""
    function: JsonValue = {"name": call.tool, "arguments": as_json(call.arguments)}
    return {"id": call.call_id, "type": "function", "function": function}


def read_call(index: int, name: str, arguments: str) -> Call:
    """A native call with its arguments read; one that cannot be read says so."""
    try:
        value = from_json(arguments or "{}")
    except ValueError:
        return Call(index, name, {}, fault="The arguments are not valid JSON.")
    if not isinstance(value, dict):
        return Call(index, name, {}, fault="The arguments must be a JSON object.")
    return Call(index, name, value)
