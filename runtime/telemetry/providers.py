"""The OpenTelemetry SDK, put together: providers, where they send to, and how they end.

Only `setup` imports this, because the SDK is an extra.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final
from uuid import uuid4

from opentelemetry import metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from microturn._version import __version__
from microturn.runtime.telemetry.conversation_processor import ConversationProcessor
from microturn.runtime.telemetry.exporters import ConsoleSpanExporter, FileSpanExporter
from microturn.runtime.telemetry.logs import own_logs_to
from microturn.runtime.telemetry.otlp import LogSender, MetricSender, SpanSender
from microturn.runtime.telemetry.prometheus import metrics_endpoint
from microturn.runtime.telemetry.redaction import RedactingExporter
from microturn.runtime.telemetry.sampling import DelegationSampler, TaskIdGenerator
from microturn.runtime.telemetry.settings import TelemetrySettings
from microturn.runtime.telemetry.span_record import SpanFiles

BATCH_SPANS: Final = 64
"""Most spans in one batch: a larger one holds the interpreter for tens of milliseconds at a time.

Source: 512 spans took 20 ms of processor time to encode, measured; the share of the beat that it may take is our
choice.
"""
EVERY_MS: Final = 500
"""How long an ended span waits at most before it is sent on: what a process that is killed loses. Our choice."""
END_LIMIT_S: Final = 2.0
"""How long the end waits for what is left to be sent."""
_SDK_LOGGERS: Final = ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal")
"""What says of every single batch that no collector took it; `otlp.ExportWatch` says it once."""


@contextmanager
def open_providers(settings: TelemetrySettings) -> Iterator[None]:
    """Make this process's providers until the end of the block.

    Raises:
        UserError: the port for Prometheus is taken.
    """
    resource = _resource(settings)
    endings: list[Callable[[], None]] = []
    with ExitStack() as stack:
        stack.enter_context(_quiet_sdk())
        stack.callback(_end_within, END_LIMIT_S, endings)
        if settings.has_traces:
            spans = _tracer_provider(settings, resource)
            trace.set_tracer_provider(spans)
            endings.append(spans.shutdown)
        if settings.has_metrics:
            figures = MeterProvider(_readers(settings, stack), resource, shutdown_on_exit=False)
            metrics.set_meter_provider(figures)
            endings.append(figures.shutdown)
        if "logs" in settings.sent:
            records = LoggerProvider(resource, shutdown_on_exit=False)
            records.add_log_record_processor(BatchLogRecordProcessor(LogSender()))
            endings.append(records.shutdown)
            stack.enter_context(own_logs_to(records))
        yield


def _resource(settings: TelemetrySettings) -> Resource:
    """What records: the operator's own attributes, and for the rest what this process is."""
    return Resource.create(
        {
            "service.name": os.environ.get("OTEL_SERVICE_NAME") or settings.service,
            "service.version": __version__,
            "service.instance.id": uuid4().hex,
            "process.pid": os.getpid(),
        }
    )


def _tracer_provider(settings: TelemetrySettings, resource: Resource) -> TracerProvider:
    others = TracerProvider(shutdown_on_exit=False).sampler  # reads OTEL_TRACES_SAMPLER
    provider = TracerProvider(
        DelegationSampler(others), resource, shutdown_on_exit=False, id_generator=TaskIdGenerator()
    )
    provider.add_span_processor(ConversationProcessor())
    for exporter in _span_exporters(settings):
        provider.add_span_processor(
            BatchSpanProcessor(
                RedactingExporter(exporter), schedule_delay_millis=EVERY_MS, max_export_batch_size=BATCH_SPANS
            )
        )
    return provider


def _span_exporters(settings: TelemetrySettings) -> Iterator[SpanExporter]:
    if settings.folder is not None:
        yield FileSpanExporter(SpanFiles(settings.folder))
    if "traces" in settings.sent:
        yield SpanSender()
    if settings.console:
        yield ConsoleSpanExporter()


def _readers(settings: TelemetrySettings, stack: ExitStack) -> list[MetricReader]:
    readers: list[MetricReader] = []
    if settings.metrics_port is not None:
        readers.append(stack.enter_context(metrics_endpoint(settings.metrics_port)))
    if "metrics" in settings.sent:
        readers.append(PeriodicExportingMetricReader(MetricSender()))
    return readers


@contextmanager
def _quiet_sdk() -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in _SDK_LOGGERS}
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _end_within(limit_s: float, endings: Sequence[Callable[[], None]]) -> None:
    """Let providers send what is left, for so long at most; their threads do not keep the process alive."""
    until_s = time.monotonic() + limit_s
    threads = [threading.Thread(target=end, name="telemetry end", daemon=True) for end in endings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until_s - time.monotonic()))
