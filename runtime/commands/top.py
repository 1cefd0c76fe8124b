"""`microturn top`: a live look at a bus: sessions, the beat, delegations, workers, dead letters."""

from __future__ import annotations

import os
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated

import anyio
import typer
from pydantic import TypeAdapter
from rich.console import Console
from rich.live import Live

from microturn.protocols import UnavailableError
from microturn.runtime.bus.embedded_server import EmbeddedServer
from microturn.runtime.bus.overview import BusObserver, Overview, open_observer
from microturn.runtime.bus.own_tasks import own_tasks
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.commands.options import RedisUrl, Shards, Tenant
from microturn.runtime.hub import settings_of
from microturn.runtime.top_view import TopView

PERIOD_S = 1.0
"""How often the screen is renewed; what it shows is posted as often."""
_NO_BUILT_IN = "; without --redis this looks at the built-in server, which runs while `microturn talk` does"


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one picture and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON and end.")] = False,
    redis: RedisUrl = None,
    tenant: Tenant = "default",
    shards: Shards = 1,
) -> None:
    """Show live what runs on a bus: runtimes, sessions and who speaks in them, tasks, workers, dead letters.

    Changes nothing and shows no word that was said. Ends with q or Ctrl-C. Where the server is away it says so, and
    goes on when it is back.
    """
    url = redis if redis is not None else EmbeddedServer().url
    settings = settings_of(url, tenant=tenant, shards=shards)
    hint = "" if redis is not None else _NO_BUILT_IN
    console = Console()
    if as_json or once or not console.is_terminal:
        overview = anyio.run(_look_once, settings, hint)
        if as_json:
            typer.echo(TypeAdapter(Overview).dump_json(overview))
        else:
            console.print(TopView(overview))
        return
    try:
        anyio.run(_follow, settings, hint, console)
    except KeyboardInterrupt:
        return


async def _look_once(settings: BusSettings, hint: str) -> Overview:
    async with open_observer(settings) as observer:
        try:
            return await observer.look()
        except UnavailableError as error:
            raise UnavailableError(f"{error}{hint}") from None


async def _follow(settings: BusSettings, hint: str, console: Console) -> None:
    """Draw until q is pressed or this is cancelled."""
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        async with open_observer(settings) as observer, own_tasks() as tasks:
            tasks.start_soon(_draw, observer, hint, live, name="top")
            await _until_quit()


async def _draw(observer: BusObserver, hint: str, live: Live) -> None:
    async for view in views(observer, hint, PERIOD_S):
        live.update(TopView(view.overview, view.trouble, live.console.height), refresh=True)


async def views(observer: BusObserver, hint: str, period_s: float) -> AsyncIterator[TopView]:
    """Look again and again, through outages: then the last picture comes, with what is wrong."""
    last: Overview | None = None
    while True:
        trouble = ""
        try:
            last = await observer.look()
        except UnavailableError as error:
            trouble = f"{error}{hint}. Trying again."
        yield TopView(last, trouble)
        await anyio.sleep(period_s)


async def _until_quit() -> None:
    """Wait until q is pressed; for ever where no keys can be read."""
    if not sys.stdin.isatty():
        await anyio.sleep_forever()
    with _single_keys(sys.stdin.fileno()):
        while True:
            await anyio.wait_readable(sys.stdin)
            keys = os.read(sys.stdin.fileno(), 64)
            if not keys or b"q" in keys.lower():
                return


@contextmanager
def _single_keys(terminal: int) -> Iterator[None]:
    """Read keys as they are pressed, without showing them; Ctrl-C stays what it is."""
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
