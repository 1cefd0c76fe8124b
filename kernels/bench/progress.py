"""Says which step runs: a bar where Rich is installed and a person watches, else a line per step."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import TypeVar

Item = TypeVar("Item")


def steps_shown(steps: Sequence[tuple[str, Item]]) -> Iterator[tuple[str, Item]]:
    """The steps one by one, shown on the standard error stream as they begin."""
    if sys.stderr.isatty() and find_spec("rich") is not None:
        yield from _barred(steps)
        return
    for place, (name, item) in enumerate(steps, start=1):
        sys.stderr.write(f"[{place}/{len(steps)}] {name}\n")
        sys.stderr.flush()
        yield name, item


def _barred(steps: Sequence[tuple[str, Item]]) -> Iterator[tuple[str, Item]]:
    # Rich is not on every GPU machine, and the package works without it.
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(steps))
        for name, item in steps:
            progress.update(task, description=name)
            yield name, item
            progress.advance(task)
