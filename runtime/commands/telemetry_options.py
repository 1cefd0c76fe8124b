"""Options by which commands are asked for telemetry."""

from __future__ import annotations

from typing import Annotated

import typer

Trace = Annotated[
    bool,
    typer.Option(
        "--trace",
        help="Keep traces in the state folder and show them in a local viewer, or send them where "
        "OTEL_EXPORTER_OTLP_ENDPOINT says.",
    ),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        envvar="MICROTURN_METRICS_PORT",
        min=0,
        max=65_534,
        help="Serve metrics for Prometheus on this port of the loopback interface; a worker that this starts, on the "
        "next one.",
    ),
]
