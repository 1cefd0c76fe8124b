"""Every test of the contract runs on each engine; what depends on the stream also on each interface."""

from __future__ import annotations

import pytest

from tests.background_agent.contract.stage import EVERY_CLIENT, EVERY_WIRE


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test each engine (`setup`), or each engine on each interface (`streaming`)."""
    for name, setups in (("setup", EVERY_CLIENT), ("streaming", EVERY_WIRE)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, setups, ids=lambda one: f"{one.engine}-{one.wire}")
