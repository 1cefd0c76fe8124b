"""The training commands, called in this process."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from microturn.interaction_model.training.__main__ import app


def call(command: str, *arguments: str | Path) -> str:
    """Return what a command prints, or raise what it raises."""
    result = CliRunner().invoke(app, [command, *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.output
