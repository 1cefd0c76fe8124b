"""The commands in the operator's guide are there, with these options and arguments."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

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


def given(line: str) -> None:
    """Parse a command line without running it.

    Raises:
        typer.BadParameter: or another error of its base, as for whoever types it.
    """
    _, *words = shlex.split(line)
    group = typer.main.get_group(app)
    while True:
        context = group.make_context("microturn", [], resilient_parsing=True)
        name, command, words = group.resolve_command(context, words)
        assert command is not None, f"no such command: {words}"
        if not isinstance(command, TyperGroup):
            command.make_context(name, words, parent=context)
            return
        group = command


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_guide_can_be_given_as_it_stands(line: str) -> None:
    given(line)


@pytest.mark.parametrize("line", ["microturn tops", "microturn top --twice", "microturn dead show"])
def test_a_command_that_is_not_there_would_be_found(line: str) -> None:
    with pytest.raises(Exception, match="(?i)no such|missing"):
        given(line)


def test_the_guide_shows_every_command_for_operators() -> None:
    shown = {" ".join(line.split()[1:3]) for line in COMMANDS}
    groups = ("session list", "delegation list", "delegation show", "dead list", "dead show", "dead retry")
    assert {*groups, "dead drop", "bus rules"} <= shown
    assert {"top", "worker --concurrency", "talk --no-worker"} <= shown
