"""Web search behind a provider, with a small offline sample for a first run.

A real provider is put in by `registry.add(make_web_search(provider), replace=True)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Protocol

from pydantic import Field, TypeAdapter

from microturn.tools import Spoken, Tool, tool
from microturn.tools.builtin.documents import best_sentence
from microturn.tools.builtin.ranking import Bm25


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One page that was found."""

    title: str
    url: str
    snippet: str
    """A few sentences of the page."""


class SearchProvider(Protocol):
    """Finds pages on the web."""

    @property
    def is_sample(self) -> bool:
        """Whether the hits are made up for trying things out; the results then say so."""

    async def search(self, query: str, limit: int) -> Sequence[SearchHit]:
        """Return at most `limit` hits, the best first.

        Raises:
            ToolFailed: the search engine does not answer.
        """


class SampleSearch:
    """A dozen pages that come with microturn, searched offline."""

    is_sample = True

    def __init__(self) -> None:
        data = (files("microturn.tools.builtin") / "sample_search.json").read_bytes()
        self._hits = TypeAdapter(tuple[SearchHit, ...]).validate_json(data)
        self._ranking = Bm25([f"{hit.title} {hit.snippet}" for hit in self._hits])

    async def search(self, query: str, limit: int) -> Sequence[SearchHit]:
        """Return the sample pages that have words of the query."""
        return [self._hits[ranked.index] for ranked in self._ranking.rank(query, limit)]


def make_web_search(provider: SearchProvider, egress: tuple[str, ...] = ()) -> Tool[..., Spoken]:
    """Make the `web_search` tool over a provider that reaches the hosts in `egress`."""

    @tool(timeout_s=15.0, egress=egress, spoken_filler="Let me look that up.")
    async def web_search(
        query: Annotated[str, Field(min_length=1, max_length=300)],
        limit: Annotated[int, Field(ge=1, le=10)] = 3,
    ) -> Spoken:
        """Search the web and return titles, addresses and short extracts.

        Args:
            query: What to look for, in a few words.
            limit: How many pages at most.
        """
        return _result(await provider.search(query, limit), query, is_sample=provider.is_sample)

    return web_search


def _result(hits: Sequence[SearchHit], query: str, *, is_sample: bool) -> Spoken:
    note = "Sample data that comes with microturn, not the live web.\n\n" if is_sample else ""
    where = "in the sample data; no search engine is set up" if is_sample else "on the web"
    if not hits:
        return Spoken(text=f"{note}Nothing was found.", say=f"I found nothing about that {where}.")
    shown = "\n\n".join(f"{hit.title}\n{hit.url}\n{hit.snippet}" for hit in hits)
    source = "Sample data says" if is_sample else f"{hits[0].title} says"
    return Spoken(text=note + shown, say=f"{source}: {best_sentence(hits[0].snippet, query)}")


web_search = make_web_search(SampleSearch())
