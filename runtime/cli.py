"""The command line: `microturn talk`, `worker`, `doctor`, `session`, `bus`, `weights`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Annotated

import anyio
import anyio.to_thread
import typer
from rich.console import Console

from microturn import __version__
from microturn.background_agent import LARGE_MODEL, choose_model, die_with_parent
from microturn.interaction_model import InteractionModel
from microturn.protocols import MicroturnError, SessionLedger
from microturn.runtime.assistant import bus_settings, load_speech, require_speech_weights
from microturn.runtime.bus import open_delegation_port
from microturn.runtime.bus.access import access_rules
from microturn.runtime.bus.own_tasks import own_tasks
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.conversation import Conversation, Setting
from microturn.runtime.doctor import NEEDED_WEIGHTS, examine, report
from microturn.runtime.garbage import tame_garbage_collector
from microturn.runtime.hub import open_hub, settings_of
from microturn.runtime.live_view import LiveView, PlainView, open_view
from microturn.runtime.session_report import table, transcript
from microturn.runtime.worker_service import open_ready_engine, serve, worker_process
from microturn.tools import ToolRegistry
from microturn.weights import WEIGHTS, WeightError, fetch, locate

app = typer.Typer(
    name="microturn",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="An open runtime for voice assistants that never stop listening.",
)
weights_app = typer.Typer(no_args_is_help=True, help="List and fetch the model files.")
app.add_typer(weights_app, name="weights")
session_app = typer.Typer(no_args_is_help=True, help="Look into the sessions that the bus remembers.")
app.add_typer(session_app, name="session")
bus_app = typer.Typer(no_args_is_help=True, help="Set up a Redis or Valkey server that is shared.")
app.add_typer(bus_app, name="bus")

GROUPS = {"speech": NEEDED_WEIGHTS, "agent": (LARGE_MODEL,)}
"""Names that stand for several files."""

RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis",
        envvar="MICROTURN_REDIS_URL",
        help="Redis 7 or Valkey 7.2 by URL: redis://, rediss://, unix://, redis+cluster://HOST:PORT,HOST:PORT or "
        "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE; built in without.",
    ),
]
Tenant = Annotated[
    str,
    typer.Option(envvar="MICROTURN_TENANT", help="Whose part of the server it is; tenants never meet."),
]
Shards = Annotated[
    int,
    typer.Option(
        envvar="MICROTURN_SHARDS",
        min=1,
        max=99,
        help="Over how many hash slots sessions are spread; the same in every process of a bus.",
    ),
]
ModelUrl = Annotated[
    str | None,
    typer.Option(
        "--model-url", envvar="MICROTURN_MODEL_URL", help="OpenAI-compatible endpoint that reasons."
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option("--model", envvar="MICROTURN_MODEL", help="Name of the reasoning model."),
]
ModelKey = Annotated[
    str | None,
    typer.Option(
        "--model-key", envvar="MICROTURN_MODEL_KEY", help="Key of the endpoint.", show_default=False
    ),
]


def main() -> None:
    """Run the command line; errors that the user can mend are one sentence, not a traceback."""
    try:
        app()
    except MicroturnError as error:
        complain(str(error))
        sys.exit(1)


def complain(text: str) -> None:
    """Show a sentence on standard error, unbroken, so that a command in it can be copied."""
    console = Console(stderr=True)
    console.print(f"microturn: {text}", style="red", markup=False, highlight=False, soft_wrap=True)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Show the version."""
    if show:
        typer.echo(f"microturn {__version__}")
        raise typer.Exit


