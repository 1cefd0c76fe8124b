"""What tools there are, where they come from and what they may do, as a table or as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import JsonValue
from rich.table import Table

from microturn.protocols import ToolSpec
from microturn.tools.plugins import OWN_DISTRIBUTION, Plugin

_COLUMNS = ("tool", "tier", "effect", "from", "limit", "reaches", "needs", "does")
_HOSTS_CHARS = 20
_LEAST_CHARS = 24
"""Room for what a tool does, also where that makes lines too long for a narrow terminal."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One tool and where it comes from."""

    spec: ToolSpec
    source: str


def source_of(plugin: Plugin) -> str:
    """Name a plugin for a reader: microturn itself, or the package and its version."""
    return "built in" if plugin.package == OWN_DISTRIBUTION else f"{plugin.package} {plugin.version}".strip()


def tool_lines(listed: Iterable[Listed], width: int) -> list[str]:
    """Lay the tools out in columns under a heading, one line each, cut to `width` characters where that can be."""
    rows = [_COLUMNS, *map(_cells, listed)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    room = max(_LEAST_CHARS, width - sum(widths) - 2 * len(widths))
    return [
        "  ".join(
            (*(cell.ljust(space) for cell, space in zip(row, widths, strict=False)), _cut(row[-1], room))
        )
        for row in rows
    ]


def tool_objects(listed: Iterable[Listed]) -> list[JsonValue]:
    """Make one object of each tool: its source and all that its spec has."""
    return [{"source": each.source, **each.spec.model_dump(mode="json")} for each in listed]


def plugin_table(plugins: Sequence[Plugin]) -> Table:
    """Make the table of plugins, from the metadata of their packages alone."""
    table = Table("plugin", "from", "tools at", box=None, pad_edge=False)
    for plugin in plugins:
        table.add_row(plugin.name, source_of(plugin), plugin.value)
    return table


def _cells(listed: Listed) -> tuple[str, ...]:
    spec = listed.spec
    needs = (*spec.permissions, *(("approval",) if spec.approval else ()))
    return (
        spec.name,
        spec.isolation,
        spec.side_effect,
        listed.source,
        f"{spec.timeout_s:g} s",
        _cut(", ".join(spec.egress), _HOSTS_CHARS),
        ", ".join(needs),
        _first_sentence(spec.description),
    )


def _first_sentence(text: str) -> str:
    return text.split("\n")[0].split(". ")[0].rstrip(".")


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"
