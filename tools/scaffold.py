"""Writes the project of a new plugin, with a tool that works and a test that passes."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template

from microturn.protocols import UserError

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_TEMPLATES = {
    "pyproject.toml.txt": "pyproject.toml",
    "README.md.txt": "README.md",
    "init.py.txt": "{package}/__init__.py",
    "tool.py.txt": "{package}/tool.py",
    "test_tool.py.txt": "tests/test_tool.py",
}


def new_project(name: str, folder: Path) -> list[Path]:
    """Write the project and return its files.

    Args:
        name: Of the plugin: small letters, digits, `-` and `_`. The package is called `microturn_NAME`, so that it
            cannot shadow another one.
        folder: Where to put it; it is made, and has to be empty where it exists.

    Raises:
        UserError: the name cannot be used, or the folder has something in it.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise UserError(
            f"{name!r} cannot be the name of a plugin; take small letters, digits, - and _, beginning with a letter, "
            "such as bus-times"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{str(folder)!r} exists and is not empty; nothing was written: name another --folder"
        )
    tool = name.replace("-", "_")
    words = {
        "plugin": name,
        "tool": tool,
        "package": f"microturn_{tool}",
        "distribution": f"microturn-{name}",
    }
    written = []
    for template, target in _TEMPLATES.items():
        path = folder / target.format(**words)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = files("microturn.tools").joinpath("templates", template).read_text("utf-8")
        path.write_text(Template(text).substitute(words), "utf-8")
        written.append(path)
    return written
