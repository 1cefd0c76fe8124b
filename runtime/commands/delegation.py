"""`microturn delegation`: follows delegations afterwards, from the trace record on this disk; needs no server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter
from rich.console import Console

from microturn.protocols import UserError
from microturn.runtime.delegation_life import Life, lives
from microturn.runtime.delegation_report import report, table
from microturn.runtime.telemetry.settings import TRACE_VARIABLE
from microturn.runtime.telemetry.span_record import read_spans, traces_folder

app = typer.Typer(
    no_args_is_help=True, help="Follow a delegation from the words that caused it to those heard."
)

Folder = Annotated[
    Path | None, typer.Option("--traces", help="Where the trace record is, if not in the state folder.")
]


@app.command("list")
def list_delegations(
    most: Annotated[int, typer.Option(min=1, help="How many to show, the newest.")] = 20,
    traces: Folder = None,
) -> None:
    """List the newest delegations in the trace record."""
    Console().print(table(_recorded(traces or traces_folder())[-most:]))


@app.command("show")
def show_delegation(
    task: Annotated[str, typer.Argument(help="The delegation's id, or the beginning of it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    traces: Folder = None,
) -> None:
    """Show the life of one delegation in order of time, and where the time went.

    What was said is in it only where MICROTURN_TRACE_CONTENT=1 was set for the worker that did it.
    """
    folder = traces or traces_folder()
    life = _named(task, _recorded(folder), folder)
    if as_json:
        typer.echo(TypeAdapter(Life).dump_json(life))
        return
    console = Console()
    for part in report(life):
        console.print(part, soft_wrap=False)


def _recorded(folder: Path) -> list[Life]:
    found = lives(read_spans(folder))
    if not found:
        raise UserError(
            f"cannot find a delegation in {str(folder)!r}: nothing was recorded there; set {TRACE_VARIABLE}=1 for the "
            "runtime and its workers, or name another folder with --traces"
        )
    return found


def _named(name: str, found: list[Life], folder: Path) -> Life:
    """The one whose id begins so.

    Raises:
        UserError: none does, or several do.
    """
    meant = [life for life in found if life.task_id == name] or [
        life for life in found if name and life.task_id.startswith(name)
    ]
    if len(meant) == 1:
        return meant[0]
    why = f"{len(meant)} of them begin so; give more of the id" if meant else "none in it begins so"
    raise UserError(
        f"cannot show the delegation {name[:80]!r} from {str(folder)!r}: {why}; `microturn delegation list` names the "
        "newest"
    )
