"""`microturn dead`: the tasks that were given up: look at them, try them again, or drop them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Annotated, TypeVar

import anyio
import typer
from rich.console import Console

from microturn.protocols import UnavailableError
from microturn.runtime.assistant import bus_settings
from microturn.runtime.bus.dead_letters import DeadLetters, open_dead_letters
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.commands.options import RedisUrl, Shards, Tenant
from microturn.runtime.dead_letter_report import describe, letters_table

app = typer.Typer(no_args_is_help=True, help="Look at the tasks that were given up, and try them again.")

Name = Annotated[str, typer.Argument(help="The task's id, or the beginning of it.")]
Result = TypeVar("Result")


@app.command("list")
def list_dead(
    most: Annotated[int, typer.Option(min=1, max=10_000, help="How many to show, newest first.")] = 20,
    redis: RedisUrl = None,
    tenant: Tenant = "default",
    shards: Shards = 1,
) -> None:
    """List the tasks that were given up, newest first."""
    total, letters = _ask(redis, tenant, shards, lambda dead: dead.newest(most))
    Console().print(letters_table(total, letters))


@app.command("show")
def show_dead(
    task: Name,
    words: Annotated[bool, typer.Option("--words", help="Also what was said and asked.")] = False,
    redis: RedisUrl = None,
    tenant: Tenant = "default",
    shards: Shards = 1,
) -> None:
    """Show what is known of one of them. Changes nothing."""

    async def read(dead: DeadLetters) -> list[str]:
        return list(describe(await dead.read(await dead.find(task)), words=words))

    console = Console()
    for line in _ask(redis, tenant, shards, read):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


@app.command("retry")
def retry_dead(task: Name, redis: RedisUrl = None, tenant: Tenant = "default", shards: Shards = 1) -> None:
    """Hand one over again, as a new task of the same session; then it is no longer among the dead.

    Its answer is told in the conversation, if that goes on, as that of any task; else when the session is taken over.
    """

    async def retry(dead: DeadLetters) -> str:
        outcome, task_id = await dead.retry(await dead.find(task))
        if outcome == "full":
            raise UnavailableError(
                "cannot try it again: the queue is full; start more workers, then try again"
            )
        return task_id

    typer.echo(f"handed over as {_ask(redis, tenant, shards, retry)}")


@app.command("drop")
def drop_dead(task: Name, redis: RedisUrl = None, tenant: Tenant = "default", shards: Shards = 1) -> None:
    """Delete one for good."""

    async def drop(dead: DeadLetters) -> str:
        letter = await dead.find(task)
        await dead.drop(letter)
        return letter.task_id or letter.entry_id

    typer.echo(f"dropped {_ask(redis, tenant, shards, drop)}")


def _ask(
    redis: str | None, tenant: str, shards: int, question: Callable[[DeadLetters], Awaitable[Result]]
) -> Result:
    return anyio.run(_asked, bus_settings(redis, tenant=tenant, shards=shards), question)


async def _asked(
    bus: AbstractAsyncContextManager[BusSettings], question: Callable[[DeadLetters], Awaitable[Result]]
) -> Result:
    async with bus as settings, open_dead_letters(settings) as dead:
        return await question(dead)
