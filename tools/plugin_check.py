"""Checks a plugin: whether it loads, and whether its tools are what a model and an operator can work with.

`check_plugin` does it in a child process with a time limit, so that an import that hangs or crashes harms nobody.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import JsonValue, ValidationError
from pydantic_core import to_json

from microturn.protocols import ToolSpec, UserError
from microturn.tools.decorator import AnyTool
from microturn.tools.egress.hosts import AllowedHosts
from microturn.tools.plugins import Plugin, PluginError, find_plugins
from microturn.tools.registry import ToolRegistry

CHECK_LIMIT_S = 30.0
DESCRIPTION_LIMIT_CHARS = 2000
"""A longer description costs every request of every task; our choice."""
_LAST_LINES = 400


@dataclass(frozen=True, slots=True)
class Findings:
    """What the check of one plugin has found."""

    plugin: str
    tools: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """One sentence each: what is wrong and how to mend it."""


def check_plugin(plugin: Plugin, limit_s: float = CHECK_LIMIT_S) -> Findings:
    """Check a plugin in a child process. Blocks for at most `limit_s`."""
    command = [sys.executable, "-m", "microturn.tools.plugin_check", plugin.name]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        problem = f"its import did not end within {limit_s:g} s; move what takes so long into the tool"
        return Findings(plugin.name, problems=(problem,))
    try:
        found = json.loads(done.stdout.splitlines()[-1])
        return Findings(plugin.name, tuple(found["tools"]), tuple(found["problems"]))
    except (IndexError, ValueError, KeyError, TypeError):
        last = done.stderr.strip()[-_LAST_LINES:]
        problem = (
            f"its import ended the process with status {done.returncode}; it last said: {last or 'nothing'}"
        )
        return Findings(plugin.name, problems=(problem,))


def check_tool(checked: AnyTool) -> Iterator[str]:
    """Yield what is wrong with a tool."""
    spec = checked.spec
    label = f"tool `{spec.name}`"
    try:
        ToolSpec.model_validate(spec.model_dump())
    except ValidationError as error:
        yield from (f"{label}: `{e['loc'][0]}`: {e['msg']}" for e in error.errors())
    if not spec.description.strip():
        yield f"{label} says nothing of itself; write a docstring that tells a model when to call it"
    if len(spec.description) > DESCRIPTION_LIMIT_CHARS:
        yield f"{label} says more than {DESCRIPTION_LIMIT_CHARS:,} characters of itself; shorten the docstring"
    yield from _check_schema(spec.parameters, label)
    try:
        AllowedHosts(spec.egress)
    except UserError as error:
        yield f"{label}: {error}"
    try:
        ToolRegistry([checked], granted=frozenset(spec.permissions))
    except UserError as error:
        yield f"{label}: {error}"


def _check_schema(schema: dict[str, JsonValue], label: str) -> Iterator[str]:
    properties = schema.get("properties", {})
    if schema.get("type") != "object" or not isinstance(properties, dict):
        yield f"{label}: its parameters have to be a JSON schema of an object with `properties`"
        return
    try:
        to_json(schema)
    except ValueError as error:
        yield f"{label}: its parameters have no JSON form: {error}"
    for name, described in properties.items():
        if not isinstance(described, dict) or not described.get("description"):
            yield f"{label}: its parameter `{name}` is not described; add a line for it under `Args:` in the docstring"


def _check(name: str) -> Findings:
    """Load and check a plugin in this process."""
    found = [plugin for plugin in find_plugins() if plugin.name == name]
    if len(found) != 1:
        problem = f"{len(found)} installed packages have a plugin of this name; it has to be one"
        return Findings(name, problems=(problem,))
    try:
        tools = found[0].load(CHECK_LIMIT_S)
    except PluginError as error:
        return Findings(name, problems=(f"it cannot be loaded: {error}",))
    problems = [problem for each in tools for problem in check_tool(each)]
    return Findings(name, tuple(each.spec.name for each in tools), tuple(problems))


def _main() -> None:
    """Print the findings as the last line; what the plugin itself prints goes to the error output."""
    out, sys.stdout = sys.stdout, sys.stderr
    findings = _check(sys.argv[1])
    out.write(json.dumps({"tools": findings.tools, "problems": findings.problems}) + "\n")


if __name__ == "__main__":
    _main()
