"""`microturn tools`, as the author of a tool and as an operator use it."""

from __future__ import annotations

import functools
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from microturn.runtime.tool_arguments import read_arguments
from microturn.tools import ToolRegistry, tool
from microturn.tools.builtin import calculator
from microturn.tools.mcp import McpServers, Pins
from microturn.tools.testing import make_context
from tests.plugin_folder import install_plugin
from tests.runtime.conftest import Done, Run

pytestmark = pytest.mark.unit

CRUDE = Path(__file__).parents[1] / "tools/mcp/crude_server.py"


@pytest.fixture
def run(run: Run) -> Run:
    """Runs `microturn tools` with these arguments."""
    return functools.partial(run, "tools")


@pytest.fixture
def mcp_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Names one MCP server, `crude`."""
    path = tmp_path / "mcp.json"
    path.write_text(
        json.dumps({"mcpServers": {"crude": {"command": sys.executable, "args": [str(CRUDE), "fine"]}}})
    )
    monkeypatch.setenv("MICROTURN_MCP", str(path))
    return path


def test_the_list_says_what_each_tool_is_and_json_says_all(run: Run) -> None:
    table = run("list")
    objects = json.loads(run("list", "--json").out)
    plugins = run("list", "--plugins")

    lines = {line.split()[0]: line for line in table.out.splitlines()}
    assert table.code == 0
    assert "built in" in lines["add_note"] and "idempotent" in lines["add_note"]
    assert "Keep a note" in lines["add_note"]
    described = {each["name"]: each for each in objects}
    assert described["calculator"]["parameters"]["required"] == ["expression"]
    assert described["calculator"]["source"] == "built in"
    assert "microturn.tools.builtin:TOOLS" in plugins.out


def test_a_tool_is_called_for_real_and_an_error_is_an_exit_status(run: Run) -> None:
    good = run("call", "calculator", "--arg", "expression=6*7")
    same = run("call", "calculator", "--json", '{"expression": "6*7"}')
    wrong = run("call", "calculator")
    unknown = run("call", "calculater")
    unreadable = run("call", "calculator", "--arg", "expression")

    assert (good.code, "42" in good.out, "said: " in good.err) == (0, True, True)
    assert same.out == good.out
    assert wrong.code == 1 and "`expression`" in wrong.err
    assert unknown.code == 1 and "`calculator`" in unknown.err
    assert unreadable.code == 1 and "name=value" in unreadable.err


PLUGIN = '''
from microturn.protocols import Speech
from microturn.tools import ToolContext, tool

@tool(approval="Shall I sell the {thing}?", side_effect="unsafe", permissions=())
async def sell(context: ToolContext, thing: str) -> str:
    """Sell a thing.

    Args:
        thing: What to sell.
    """
    await context.progress("I am looking for a buyer.")
    price = await context.ask("For how much?")
    await context.say(Speech(text="It is sold.", not_before_ms=4_000))
    return f"sold for {price}"
'''


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installs a plugin with a tool that asks, and one that is broken."""
    install_plugin(tmp_path, "shop", PLUGIN, shop="shop:sell", ruin="shop_ruin:TOOLS")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("shop")
