"""Sends spans, metrics and logs to a collector over OTLP and HTTP, and tells once when it does not take them.

Addresses, headers and certificates come from the standard variables of OpenTelemetry. All of it runs on threads that
export and nothing else, so that a collector that is away or slow costs what it misses and no time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any, Final

from opentelemetry import metrics
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from microturn.protocols import telemetry_names as names
from microturn.runtime.telemetry.settings import Signal

TIMEOUT_S: Final = 3.0
"""How long one batch is tried, repetitions included, unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise. Our choice."""

_log = logging.getLogger(__name__)
_failed_exports = metrics.get_meter("microturn.runtime").create_counter(names.FAILED_EXPORTS, "{batch}")


class ExportWatch:
    """Tells once that a collector does not take what it is sent, and once that it does again."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self._is_away = False

    def note(self, *, is_taken: bool) -> None:
        """Note how one batch fared."""
        if not is_taken:
            _failed_exports.add(1, {names.SIGNAL: self._signal})
        if is_taken != self._is_away:
            return
        self._is_away = not is_taken
        if is_taken:
            _log.warning("The collector takes %s again.", self._signal)
        else:
            _log.warning(
                "The collector does not take %s; what it misses is dropped, and nothing waits for it. Look at the "
                "address in OTEL_EXPORTER_OTLP_ENDPOINT.",
                self._signal,
            )


class SpanSender(OTLPSpanExporter):
    """Sends spans."""

    def __init__(self) -> None:
        super().__init__(timeout=_timeout_s())
        self._watch = ExportWatch("traces")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        result = super().export(spans)
        self._watch.note(is_taken=result is SpanExportResult.SUCCESS)
        return result


class MetricSender(OTLPMetricExporter):
    """Sends metrics."""

    def __init__(self) -> None:
        super().__init__(timeout=_timeout_s())
        self._watch = ExportWatch("metrics")

    def export(
        self,
        metrics_data: MetricsData,
        timeout_millis: float | None = 10_000,
        **kwargs: Any,  # the SDK's own signature
    ) -> MetricExportResult:
        """Send what was measured."""
        result = super().export(metrics_data, timeout_millis, **kwargs)
        self._watch.note(is_taken=result is MetricExportResult.SUCCESS)
        return result


class LogSender(OTLPLogExporter):
    """Sends log records."""

    def __init__(self) -> None:
        super().__init__(timeout=_timeout_s())
        self._watch = ExportWatch("logs")

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Send a batch."""
        result = super().export(batch)
        self._watch.note(is_taken=result is LogRecordExportResult.SUCCESS)
        return result


def _timeout_s() -> float | None:
    """Our limit; None has the exporter read the operator's."""
    return None if any("OTLP" in name and name.endswith("_TIMEOUT") for name in os.environ) else TIMEOUT_S
