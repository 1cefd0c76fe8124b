"""`microturn bus`: sets up a server that is shared."""

from __future__ import annotations

from typing import Annotated

import typer

from microturn.runtime.bus.access import access_rules

app = typer.Typer(no_args_is_help=True, help="Set up a Redis or Valkey server that is shared.")


@app.command("rules")
def show_rules(tenant: Annotated[str, typer.Argument(help="The tenant that is to be let in.")]) -> None:
    """Print what a tenant's user of a shared server may do, for `ACL SETUSER NAME on >PASSWORD RULES`."""
    typer.echo(access_rules(tenant))
