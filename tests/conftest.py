"""What every test stands on: one event loop, one category per module."""

from __future__ import annotations

import os

import pytest

# Triton decides when it is first imported, by whatever test, whether its kernels are interpreted.
os.environ.setdefault("TRITON_INTERPRET", "1")
# Read when PyTorch is first imported. Threads that spin wait for each other for seconds where others use the cores;
# tests that are about threads ask for them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

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
