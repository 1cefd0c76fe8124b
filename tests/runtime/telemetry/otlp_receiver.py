"""A collector for tests: takes OTLP over real HTTP, decodes it, and keeps every byte that it was sent."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from microturn.runtime.telemetry.span_record import SpanEvent, SpanLink, SpanRecord, Value

_STATUS = {0: "unset", 1: "ok", 2: "error"}


class Collector:
    """What has been received so far. Read it from any thread."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[bytes] = []
        """Every request as it came, decompressed."""
        self.spans: list[SpanRecord] = []
        self.metrics: list[Metric] = []
        self.logs: list[LogRecord] = []
        self.status = 200
        """What requests are answered with."""
        self.delay_s = 0.0
        """How long an answer takes."""

    def take(self, path: str, body: bytes) -> None:
        """Decode one request."""
        self.bodies.append(body)
        if path == "/v1/traces":
            self.spans.extend(_spans(ExportTraceServiceRequest.FromString(body)))
        elif path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope in resource.scope_metrics:
                    self.metrics.extend(scope.metrics)
        elif path == "/v1/logs":
            for logs in ExportLogsServiceRequest.FromString(body).resource_logs:
                for each in logs.scope_logs:
                    self.logs.extend(each.log_records)
        else:
            raise AssertionError(f"nothing is sent to {path}")

    def named(self, name: str) -> list[SpanRecord]:
        """Spans of one name, in the order in which they began."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_ns)

    def until(self, condition: Callable[[], object], within_s: float = 20.0) -> None:
        """Wait until something is true. Blocks."""
        until_s = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < until_s, sorted({span.name for span in self.spans})
            time.sleep(0.02)


@contextmanager
def collector() -> Iterator[Collector]:
    """Receive on the loopback interface until the end of the block."""
    received = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            time.sleep(received.delay_s)
            if received.status == 200:
                received.take(self.path, body)
            self.send_response(received.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    received.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _spans(request: ExportTraceServiceRequest) -> Iterator[SpanRecord]:
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope in resource_spans.scope_spans:
            for span in scope.spans:
                yield SpanRecord(
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent=span.parent_span_id.hex() or None,
                    links=tuple(
                        SpanLink(link.trace_id.hex(), link.span_id.hex(), _attributes(link.attributes))
                        for link in span.links
                    ),
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    status=_STATUS[span.status.code],  # type: ignore[arg-type]  # one of the three words
                    attributes=_attributes(span.attributes),
                    events=tuple(
                        SpanEvent(event.name, event.time_unix_nano, _attributes(event.attributes))
                        for event in span.events
                    ),
                    resource=resource,
                )


def _attributes(pairs: object) -> dict[str, Value]:
    return {pair.key: _value(pair.value) for pair in _pairs(pairs)}


def _pairs(pairs: object) -> Iterator[KeyValue]:
    yield from pairs  # type: ignore[misc]  # a repeated field of protobuf, which has no type of its own here


def _value(value: AnyValue) -> Value:
    kind = value.WhichOneof("value")
    assert kind is not None
    if kind == "array_value":
        return [str(_value(each)) for each in value.array_value.values]
    found: Value = getattr(value, kind)
    return found
