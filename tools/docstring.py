"""Reads a Google style docstring: what the tool does, and what each argument is."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field

_SECTION = re.compile(r"^(Args|Arguments|Returns|Yields|Raises|Example|Examples|Note|Notes|Source):\s*$")
_ARGUMENT = re.compile(r"^(?P<name>\w+)\s*(?:\([^)]*\))?:\s*(?P<text>.*)$")


@dataclass(frozen=True, slots=True)
class Docstring:
    """The parts that a model is shown."""

    description: str
    arguments: dict[str, str] = field(default_factory=dict)


def parse_docstring(text: str) -> Docstring:
    """Split a docstring into its description and the entries under `Args:`; other sections are left out."""
    sections: dict[str, list[str]] = {"": []}
    current = sections[""]
    for line in inspect.cleandoc(text).splitlines():
        found = _SECTION.match(line)
        if found:
            current = sections.setdefault(found[1], [])
        else:
            current.append(line)
    lines = sections.get("Args", []) + sections.get("Arguments", [])
    return Docstring("\n".join(sections[""]).strip(), _arguments(lines))


def _arguments(lines: list[str]) -> dict[str, str]:
    """Join the lines of each argument; a line indented deeper than the first one goes on with it."""
    entries: dict[str, str] = {}
    name = ""
    block = inspect.cleandoc("\n" + "\n".join(lines)).splitlines()
    for line in block:
        found = None if line.startswith((" ", "\t")) else _ARGUMENT.match(line)
        if found:
            name = found["name"]
            entries[name] = found["text"].strip()
        elif name and line.strip():
            entries[name] = f"{entries[name]} {line.strip()}".strip()
    return entries