def test_a_tool_that_asks_is_answered_at_the_keyboard(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def answering(*lines: str) -> Done:
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        return run("call", "sell", "--arg", "thing=car")

    done, refused, silent = answering("y", "ten"), answering("no"), answering("y")

    assert (done.code, done.out) == (0, "sold for ten\n")
    assert "Shall I sell the car?" in done.err and "For how much?" in done.err
    assert "looking for a buyer" in done.err and "in 4 s: It is sold." in done.err
    assert refused.code == 1 and "not approved" in refused.err and "buyer" not in refused.err
    assert silent.code == 1 and "nobody at the keyboard" in silent.err


@pytest.mark.usefixtures("shop")
def test_a_broken_plugin_is_reported_by_the_list_and_fails_the_check(run: Run) -> None:
    listed, checked = run("list"), run("check", "shop", "ruin")

    assert listed.code == 0 and "ruin was left out" in listed.err
    (line,) = (each for each in listed.out.splitlines() if each.startswith("sell "))
    assert "shop 1.0" in line and "approval" in line
    assert checked.code == 1 and "ruin: it cannot be loaded" in checked.err
    assert "shop: 1 tool" in checked.out


def test_a_check_of_all_plugins_passes_here_and_an_unknown_one_is_named(run: Run) -> None:
    assert run("check").code == 0
    unknown = run("check", "nothing-like-it")
    assert unknown.code == 1 and "builtin" in unknown.err


def test_arguments_are_text_where_the_tool_takes_text_and_json_elsewhere() -> None:
    @tool
    async def mixed(text: str, count: int, names: list[str], maybe: str | None = None) -> str:
        """Take all kinds."""
        return ""

    pairs = ["text=5", "count=5", 'names=["a"]', "maybe=null", "count=7"]

    assert read_arguments(mixed.spec, pairs, '{"text": "x"}') == {
        "text": "5",
        "count": 7,
        "names": ["a"],
        "maybe": "null",
    }
    assert read_arguments(calculator.spec, ["expression=1=1"], None) == {"expression": "1=1"}


def test_an_mcp_server_is_listed_called_and_trusted_anew(run: Run, mcp_file: Path) -> None:
    called = run("call", "crude__only")
    listed = run("list")
    same = run("trust", "crude")
    mcp_file.write_text(mcp_file.read_text().replace('"fine"', '"names"'))
    changed = run("trust", "crude", "--yes")
    unknown = run("trust", "crud")

    assert (called.code, called.out) == (0, "done\n")
    assert "MCP crude" in listed.out
    assert same.code == 0 and "exactly the 1 tools" in same.out
    assert changed.code == 0 and '-  "name": "only",' in changed.out.replace('- "', '-  "')
    accepted = Pins().read("crude")
    assert accepted is not None and len(accepted.tools) == 4
    assert unknown.code == 1 and "crude" in unknown.err


def test_our_tools_are_served_to_another_of_us(run: Run, tmp_path: Path) -> None:
    async def use() -> tuple[list[str], str, str]:
        environment = {"XDG_DATA_HOME": str(tmp_path / "served")}
        arguments = ["-m", "microturn.runtime.cli", "tools", "serve"]
        entry = {"command": sys.executable, "args": arguments, "env": environment}
        path = tmp_path / "us.json"
        path.write_text(json.dumps({"mcpServers": {"us": entry}}))
        registry = ToolRegistry()
        async with McpServers.from_environment(
            {"MICROTURN_MCP": str(path)}, Pins(tmp_path / "pins")
        ) as servers:
            servers.add_to(registry)
            sum_ = await registry.call("us__calculator", {"expression": "6*7"}, make_context())
            timer = await registry.call("us__set_timer", {"seconds": 5}, make_context())
        assert registry.broken == {}
        return [spec.name for spec in registry.specs()], sum_.text, timer.text

    names, sum_, timer = anyio.run(use)

    assert "us__calculator" in names and len(names) > 15
    assert "42" in sum_
    assert "needs a conversation" in timer


@pytest.mark.timeout(120)
def test_a_new_plugin_works_from_the_first_minute(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began_s = time.monotonic()
    project = tmp_path / "project"
    written = run("new", "bus-times", "--folder", project)
    again = run("new", "bus-times", "--folder", project)
    python = environment(tmp_path / "venv")
    shell([python, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "-e", project])
    tests = shell([python, "-m", "pytest", "-q", project, "-p", "no:cacheprovider"])
    microturn = [python, "-m", "microturn.runtime.cli", "tools"]
    listed = shell([*microturn, "list"])
    checked = shell([*microturn, "check", "bus-times"])
    called = shell([*microturn, "call", "bus_times", "--arg", "name=Ada"])
    print(f"from `tools new` to a tool that was called: {time.monotonic() - began_s:.1f} s")  # noqa: T201  # a figure

    assert written.code == 0 and "pip install -e" in written.out
    assert again.code == 1 and "not empty" in again.err
    assert "2 passed" in tests.stdout
    assert "microturn-bus-times 0.1.0" in listed.stdout
    assert "1 tool, no problems" in checked.stdout
    assert called.stdout == "Hello, Ada!\n" and "nice words" in called.stderr


@pytest.mark.parametrize("name", ["Bus", "9lives", "class", "a b", "../x"])
def test_a_name_that_cannot_be_is_refused(name: str, run: Run, tmp_path: Path) -> None:
    done = run("new", name, "--folder", tmp_path / "project")

    assert done.code == 1 and "cannot be the name" in done.err
    assert not (tmp_path / "project").exists()


def environment(folder: Path) -> Path:
    """Make a virtual environment that has besides its own packages those of this one; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    ours = [path for path in sys.path if path.endswith("site-packages")]
    lines = [f"import site; site.addsitedir({path!r})" for path in ours]
    (packages / "ours.pth").write_text("\n".join(lines) + "\n")
    return folder / "bin/python"


def shell(command: list[object]) -> subprocess.CompletedProcess[str]:
    """Run a command that has to succeed, outside of this checkout."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd="/", env=environ
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done
