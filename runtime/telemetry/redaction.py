"""Keeps what was said out of the spans of libraries, which record errors, addresses and messages as they come.

Our own spans hold nothing of the kind by the way they are made. Of any other span only numbers, and words under names
that are known to be harmless, are let through, unless content is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Status
from opentelemetry.util.types import AttributeValue

from microturn.background_agent.tracing import is_content_wanted
from microturn.protocols import telemetry_names as names

OWN_SCOPES: Final = "microturn"
_HARMLESS: Final = frozenset(
    {
        names.AGENT_NAME,
        names.CONVERSATION_ID,
        names.ERROR_TYPE,
        names.FINISH_REASONS,
        names.MESSAGE_ID,
        names.MESSAGING_OPERATION,
        names.MESSAGING_SYSTEM,
        names.OPERATION_NAME,
        names.PROVIDER_NAME,
        names.REQUEST_MODEL,
        names.TOOL_CALL_ID,
        names.TOOL_NAME,
        "exception.type",
        "gen_ai.response.model",
        "http.method",
        "http.request.method",
        "jsonrpc.request.id",
        "mcp.method.name",
        "mcp.protocol.version",
        "network.protocol.version",
        "network.transport",
        "rpc.method",
        "rpc.system",
        "server.address",
        "url.scheme",
    }
)
"""Attributes that hold words and never what somebody said."""


class RedactingExporter(SpanExporter):
    """Hands spans on to another exporter without what was said."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand a batch on."""
        return self._exporter.export(spans if is_content_wanted() else [_redacted(span) for span in spans])

    def shutdown(self) -> None:
        """End the other exporter, which gives up what it repeats."""
        self._exporter.shutdown()


def _redacted(span: ReadableSpan) -> ReadableSpan:
    scope = span.instrumentation_scope
    if scope is not None and scope.name.split(".")[0] == OWN_SCOPES:
        return span
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_harmless(span.attributes),
        events=[Event(event.name, _harmless(event.attributes), event.timestamp) for event in span.events],
        links=[Link(link.context, _harmless(link.attributes)) for link in span.links],
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=scope,
    )


def _harmless(attributes: Mapping[str, AttributeValue] | None) -> dict[str, AttributeValue]:
    return {
        name: value
        for name, value in (attributes or {}).items()
        if name in _HARMLESS or isinstance(value, bool | int | float)
    }
