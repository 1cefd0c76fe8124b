"""Web search: the offline sample says that it is one, and a provider can be put in its place."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from microturn.tools import ToolContext, ToolFailed, ToolRegistry
from microturn.tools.builtin import TOOLS, SearchHit, make_web_search, web_search

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("how high is Mount Everest", "8,849"),
        ("capital of Australia", "Canberra"),
        ("distance to the moon", "384,400"),
    ],
)
async def test_the_sample_finds_pages_and_says_what_it_is(query: str, answer: str) -> None:
    result = await web_search(query)

    assert result.text.startswith("Sample data")
    assert answer in result.say and result.say.startswith("Sample data says")


async def test_the_limit_holds() -> None:
    assert (await web_search("about", limit=1)).text.count("https://") == 0
    assert (await web_search("how many people live in Norway or Tokyo", limit=1)).text.count("https://") == 1


async def test_finding_nothing_is_said_honestly() -> None:
    result = await web_search("xyzzy")

    assert "Nothing was found." in result.text
    assert "no search engine is set up" in result.say


class OneHit:
    is_sample = False

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    async def search(self, query: str, limit: int) -> Sequence[SearchHit]:
        self.asked.append((query, limit))
        if query == "down":
            raise ToolFailed("the search engine does not answer")
        return [SearchHit("Larks", "https://larks.test/", "Larks sing at dawn. They nest on the ground.")]


async def test_another_provider_takes_the_samples_place(context: ToolContext) -> None:
    provider = OneHit()
    registry = ToolRegistry(TOOLS)
    registry.add(make_web_search(provider, egress=("larks.test",)), replace=True)

    result = await registry.call(
        "web_search", {"query": "which birds nest on the ground", "limit": 2}, context
    )
    failed = await registry.call("web_search", {"query": "down"}, context)

    assert provider.asked == [("which birds nest on the ground", 2), ("down", 3)]
    assert result.text == "Larks\nhttps://larks.test/\nLarks sing at dawn. They nest on the ground."
    assert result.spoken == "Larks says: They nest on the ground."
    assert failed.is_error and failed.text == "the search engine does not answer"
    assert registry.get("web_search").spec.egress == ("larks.test",)
