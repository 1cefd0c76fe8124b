"""The commands in the operator's guide are there, with these options and arguments."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import typer

from microturn.runtime.cli import app

pytestmark = pytest.mark.unit

GUIDE = Path(__file__).parents[1] / "docs/operators-guide.md"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = sorted(
    {
        line.rpartition("$(")[2].rstrip(")")
        for block in _BLOCK.findall(GUIDE.read_text("utf-8"))
        for line in block.splitlines()
        if line.startswith("microturn ") or "$(microturn " in line
    }
)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_guide_can_be_given_as_it_stands(line: str) -> None:
    command: click.Command = typer.main.get_command(app)
    name, *words = shlex.split(line)
    context = click.Context(command, info_name=name)
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None and name is not None
        command, context = found, click.Context(found, info_name=name, parent=context)
    command.make_context(name, words, parent=context)


def test_the_guide_shows_every_command_for_operators() -> None:
    shown = {" ".join(line.split()[1:3]) for line in COMMANDS}
    groups = ("session list", "delegation list", "delegation show", "dead list", "dead show", "dead retry")
    assert {*groups, "dead drop", "bus rules"} <= shown
    assert {"top", "worker --concurrency", "talk --no-worker"} <= shown
