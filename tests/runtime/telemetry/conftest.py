"""What the tests of telemetry share: a collector of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.runtime.telemetry.otlp_receiver import Collector, collector


@pytest.fixture
def receiver() -> Iterator[Collector]:
    """A collector that listens, and no setting of the user's that would send anything elsewhere."""
    with collector() as received:
        yield received
