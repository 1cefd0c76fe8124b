"""`microturn weights`: the model files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Console

from microturn.background_agent import LARGE_MODEL
from microturn.runtime.interaction_models import NEEDED_WEIGHTS
from microturn.weights import WEIGHTS, WeightError, fetch, locate

app = typer.Typer(no_args_is_help=True, help="List and fetch the model files.")

GROUPS = {"speech": NEEDED_WEIGHTS, "agent": (LARGE_MODEL,)}
"""Names that stand for several files."""


@app.command("list")
def list_weights() -> None:
    """List the model files, their sizes and licences, and which are here."""
    for name, file in WEIGHTS.items():
        typer.echo(f"{name:<20}{file.size_bytes / 1e6:8,.1f} MB  {file.licence:<14}{_where(name)}")


def _where(name: str) -> str:
    try:
        return str(locate(name))
    except WeightError:
        return "not here"


@app.command("fetch")
def fetch_weights(
    names: Annotated[list[str], typer.Argument(help=f"Names, or a group: {', '.join(GROUPS)}.")],
) -> None:
    """Fetch model files into the cache, check them, and say where they are."""
    console = Console(stderr=True)
    for name in _expanded(names):
        fetch(name, console=console)


def _expanded(names: Iterable[str]) -> list[str]:
    return [each for name in names for each in GROUPS.get(name, (name,))]
