"""What the tests of the kernels find about this processor stays out of the user's cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels-cache")


@pytest.fixture(scope="module", autouse=True)
def cache_of_the_tests(findings: Path) -> Iterator[None]:
    """Set for one module at a time: other tests find their weights in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MICROTURN_CACHE", str(findings))
        yield
