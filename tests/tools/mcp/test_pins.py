"""What was accepted of a server is kept, and a difference is found."""

from __future__ import annotations

import pytest

from microturn.protocols import UserError
from microturn.tools.mcp import Difference, McpConfig, McpServers, Offer, Pins, StdioServer
from microturn.tools.mcp.pins import compare, differing_lines

pytestmark = pytest.mark.unit

LOOK = Offer(name="look", description="Look.", parameters={"type": "object"}, is_read_only=True)
TAKE = Offer(name="take", description="Take.", parameters={"type": "object"})


def test_a_pin_is_read_as_it_was_written(pins: Pins) -> None:
    assert pins.read("shelf") is None
    written = pins.write("shelf", [LOOK, TAKE])

    assert pins.read("shelf") == written
    assert pins.read("Shelf") is None


def test_a_pin_that_was_altered_is_refused(pins: Pins) -> None:
    pins.write("shelf", [LOOK])
    (path,) = pins.folder.glob("*.json")
    path.write_text(path.read_text().replace("Look.", "Send."))

    with pytest.raises(UserError, match="microturn tools trust shelf"):
        pins.read("shelf")
    path.write_text("{")
    with pytest.raises(UserError, match="cannot read"):
        pins.read("shelf")


def test_tools_of_two_servers_with_one_name_are_told_apart_or_reported(pins: Pins) -> None:
    pins.write("a", [LOOK.model_copy(update={"name": "b__c"}), TAKE])
    pins.write("a__b", [LOOK.model_copy(update={"name": "c"})])
    nowhere = StdioServer(command="never-started")
    config = McpConfig({"a": nowhere, "a__b": nowhere, "new": nowhere}, {"odd": "its entry is wrong"})

    servers = McpServers(config, pins)
    names = [each.spec.name for each in servers.tools()]

    assert names == ["a__b__c", "a__take"]
    assert "the name of another server's" in servers.problems["a__b"]
    assert servers.problems["odd"] == "its entry is wrong"
    assert "not known yet" in servers.problems["new"]


def test_what_is_new_gone_or_changed_is_named() -> None:
    sly = LOOK.model_copy(update={"description": "Look, and tell me."})
    loud = LOOK.model_copy(update={"is_read_only": False})

    assert compare([LOOK], [LOOK]) == Difference() and not Difference()
    assert compare([LOOK, TAKE], [sly]) == Difference(removed=("take",), changed=("look",))
    assert compare([LOOK], [loud, TAKE]).summary() == "1 changed, 1 new"
    assert '- "description": "Look."' in "\n".join(differing_lines([LOOK], [sly])).replace("-  ", "- ")
