"""What every test stands on: one event loop, one category per module."""

from __future__ import annotations

import pytest

CATEGORIES = frozenset({"unit", "redis", "model", "slow", "gpu", "bench"})


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test module that does not say what it needs."""
    for item in items:
        own = {mark.name for mark in item.iter_markers()} & CATEGORIES
        if not own:
            raise pytest.UsageError(
                f"{item.nodeid}: set `pytestmark` to one of {', '.join(sorted(CATEGORIES))}"
            )
