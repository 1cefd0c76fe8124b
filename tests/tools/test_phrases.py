"""Requests that are understood by their words alone, and those that are not."""

from __future__ import annotations

import pytest

from microturn.protocols import UserError
from microturn.tools import Match, Phrase, ToolRegistry, tool
from microturn.tools.builtin import TOOLS
from microturn.tools.phrases import PhraseBook, plain_request

pytestmark = pytest.mark.unit

REGISTRY = ToolRegistry(TOOLS)


@pytest.mark.parametrize(
    ("said", "name", "arguments"),
    [
        ("What is the weather like in Bergen right now?", "weather", {"city": "bergen"}),
        ("Um, can you tell me the weather in New York, please?", "weather", {"city": "new york"}),
        ("weather london today", "weather", {"city": "london"}),
        ("Is it raining in Oslo?", "weather", {"city": "oslo"}),
        ("Tell me in ten seconds to stretch.", "set_timer", {"seconds": 10, "message": "stretch"}),
        ("Set a timer for a minute and thirty seconds.", "set_timer", {"seconds": 90, "message": ""}),
        (
            "Please remind me to call Anna in half an hour.",
            "set_timer",
            {"seconds": 1800, "message": "call anna"},
        ),
        (
            "What is forty-eight times? Um, seventeen.",
            "calculator",
            {"expression": "forty-eight times seventeen"},
        ),
        ("How many pounds are in 12.5 kilograms?", "convert_units", None),
        ("Convert a mile into kilometers.", "convert_units", None),
        ("What time is it in Tokyo?", "current_time", {"place": "tokyo"}),
        ("What time is it?", "current_time", {}),
        ("Take a note that the key is under the mat.", "add_note", {"text": "the key is under the mat"}),
        ("Read me my notes.", "list_notes", {}),
    ],
)
def test_a_plain_request_is_understood(said: str, name: str, arguments: dict[str, object] | None) -> None:
    first = REGISTRY.matches(said)[0]
    assert first.tool == name
    assert arguments is None or first.arguments == arguments


@pytest.mark.parametrize(
    "said",
    [
        "Tell me what the guide says about lighting the stove.",
        "Remind me later to stretch.",
        "weather london monday",
        "Compare the trains and the flights to Paris.",
        "I wonder whether it is raining in Oslo or in Bergen, and which is nicer.",
        "",
        "...",
    ],
)
def test_anything_else_is_left_to_the_model(said: str) -> None:
    assert REGISTRY.matches(said) == []


def test_numbers_keep_their_points_and_the_rest_loses_its_marks() -> None:
    assert plain_request("Well, what is 12.5 plus 1,000?") == "what is 12.5 plus 1,000"


def test_the_most_particular_phrase_comes_first() -> None:
    book = PhraseBook()
    book.add("anything", [Phrase("what is {this}")])
    book.add("weather", [Phrase("what is the weather in {city}")])
    assert [match.tool for match in book.match("What is the weather in Rome?")] == ["weather", "anything"]


@pytest.mark.parametrize("template", ["", "a [b", "a b]", "(a|b", "{A-b} c"])
def test_a_phrase_that_cannot_be_read_is_refused(template: str) -> None:
    with pytest.raises(UserError):
        PhraseBook().add("tool", [Phrase(template)])


def test_a_replaced_tool_takes_its_phrases_with_it() -> None:
    @tool(phrases=["how are the seats"])
    async def seats() -> str:
        """Say how the seats are."""
        return "fine"

    @tool(name="seats")
    async def other() -> str:
        """Say how the seats are."""
        return "fine"

    registry = ToolRegistry([seats])
    assert registry.matches("How are the seats?") == [Match("seats", {})]
    registry.add(other, replace=True)
    assert registry.matches("How are the seats?") == []


def test_long_hostile_text_is_matched_in_little_time() -> None:
    assert REGISTRY.matches("what is the weather in " + "in " * 3000 + "and") is not None
