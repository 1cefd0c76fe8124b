"""`microturn talk`: a conversation by microphone, from a recording, or in writing."""

from __future__ import annotations

import functools
import os
import signal
import sys
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Annotated

import anyio
import anyio.to_thread
import typer
from rich.console import Console

from microturn.background_agent import choose_model
from microturn.interaction_model import InteractionModel
from microturn.runtime.assistant import bus_settings
from microturn.runtime.bus.own_tasks import own_tasks
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.commands.options import (
    ModelKey,
    ModelNames,
    ModelUrl,
    ModelWeights,
    RedisUrl,
    Shards,
    Tenant,
    choose_model_by,
    split_models,
)
from microturn.runtime.commands.telemetry_options import MetricsPort, Trace
from microturn.runtime.conversation import Conversation, Setting
from microturn.runtime.garbage import tame_garbage_collector
from microturn.runtime.hub import open_hub
from microturn.runtime.interaction_models import ModelChoice, choose_interaction_model
from microturn.runtime.live_view import LiveView, PlainView, open_view
from microturn.runtime.telemetry.process_telemetry import (
    RUNTIME_SERVICE,
    ProcessTelemetry,
    process_telemetry,
)
from microturn.runtime.worker_service import worker_process

Input = Annotated[
    Path | None,
    typer.Option(help="A recording of the person's side (wav, flac, ogg, mp3) instead of the microphone."),
]
Output = Annotated[
    Path | None, typer.Option(help="Record both sides in stereo: the person left, the assistant right.")
]
Timeline = Annotated[Path | None, typer.Option(help="Draw what happened, as a PNG.")]
Fast = Annotated[bool, typer.Option("--fast", help="Virtual clock: as quick as the machine.")]
Typed = Annotated[bool, typer.Option("--text", help="Type instead of speaking.")]
NoWorker = Annotated[
    bool, typer.Option("--no-worker", help="Start no worker here; one is running elsewhere.")
]
SessionName = Annotated[
    str | None, typer.Option(help="Name the session; one whose process died goes on where it was cut off.")
]


def talk(
    input: Input = None,
    output: Output = None,
    timeline: Timeline = None,
    fast: Fast = False,
    text: Typed = False,
    no_worker: NoWorker = False,
    session: SessionName = None,
    redis: RedisUrl = None,
    tenant: Tenant = "default",
    shards: Shards = 1,
    model_url: ModelUrl = None,
    model: ModelNames = None,
    weights: ModelWeights = None,
    model_key: ModelKey = None,
    trace: Trace = False,
    metrics_port: MetricsPort = None,
) -> None:
    """Talk with the assistant: by microphone, from a recording, or in writing.

    Use headphones with the microphone: without them the assistant hears itself. Ctrl-C ends the conversation; the
    recording and the timeline are written all the same.
    """
    if text and input is not None:
        raise typer.BadParameter("--text and --input exclude each other: type, or play a recording")
    if fast and input is None:
        raise typer.BadParameter("--fast needs --input: a person cannot speak faster than time")
    console = Console()
    name, reasoning = split_models(model or ())
    choice = choose_interaction_model(name, weights)
    choose_model_by(model_url, reasoning, model_key)
    setting = Setting(input, output, timeline, fast, sys.stdin if text else None, session)
    setting.check()
    choice.require()
    if not no_worker:
        choose_model(os.environ)
    view = open_view(console, "microturn")
    conversation = Conversation(setting, [view])
    bus = bus_settings(redis, tenant=tenant, shards=shards)
    telemetry = process_telemetry(
        RUNTIME_SERVICE,
        trace=trace,
        metrics_port=metrics_port,
        say=functools.partial(console.print, soft_wrap=True, markup=False),
    )
    try:
        is_over = anyio.run(
            _talk_until_stopped, conversation, choice, bus, telemetry, not no_worker, console, view
        )
    except KeyboardInterrupt:
        is_over = False
    if not is_over:
        console.print("stopped")
    _tell_end(conversation, console)


async def _talk_until_stopped(
    conversation: Conversation,
    choice: ModelChoice,
    bus: AbstractAsyncContextManager[BusSettings],
    telemetry: AbstractAsyncContextManager[ProcessTelemetry],
    has_worker: bool,
    console: Console,
    view: LiveView | PlainView,
) -> bool:
    """Talk until it is over (true) or SIGTERM ends it as Ctrl-C does, also where that is ignored (false)."""
    is_over = False
    async with own_tasks() as tasks:
        tasks.start_soon(_cancel_on_sigterm, tasks.cancel_scope, name="signals")
        await _talk(conversation, choice, bus, telemetry, has_worker, console, view)
        is_over = True
    return is_over


async def _cancel_on_sigterm(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM) as received:
        async for _ in received:
            scope.cancel()


def _tell_end(conversation: Conversation, console: Console) -> None:
    for warning in conversation.warnings:
        console.print(warning, style="yellow")
    console.print(conversation.summary.table())
    for path in (conversation.setting.output, conversation.setting.timeline):
        if path is not None and path.exists():
            console.print(f"written: {path}", soft_wrap=True, markup=False)


async def _talk(
    conversation: Conversation,
    choice: ModelChoice,
    bus: AbstractAsyncContextManager[BusSettings],
    telemetry: AbstractAsyncContextManager[ProcessTelemetry],
    has_worker: bool,
    console: Console,
    view: LiveView | PlainView,
) -> None:
    async with AsyncExitStack() as stack:
        measured = await stack.enter_async_context(telemetry)
        with console.status("starting the server") as status:
            settings = await stack.enter_async_context(bus)
            hub = await stack.enter_async_context(open_hub(settings))
            status.update("loading the ears and the voice")
            model: InteractionModel = await anyio.to_thread.run_sync(choice.load)
            stack.callback(model.close)
            if has_worker:
                status.update("loading the background agent")
                await stack.enter_async_context(worker_process(settings))
                await hub.until_worker()
        tame_garbage_collector()
        with view, measured.session(conversation.session_id) as observers:
            await conversation.hold(model, hub, observers=observers)
