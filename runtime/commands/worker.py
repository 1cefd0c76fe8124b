"""`microturn worker`: a background worker as a process of its own."""

from __future__ import annotations

import functools
import json
import signal
import sys
from contextlib import AbstractAsyncContextManager
from typing import Annotated

import anyio
import typer

from microturn.background_agent import die_with_parent
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.commands.complaint import complain
from microturn.runtime.commands.options import (
    ModelKey,
    ModelName,
    ModelUrl,
    RedisUrl,
    Shards,
    Tenant,
    choose_model_by,
)
from microturn.runtime.commands.telemetry_options import MetricsPort, Trace
from microturn.runtime.hub import settings_of
from microturn.runtime.telemetry.process_telemetry import (
    WORKER_SERVICE,
    ProcessTelemetry,
    process_telemetry,
)
from microturn.runtime.worker_service import open_ready_engine, serve
from microturn.tools import ToolRegistry


def worker(
    redis: RedisUrl = None,
    tenant: Tenant = "default",
    shards: Shards = 1,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Tasks at a time.")] = 2,
    urgent_lanes: Annotated[
        int, typer.Option(min=0, max=64, help="Tasks at a time besides those, urgent ones only.")
    ] = 1,
    model_url: ModelUrl = None,
    model: ModelName = None,
    model_key: ModelKey = None,
    trace: Trace = False,
    metrics_port: MetricsPort = None,
    parent: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    """Run a background worker: it takes delegated tasks from Redis and works on them.

    SIGTERM lets it finish what runs and take nothing more.
    """
    if redis is None:
        raise typer.BadParameter("a worker needs the server that the runtime uses: --redis URL")
    if parent:
        die_with_parent(parent)
    choose_model_by(model_url, model, model_key)
    settings = settings_of(redis, tenant=tenant, shards=shards)
    telemetry = process_telemetry(WORKER_SERVICE, trace=trace, metrics_port=metrics_port, say=_say)
    anyio.run(_work, settings, telemetry, concurrency, urgent_lanes)


def _say(text: str) -> None:
    """Tell the operator something, beside the lines of JSON for programs."""
    typer.echo(f"microturn: {text}", err=True)


async def _work(
    settings: BusSettings,
    telemetry: AbstractAsyncContextManager[ProcessTelemetry],
    concurrency: int,
    urgent_lanes: int,
) -> None:
    tools = ToolRegistry.from_entry_points()
    for name, problem in tools.broken.items():
        complain(f"the tool plugin {name} was left out: {problem}")
    for name, problem in tools.left_out.items():
        complain(f"the tool {name} was left out: {problem}")

    def ready(measured: ProcessTelemetry) -> None:
        measured.begin()
        typer.echo(json.dumps({"ready": True, "tools": len(tools.specs()), "concurrency": concurrency}))
        sys.stdout.flush()

    async with telemetry as measured, measured.queue(settings):
        await serve(
            settings,
            open_ready_engine,
            tools,
            concurrency=concurrency,
            urgent_lanes=urgent_lanes,
            on_ready=functools.partial(ready, measured),
            drain_on=(signal.SIGTERM, signal.SIGINT),
        )
