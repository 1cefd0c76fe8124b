"""The command line `microturn`: puts the commands together; each is a module of `microturn.runtime.commands`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from microturn import __version__
from microturn.protocols import MicroturnError
from microturn.runtime.commands import bus, dead, delegation, session, tools, weights
from microturn.runtime.commands.complaint import complain
from microturn.runtime.commands.doctor import doctor
from microturn.runtime.commands.talk import talk
from microturn.runtime.commands.top import top
from microturn.runtime.commands.worker import worker

app = typer.Typer(
    name="microturn",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="An open runtime for voice assistants that never stop listening.",
)
app.command()(talk)
app.command()(worker)
app.command()(top)
app.command()(doctor)
app.add_typer(session.app, name="session")
app.add_typer(delegation.app, name="delegation")
app.add_typer(dead.app, name="dead")
app.add_typer(tools.app, name="tools")
app.add_typer(bus.app, name="bus")
app.add_typer(weights.app, name="weights")


def main() -> None:
    """Run the command line; errors that the user can mend are one sentence, not a traceback."""
    try:
        app()
    except MicroturnError as error:
        complain(str(error))
        sys.exit(1)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Show the version."""
    if show:
        typer.echo(f"microturn {__version__}")
        raise typer.Exit


if __name__ == "__main__":
    main()
