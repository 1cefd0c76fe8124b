"""`microturn session`: looks into the sessions that the bus remembers."""

from __future__ import annotations

import time
from contextlib import AbstractAsyncContextManager
from typing import Annotated

import anyio
import typer
from rich.console import Console

from microturn.protocols import SessionLedger
from microturn.runtime.assistant import bus_settings
from microturn.runtime.bus import open_delegation_port
from microturn.runtime.bus.overview import Overview, open_observer
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.commands.options import RedisUrl, Shards, Tenant
from microturn.runtime.session_report import table, transcript
from microturn.runtime.top_view import sessions_table

app = typer.Typer(no_args_is_help=True, help="Look into the sessions that the bus remembers.")


@app.command("show")
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


@app.command("list")
def list_sessions(redis: RedisUrl = None, tenant: Tenant = "default", shards: Shards = 1) -> None:
    """List the sessions that run, and those whose process died within the hour. Changes nothing."""
    overview = anyio.run(_look, bus_settings(redis, tenant=tenant, shards=shards))
    console = Console()
    if not any(each.status is not None and each.status.sessions for each in overview.runtimes):
        console.print("no session runs, and none was cut off within the hour")
        return
    console.print(sessions_table(overview))


async def _look(bus: AbstractAsyncContextManager[BusSettings]) -> Overview:
    async with bus as settings, open_observer(settings) as observer:
        return await observer.look()


async def _read_ledger(session_id: str, bus: AbstractAsyncContextManager[BusSettings]) -> SessionLedger:
    async with bus as settings, open_delegation_port(settings) as port:
        return await port.ledger(session_id)
