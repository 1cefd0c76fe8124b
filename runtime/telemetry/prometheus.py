"""The endpoint at which Prometheus finds the metrics of a process: `/metrics` on the loopback interface."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from prometheus_client import CollectorRegistry, start_http_server

from microturn.protocols import UserError

LOOPBACK = "127.0.0.1"

_log = logging.getLogger(__name__)


@contextmanager
def metrics_endpoint(port: int) -> Iterator[PrometheusMetricReader]:
    """Serve metrics until the end of the block, on a thread; yields the reader that a provider needs for it.

    Args:
        port: the port; 0 has the system choose one, which is logged.

    Raises:
        UserError: the port is taken.
    """
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(registry=registry, scope_info_enabled=False)
    try:
        server, thread = start_http_server(port, addr=LOOPBACK, registry=registry)
    except OSError as error:
        raise UserError(
            f"cannot serve metrics on port {port} of {LOOPBACK}: {error.strerror}; choose another --metrics-port"
        ) from None
    _log.info("Metrics are at http://%s:%d/metrics.", LOOPBACK, server.server_port)
    try:
        yield reader
    finally:
        server.shutdown()
        server.server_close()
        thread.join(1.0)
