"""`microturn tools`: lists, checks, calls and serves tools, and begins new ones."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated

import anyio
import platformdirs
import typer
from pydantic_core import to_json
from rich.console import Console

from microturn.protocols import ToolSpec, UserError
from microturn.runtime.commands.complaint import complain
from microturn.runtime.console_context import console_context
from microturn.runtime.tool_arguments import read_arguments
from microturn.runtime.tool_report import Listed, plugin_table, source_of, tool_lines, tool_objects
from microturn.tools import ToolRegistry, ToolResult
from microturn.tools.mcp import CONFIG_VARIABLE, McpServers, Pins, read_config
from microturn.tools.mcp.pins import compare, differing_lines
from microturn.tools.plugin_check import Findings, check_plugin
from microturn.tools.plugins import Plugin, allowed_plugins, find_plugins
from microturn.tools.scaffold import new_project

app = typer.Typer(no_args_is_help=True, help="List, check, call and serve tools; begin a new one.")
PIPE_WIDTH = 160

AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for other programs.")]


@app.command("list")
def list_tools(
    as_json: AsJson = False,
    plugins: Annotated[
        bool, typer.Option("--plugins", help="The plugins alone, from their metadata; imports none.")
    ] = False,
) -> None:
    """List the tools that a worker would have; MCP servers are not started, their accepted tools are shown."""
    if plugins:
        Console(width=PIPE_WIDTH).print(plugin_table(_found()))
        return
    registry = ToolRegistry.from_entry_points()
    servers = McpServers.from_environment()
    servers.add_to(registry)
    listed = [Listed(spec, source) for spec, source in zip(registry.specs(), _sources(registry), strict=True)]
    if as_json:
        typer.echo(to_json(tool_objects(listed), indent=2).decode())
    else:
        width = get_terminal_size((PIPE_WIDTH, 0)).columns
        typer.echo("\n".join(tool_lines(listed, width)))
    for name, problem in (registry.broken | registry.left_out).items():
        complain(f"{name} was left out: {problem}")


@app.command("check")
def check(
    names: Annotated[list[str] | None, typer.Argument(help="Plugins; all of them without.")] = None,
) -> None:
    """Check plugins, each in a process of its own: that they load, and that models can work with their tools."""
    wanted = _named(names or [])
    findings = [check_plugin(plugin) for plugin in wanted]
    problems = [f"{found.plugin}: {problem}" for found in findings for problem in found.problems]
    problems += _clashes(findings)
    for found in findings:
        if not found.problems:
            tools = "1 tool" if len(found.tools) == 1 else f"{len(found.tools)} tools"
            typer.echo(f"{found.plugin}: {tools}, no problems")
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(1)


@app.command("call")
def call(
    name: Annotated[str, typer.Argument(help="The tool.")],
    arg: Annotated[list[str] | None, typer.Option(help="An argument, name=value; may be repeated.")] = None,
    text: Annotated[str | None, typer.Option("--json", help="All arguments as a JSON object.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Approve the call without being asked.")] = False,
) -> None:
    """Call a tool for real, as an agent would; a tool that asks is answered at the keyboard."""
    result = anyio.run(_call, name, arg or [], text, yes)
    if result.is_error:
        complain(result.text)
        raise typer.Exit(1)
    typer.echo(result.text)
    if result.spoken is not None:
        Console(stderr=True).print(f"said: {result.spoken}", markup=False, highlight=False, soft_wrap=True)


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Of the plugin, such as bus-times.")],
    folder: Annotated[Path | None, typer.Option(help="Where to; ./microturn-NAME without.")] = None,
) -> None:
    """Begin a plugin: a project with a tool that works and a test that passes."""
    place = folder or Path(f"microturn-{name}")
    for path in new_project(name, place):
        typer.echo(f"written: {path}")
    typer.echo(f"\nnext: pip install -e '{place}[dev]' && pytest {place}")
    typer.echo(f"then: microturn tools call {name.replace('-', '_')} --arg name=Ada")


@app.command("serve")
def serve(
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Serve HTTP on this port of the loopback interface; 0 takes a free one."
        ),
    ] = None,
) -> None:
    """Serve the tools to MCP clients: over standard input and output, or over HTTP on this machine."""
    from microturn.tools.mcp.server import ToolServer  # the SDK takes a second to import

    registry = ToolRegistry.from_entry_points()
    server = ToolServer(registry, _data_dir())
    for name, problem in (registry.broken | registry.left_out).items():
        complain(f"{name} was left out: {problem}")
    for name in server.withheld:
        complain(f"{name} is not offered: it asks its user for approval, which is not possible over MCP")
    if port is None:
        anyio.run(server.over_stdio)
    else:
        anyio.run(server.over_http, port, typer.echo)


@app.command("trust")
def trust(
    name: Annotated[str, typer.Argument(help="The MCP server, as the configuration names it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Accept without being asked.")] = False,
) -> None:
    """Show how the tools of an MCP server differ from those that were accepted, and accept them."""
    from microturn.tools.mcp.connection import list_once  # the SDK takes a second to import

    path = os.environ.get(CONFIG_VARIABLE)
    if path is None:
        raise UserError(f"no MCP servers are configured; set {CONFIG_VARIABLE} to the path of their file")
    config = read_config(Path(path))
    if name not in config.servers:
        known = ", ".join(sorted(config.servers)) or "none"
        raise UserError(
            config.problems.get(name, f"there is no server {name!r} in {path!r}; there are: {known}")
        )
    offers = anyio.run(list_once, config.servers[name])
    pins = Pins()
    try:
        pin = pins.read(name)
    except UserError as error:
        complain(str(error))
        pin = None
    accepted = pin.tools if pin is not None else ()
    if pin is not None and not compare(accepted, offers):
        typer.echo(f"{name} offers exactly the {len(offers)} tools that were accepted")
        return
    for line in differing_lines(accepted, offers):
        typer.echo(line)
    if not yes and not typer.confirm(f"Accept the {len(offers)} tools of {name}?"):
        raise typer.Exit(1)
    pins.write(name, offers)
    typer.echo(f"accepted: {len(offers)} tools of {name}; workers use them from their next start")


async def _call(name: str, pairs: list[str], text: str | None, is_approved: bool) -> ToolResult:
    registry = ToolRegistry.from_entry_points()
    servers = McpServers.from_environment()
    if name not in {spec.name for spec in registry.specs()}:
        async with servers:
            servers.add_to(registry)
            return await _call_in(registry, name, pairs, text, is_approved)
    return await _call_in(registry, name, pairs, text, is_approved)


async def _call_in(
    registry: ToolRegistry, name: str, pairs: list[str], text: str | None, is_approved: bool
) -> ToolResult:
    spec = _spec(registry, name)
    arguments = read_arguments(spec, pairs, text)
    context = console_context(Console(stderr=True), _data_dir())
    if spec.approval is not None and not is_approved:
        answer = await context.ask(f"{_filled(spec.approval, arguments)} [y/N]")
        if answer.lower() not in ("y", "yes"):
            return ToolResult("the call was not approved", is_error=True)
    async with registry:
        return await registry.call(name, arguments, context)


def _spec(registry: ToolRegistry, name: str) -> ToolSpec:
    """Find a tool.

    Raises:
        UnknownToolError: there is none of this name.
        UserError: it was left out; the text says why.
    """
    reasons = registry.broken | registry.left_out
    if name in reasons:
        raise UserError(reasons[name])
    return registry.get(name).spec


def _filled(sentence: str, arguments: Mapping[str, object]) -> str:
    for name, value in arguments.items():
        sentence = sentence.replace(f"{{{name}}}", str(value))
    return sentence


def _found() -> list[Plugin]:
    return find_plugins(allowed=allowed_plugins())


def _named(names: list[str]) -> list[Plugin]:
    found = _found()
    unknown = set(names) - {plugin.name for plugin in found}
    if unknown:
        listed = ", ".join(plugin.name for plugin in found)
        raise UserError(f"no plugin is called {', '.join(sorted(unknown))}; installed are: {listed}")
    return [plugin for plugin in found if not names or plugin.name in names]


def _clashes(findings: list[Findings]) -> list[str]:
    counts = Counter(tool for found in findings for tool in found.tools)
    return [
        f"{' and '.join(found.plugin for found in findings if tool in found.tools)} both have a tool `{tool}`; "
        "rename one of them"
        for tool, count in counts.items()
        if count > 1
    ]


def _sources(registry: ToolRegistry) -> list[str]:
    """Say of each tool of the registry where it comes from, in its order."""
    by_name: dict[str, str] = {}
    for plugin in _found():
        if plugin.name not in registry.broken:
            by_name.update(dict.fromkeys((each.spec.name for each in plugin.load()), source_of(plugin)))
    return [by_name.get(spec.name, f"MCP {spec.name.partition('__')[0]}") for spec in registry.specs()]


def _data_dir() -> Path:
    return Path(platformdirs.user_data_dir("microturn"))
