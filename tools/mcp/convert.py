"""Between MCP's words and ours: tool definitions, results, and a tool that calls its server."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TypeAlias
from urllib.parse import urlsplit

from pydantic import JsonValue
from pydantic_core import to_json

from microturn.protocols import ToolSpec, UserError
from microturn.tools.context import ToolContext
from microturn.tools.decorator import AnyTool, Tool
from microturn.tools.mcp.arguments import SchemaArguments
from microturn.tools.mcp.config import ServerEntry, StdioServer
from microturn.tools.mcp.offer import Offer
from microturn.tools.mcp.sdk import SchemaError, types
from microturn.tools.text import clean

DESCRIPTION_LIMIT_CHARS = 2000
SCHEMA_LIMIT_BYTES = 32 * 1024
"""A tool whose schema is longer would crowd everything else out of a model's context. Our choice."""

Calls: TypeAlias = Callable[[str, dict[str, JsonValue], Callable[[str], Awaitable[None]]], Awaitable[str]]
"""Calls a tool by the server's name of it, with a function that takes the progress."""


def offer_of(described: types.Tool) -> Offer:
    """Take over what a server says of a tool, without what models are not told."""
    hints = described.annotations or types.ToolAnnotations()
    return Offer(
        name=described.name,
        description=described.description or described.title or "",
        parameters=described.input_schema,
        is_read_only=hints.read_only_hint,
        is_idempotent=hints.idempotent_hint,
        is_open_world=hints.open_world_hint,
    )


def make_tool(name: str, offer: Offer, entry: ServerEntry, call: Calls) -> AnyTool:
    """Make a tool that hands its calls on.

    Raises:
        UserError: its schema cannot be used, or the sentence that asks for approval does not fit it.
    """
    schema = _cleaned(offer.parameters)
    assert isinstance(schema, dict)
    if len(to_json(schema)) > SCHEMA_LIMIT_BYTES:
        raise UserError(f"the schema of `{offer.name}` is longer than {SCHEMA_LIMIT_BYTES:,} bytes")
    try:
        arguments = SchemaArguments.of(schema)
    except (SchemaError, RecursionError):
        raise UserError(f"the schema of `{offer.name}` is no JSON schema") from None
    approval = entry.approval.get(offer.name)
    if approval is not None:
        _check_approval(approval, schema, offer.name)

    async def handed_on(arguments: dict[str, JsonValue], context: ToolContext) -> str:
        return await call(offer.name, arguments, context.progress)

    description = clean(offer.description)[:DESCRIPTION_LIMIT_CHARS].strip()
    spec = ToolSpec(
        name=name,
        description=description or f"The tool {offer.name}, of which its server says nothing.",
        parameters=schema,
        timeout_s=entry.timeout_s,
        side_effect=offer.side_effect,
        egress=_egress(offer, entry),
        approval=approval,
    )
    handed_on.__name__ = handed_on.__qualname__ = name
    handed_on.__doc__ = spec.description
    return Tool(handed_on, spec, arguments)


def result_text(result: types.CallToolResult) -> str:
    """Put a result into words: texts as they are, what cannot be read named; without a text the structured content."""
    parts = [_block_text(block) for block in result.content]
    has_text = any(isinstance(block, types.TextContent) for block in result.content)
    if not has_text and result.structured_content is not None:
        parts.append(to_json(result.structured_content).decode(errors="replace"))
    return "\n".join(part for part in parts if part) or "Done."


def _block_text(block: types.ContentBlock) -> str:
    if isinstance(block, types.TextContent):
        return block.text
    if isinstance(block, types.ImageContent | types.AudioContent):
        return f"[{block.type}, {block.mime_type}, {len(block.data) * 3 // 4:,} bytes, not shown]"
    if isinstance(block, types.ResourceLink):
        return f"[link to {block.name}: {block.uri}]"
    held = block.resource
    if isinstance(held, types.TextResourceContents):
        return f"[{held.uri}]\n{held.text}"
    return f"[{held.uri}, {held.mime_type or 'unknown type'}, {len(held.blob) * 3 // 4:,} bytes, not shown]"


def _egress(offer: Offer, entry: ServerEntry) -> tuple[str, ...]:
    """What to tell an operator: a process may reach anything unless its server says that it does not."""
    if isinstance(entry, StdioServer):
        return () if offer.is_open_world is False else ("*",)
    return (urlsplit(entry.url).hostname or "*",)


def _check_approval(sentence: str, schema: dict[str, JsonValue], tool: str) -> None:
    known = schema.get("properties")
    unknown = set(re.findall(r"\{([^{}]*)\}", sentence)) - set(known if isinstance(known, dict) else ())
    if unknown or not sentence.strip():
        raise UserError(
            f"the approval of `{tool}` has to be a sentence with parameters of the tool in braces, but "
            f"{sorted(unknown) or 'it'} is none"
        )


def _cleaned(node: JsonValue) -> JsonValue:
    """Take out characters that hide or reorder text, which a description could carry into a prompt."""
    if isinstance(node, str):
        return clean(node)
    if isinstance(node, list):
        return [_cleaned(each) for each in node]
    return {clean(key): _cleaned(each) for key, each in node.items()} if isinstance(node, dict) else node
