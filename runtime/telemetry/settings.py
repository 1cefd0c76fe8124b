"""What telemetry a process is to have, read from the standard variables of OpenTelemetry and two of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self, TypeAlias

from microturn.protocols import UserError
from microturn.runtime.telemetry.span_record import traces_folder

TRACE_VARIABLE: Final = "MICROTURN_TRACE"
"""Set to 1, it has spans kept on this disk, and sent where the standard variables say."""
METRICS_PORT_VARIABLE: Final = "MICROTURN_METRICS_PORT"
"""A port of this machine at which Prometheus finds the metrics."""
ENDPOINT_VARIABLE: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT_VARIABLE: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"

Signal: TypeAlias = Literal["traces", "metrics", "logs"]
SIGNALS: Final[tuple[Signal, ...]] = ("traces", "metrics", "logs")


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """Which telemetry is wanted, and where it goes."""

    service: str
    """`service.name`, unless `OTEL_SERVICE_NAME` says another."""
    sent: frozenset[Signal] = frozenset()
    """Signals that go to a collector over OTLP, whose address the exporters read from the environment."""
    console: bool = False
    """Whether spans are written to standard error, one line each."""
    folder: Path | None = None
    """Where ended spans are kept; None keeps none."""
    metrics_port: int | None = None
    """Port on the loopback interface for Prometheus; 0 has the system choose one."""

    @property
    def is_wanted(self) -> bool:
        """Whether there is anything to do at all."""
        return bool(self.sent or self.console or self.folder is not None or self.metrics_port is not None)

    @property
    def has_traces(self) -> bool:
        """Whether spans go anywhere."""
        return "traces" in self.sent or self.console or self.folder is not None

    @property
    def has_metrics(self) -> bool:
        """Whether figures go anywhere."""
        return "metrics" in self.sent or self.metrics_port is not None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], service: str) -> Self:
        """Read what the environment asks for.

        `OTEL_SDK_DISABLED=true` turns everything off, `OTEL_TRACES_EXPORTER` and its likes one signal (`none`), or
        send spans to standard error (`console`).

        Raises:
            UserError: the port for the metrics is no port.
        """
        if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            return cls(service)
        sent = frozenset(signal for signal in SIGNALS if _is_sent(environment, signal))
        console = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "console"
        is_traced = environment.get(TRACE_VARIABLE) == "1" or "traces" in sent or console
        return cls(
            service,
            sent=sent,
            console=console,
            folder=traces_folder() if is_traced else None,
            metrics_port=_port(environment.get(METRICS_PORT_VARIABLE)),
        )


def _is_sent(environment: Mapping[str, str], signal: Signal) -> bool:
    exporter = environment.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp").strip().lower()
    addresses = (ENDPOINT_VARIABLE, f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    return exporter == "otlp" and any(environment.get(name) for name in addresses)


def _port(value: str | None) -> int | None:
    if not value:
        return None
    if not value.isdecimal() or int(value) > 65_535:
        raise UserError(f"{METRICS_PORT_VARIABLE} must be a port from 0 to 65535, got {value!r}")
    return int(value)
