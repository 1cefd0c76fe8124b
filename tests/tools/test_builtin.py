"""What holds for every built-in tool."""

from __future__ import annotations

import json

import pytest

from microturn.protocols import ToolSpec
from microturn.tools import AnyTool, ToolRegistry, builtin
from microturn.tools.builtin import TOOLS

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("each", TOOLS, ids=lambda each: each.spec.name)
def test_a_built_in_tool_describes_itself_and_all_its_arguments(each: AnyTool) -> None:
    properties = each.spec.parameters["properties"]

    assert isinstance(properties, dict)
    for name, schema in properties.items():
        assert isinstance(schema, dict)
        assert schema.get("description"), f"{each.spec.name}.{name} is not described"


def test_all_tools_together_stay_small_enough_for_a_small_model() -> None:
    told = [
        {"name": s.name, "description": s.description, "parameters": s.parameters}
        for s in ToolRegistry(TOOLS).specs()
    ]

    assert len(json.dumps(told)) < 8_000


def test_only_tools_that_reach_the_network_declare_hosts() -> None:
    reaching = {each.spec.name: each.spec.egress for each in TOOLS if each.spec.egress}

    assert reaching == {
        "read_web_page": ("*",),
        "weather": ("geocoding-api.open-meteo.com", "api.open-meteo.com"),
    }


def test_tools_that_change_something_may_be_run_again_after_a_crash() -> None:
    changing = {each.spec.name for each in TOOLS if each.spec.side_effect != "none"}

    assert changing == {"add_note", "delete_note", "set_timer", "cancel_timer"}
    assert all(each.spec.side_effect != "unsafe" for each in TOOLS)


def test_specs_survive_being_sent() -> None:
    for each in TOOLS:
        assert ToolSpec.decode(each.spec.encode()) == each.spec


def test_every_public_name_is_there_and_sorted() -> None:
    constants = [name for name in builtin.__all__ if name.isupper()]
    classes = [name for name in builtin.__all__ if name[0].isupper() and not name.isupper()]
    functions = [name for name in builtin.__all__ if name[0].islower()]

    assert list(builtin.__all__) == sorted(constants) + sorted(classes) + sorted(functions)
    assert all(hasattr(builtin, name) for name in builtin.__all__)
