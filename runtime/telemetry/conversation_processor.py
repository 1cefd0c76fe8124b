"""Gives every span the conversation of the span that it is part of, by which viewers put a conversation together."""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import get_current_span

from microturn.protocols import telemetry_names as names


class ConversationProcessor(SpanProcessor):
    """Copies `gen_ai.conversation.id` from parent to child within a process, for the spans of libraries too."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Look at the parent of a span that begins."""
        parent = get_current_span(parent_context)
        if not isinstance(parent, ReadableSpan) or parent.attributes is None:
            return
        conversation = parent.attributes.get(names.CONVERSATION_ID)
        if conversation is not None and names.CONVERSATION_ID not in (span.attributes or {}):
            span.set_attribute(names.CONVERSATION_ID, conversation)
