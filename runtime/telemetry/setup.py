"""Opens telemetry for a process: the one way to the OpenTelemetry SDK, which is an extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from microturn.runtime._errors import MissingExtraError
from microturn.runtime.telemetry.settings import TelemetrySettings


@contextmanager
def open_telemetry(settings: TelemetrySettings) -> Iterator[None]:
    """Record and send telemetry until the end of the block, which sends what is left for two seconds at most.

    To be opened once in a process, by its program. Where nothing is wanted it does nothing. A collector that is away
    or slow holds nobody up: it is said once, and what it did not take is dropped.

    Raises:
        MissingExtraError: telemetry is wanted and the SDK is not installed.
        UserError: the port for Prometheus is taken.
    """
    if not settings.is_wanted:
        yield
        return
    try:
        from microturn.runtime.telemetry.providers import open_providers
    except ImportError as error:
        raise MissingExtraError("opentelemetry-sdk", "telemetry", "tracing and measuring") from error
    with open_providers(settings):
        yield
