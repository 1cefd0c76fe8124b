"""Where ended spans go on this machine: to files, and to standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import cast

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.util.types import AttributeValue

from microturn.runtime.telemetry.span_record import (
    SpanEvent,
    SpanFiles,
    SpanLink,
    SpanRecord,
    SpanStatus,
    Value,
)

_log = logging.getLogger(__name__)


class FileSpanExporter(SpanExporter):
    """Keeps spans on this disk. Runs on the thread that exports."""

    def __init__(self, files: SpanFiles) -> None:
        self._files = files
        self._has_failed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write a batch; a disk that refuses is said once."""
        try:
            self._files.write(_recorded(span) for span in spans)
        except OSError as error:
            if not self._has_failed:
                _log.warning("Spans cannot be kept in %s: %s.", self._files.folder, error.strerror)
            self._has_failed = True
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS


class ConsoleSpanExporter(SpanExporter):
    """Writes one line for each span to standard error."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write a batch."""
        for span in map(_recorded, spans):
            error = " error" if span.status == "error" else ""
            parts = f"{span.trace_id} {span.span_id} {span.parent or '-':16} {span.duration_ms:10.1f} ms"
            sys.stderr.write(f"{parts}  {span.name}{error}\n")
        sys.stderr.flush()
        return SpanExportResult.SUCCESS


def _recorded(span: ReadableSpan) -> SpanRecord:
    assert span.context is not None
    return SpanRecord(
        name=span.name,
        trace_id=f"{span.context.trace_id:032x}",
        span_id=f"{span.context.span_id:016x}",
        parent=None if span.parent is None else f"{span.parent.span_id:016x}",
        links=tuple(
            SpanLink(f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}", _plain(link.attributes))
            for link in span.links
        ),
        start_ns=span.start_time or 0,
        end_ns=span.end_time or span.start_time or 0,
        status=cast(SpanStatus, span.status.status_code.name.lower()),
        attributes=_plain(span.attributes),
        events=tuple(
            SpanEvent(event.name, event.timestamp, _plain(event.attributes)) for event in span.events
        ),
        resource=_plain(span.resource.attributes),
        kind=span.kind.name.lower(),
    )


def _plain(attributes: Mapping[str, AttributeValue] | None) -> dict[str, Value]:
    return {
        name: list(value) if isinstance(value, tuple) else cast(Value, value)
        for name, value in (attributes or {}).items()
    }
