"""Plugins: found without importing them, loaded within limits, checked apart."""

from __future__ import annotations

import sys
import threading
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from microturn.tools import ToolRegistry, tool
from microturn.tools.plugin_check import check_plugin, check_tool
from microturn.tools.plugins import Plugin, PluginError, allowed_plugins, find_plugins
from tests.plugin_folder import install_plugin

pytestmark = pytest.mark.unit

MODULES = {
    "good_plugin": '''
from microturn.tools import tool
@tool
async def good_one(what: str) -> str:
    """Do it.

    Args:
        what: What to do.
    """
    return what
''',
    "hanging_plugin": "import time; time.sleep(30)",
    "crashing_plugin": "import os; os._exit(9)",
    "leaving_plugin": "import sys; sys.exit(3)",
    "printing_plugin": "print('I am loaded')\nfrom good_plugin import good_one",
    "wrong_plugin": "good_one = 3",
}


def plugin(name: str, value: str) -> Plugin:
    return Plugin(EntryPoint(name, value, "microturn.tools"))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages with one plugin each, seen by this process and by its children."""
    for module, text in MODULES.items():
        name = module.removesuffix("_plugin")
        install_plugin(tmp_path, module, text, "2.0", **{name: f"{module}:good_one"})
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_plugins_are_found_without_being_imported_and_ours_come_first(site: Path) -> None:
    found = find_plugins()

    assert found[0].package == "microturn"
    named = {each.name: each for each in found}
    assert {"good", "hanging", "crashing"} <= named.keys()
    assert (named["good"].package, named["good"].version) == ("good_plugin", "2.0")
    assert "good_plugin" not in sys.modules


def test_a_plugin_that_hangs_is_left_behind(site: Path) -> None:
    with pytest.raises(PluginError, match=r"did not end within 0\.2 s"):
        plugin("hanging", "hanging_plugin:good_one").load(0.2)

    assert [thread for thread in threading.enumerate() if "plugin hanging" in thread.name]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("leaving_plugin:good_one", "SystemExit"),
        ("no_such_module:x", "No module named"),
        ("good_plugin:missing", "no attribute"),
        ("wrong_plugin:good_one", "TypeError"),
        ("good_plugin:__name__", "holds a str"),
    ],
)
def test_whatever_goes_wrong_in_an_import_is_one_error(site: Path, value: str, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        plugin("odd", value).load()


def test_only_allowed_plugins_are_loaded_and_missing_ones_are_reported(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROTURN_PLUGINS", "good, absent")

    registry = ToolRegistry.from_entry_points()

    assert [spec.name for spec in registry.specs()] == ["good_one"]
    assert set(registry.broken) == {"absent"}
    assert allowed_plugins({"MICROTURN_PLUGINS": " , "}) is None


def test_a_check_survives_what_would_end_a_worker(site: Path) -> None:
    found = {each.name: each for each in find_plugins()}

    good = check_plugin(found["good"])
    crashing = check_plugin(found["crashing"])
    hanging = check_plugin(found["hanging"], limit_s=2)
    printing = check_plugin(found["printing"])

    assert (good.tools, good.problems) == (("good_one",), ())
    assert "status 9" in crashing.problems[0]
    assert "did not end within 2 s" in hanging.problems[0]
    assert printing.problems == ()


def test_a_check_names_each_problem_of_a_tool() -> None:
    @tool
    async def vague(thing: str) -> str:
        """Do."""
        return thing

    update = {
        "egress": ("https://x.example/",),
        "isolation": "subprocess",
        "timeout_s": -1,
        "description": " ",
    }
    vague.spec = vague.spec.model_copy(update=update)
    problems = "\n".join(check_tool(vague))

    assert "`timeout_s`" in problems
    assert "says nothing of itself" in problems
    assert "`thing` is not described" in problems
    assert "is no host" in problems
    assert problems.count("\n") >= 4, "a function in a function cannot run in a child"


def test_our_own_tools_pass_the_check() -> None:
    (own,) = (each for each in find_plugins() if each.package == "microturn")

    assert [problem for each in own.load() for problem in check_tool(each)] == []