@app.command()
def talk(
    input: Annotated[
        Path | None,
        typer.Option(
            help="A recording of the person's side (wav, flac, ogg, mp3) instead of the microphone."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Record both sides in stereo: the person left, the assistant right."),
    ] = None,
    timeline: Annotated[
        Path | None,
        typer.Option(help="Draw what happened, as a PNG."),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Virtual clock: as quick as the machine.")] = False,
    text: Annotated[bool, typer.Option("--text", help="Type instead of speaking.")] = False,
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Start no worker here; one is running elsewhere.")
    ] = False,
    session: Annotated[
        str | None,
        typer.Option(help="Name the session; one whose process died goes on where it was cut off."),
    ] = None,
    redis: RedisUrl = None,
    tenant: Tenant = "default",
    shards: Shards = 1,
    model_url: ModelUrl = None,
    model: ModelName = None,
    model_key: ModelKey = None,
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
    _choose_model(model_url, model, model_key)
    setting = Setting(input, output, timeline, fast, sys.stdin if text else None, session)
    setting.check()
    require_speech_weights()
    if not no_worker:
        choose_model(os.environ)
    view = open_view(console, "microturn")
    conversation = Conversation(setting, [view])
    bus = bus_settings(redis, tenant=tenant, shards=shards)
    try:
        is_over = anyio.run(_talk_until_stopped, conversation, bus, not no_worker, console, view)
    except KeyboardInterrupt:
        is_over = False
    if not is_over:
        console.print("stopped")
    _tell_end(conversation, console)


async def _talk_until_stopped(
    conversation: Conversation,
    bus: AbstractAsyncContextManager[BusSettings],
    has_worker: bool,
    console: Console,
    view: LiveView | PlainView,
) -> bool:
    """Talk until it is over (true) or SIGTERM ends it as Ctrl-C does, also where that is ignored (false)."""
    is_over = False
    async with own_tasks() as tasks:
        tasks.start_soon(_cancel_on_sigterm, tasks.cancel_scope, name="signals")
        await _talk(conversation, bus, has_worker, console, view)
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
    bus: AbstractAsyncContextManager[BusSettings],
    has_worker: bool,
    console: Console,
    view: LiveView | PlainView,
) -> None:
    async with AsyncExitStack() as stack:
        with console.status("starting the server") as status:
            settings = await stack.enter_async_context(bus)
            hub = await stack.enter_async_context(open_hub(settings))
            status.update("loading the ears and the voice")
            model: InteractionModel = await anyio.to_thread.run_sync(load_speech)
            stack.callback(model.close)
            if has_worker:
                status.update("loading the background agent")
                await stack.enter_async_context(worker_process(settings))
                await hub.until_worker()
        tame_garbage_collector()
        with view:
            await conversation.hold(model, hub)


def _choose_model(url: str | None, model: str | None, key: str | None) -> None:
    """Put the choice of model where the worker looks for it; a key is never an argument that others can read."""
    named = {"MICROTURN_MODEL_URL": url, "MICROTURN_MODEL": model, "MICROTURN_MODEL_KEY": key}
    os.environ.update({name: value for name, value in named.items() if value is not None})


@app.command()
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
    parent: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    """Run a background worker: it takes delegated tasks from Redis and works on them.

    SIGTERM lets it finish what runs and take nothing more.
    """
    if redis is None:
        raise typer.BadParameter("a worker needs the server that the runtime uses: --redis URL")
    if parent:
        die_with_parent(parent)
    _choose_model(model_url, model, model_key)
    anyio.run(_work, settings_of(redis, tenant=tenant, shards=shards), concurrency, urgent_lanes)


async def _work(settings: BusSettings, concurrency: int, urgent_lanes: int) -> None:
    tools = ToolRegistry.from_entry_points()
    for name, problem in tools.broken.items():
        complain(f"the tool plugin {name} was left out: {problem}")

    def ready() -> None:
        typer.echo(json.dumps({"ready": True, "tools": len(tools.specs()), "concurrency": concurrency}))
        sys.stdout.flush()

    await serve(
        settings,
        open_ready_engine,
        tools,
        concurrency=concurrency,
        urgent_lanes=urgent_lanes,
        on_ready=ready,
        drain_on=(signal.SIGTERM, signal.SIGINT),
    )


@app.command()
def doctor(redis: RedisUrl = None, model_url: ModelUrl = None) -> None:
    """Say what is installed, what is missing, and how to mend it."""
    findings = anyio.run(lambda: examine(redis_url=redis, model_url=model_url))
    raise typer.Exit(report(Console(), findings))


@session_app.command("show")
def show_session(
    session: Annotated[str, typer.Argument(help="The session's id.")],
    words: Annotated[bool, typer.Option("--words", help="Also what was asked and answered.")] = False,
    redis: RedisUrl = None,
    tenant: Tenant = "default",
    shards: Shards = 1,
) -> None:
    """Show what a session was promised, and what of it the user has heard. Changes nothing."""
    ledger = anyio.run(_read_ledger, session, bus_settings(redis, tenant=tenant, shards=shards))
    console = Console()
    console.print(table(ledger, round(time.time() * 1000)))
    if words:
        for line in transcript(ledger):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


async def _read_ledger(session_id: str, bus: AbstractAsyncContextManager[BusSettings]) -> SessionLedger:
    async with bus as settings, open_delegation_port(settings) as port:
        return await port.ledger(session_id)


@bus_app.command("rules")
def show_rules(tenant: Annotated[str, typer.Argument(help="The tenant that is to be let in.")]) -> None:
    """Print what a tenant's user of a shared server may do, for `ACL SETUSER NAME on >PASSWORD RULES`."""
    typer.echo(access_rules(tenant))


@weights_app.command("list")
def list_weights() -> None:
    """List the model files, their sizes and licences, and which are here."""
    for name, file in WEIGHTS.items():
        typer.echo(f"{name:<20}{file.size_bytes / 1e6:8,.1f} MB  {file.licence:<14}{_where(name)}")


def _where(name: str) -> str:
    try:
        return str(locate(name))
    except WeightError:
        return "not here"


@weights_app.command("fetch")
def fetch_weights(
    names: Annotated[list[str], typer.Argument(help=f"Names, or a group: {', '.join(GROUPS)}.")],
) -> None:
    """Fetch model files into the cache, check them, and say where they are."""
    console = Console(stderr=True)
    for name in _expanded(names):
        fetch(name, console=console)


def _expanded(names: Iterable[str]) -> list[str]:
    return [each for name in names for each in GROUPS.get(name, (name,))]


if __name__ == "__main__":
    main()
