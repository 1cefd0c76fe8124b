"""How many threads compute, for tests whose bits must not depend on it."""

from __future__ import annotations

import os
from collections.abc import Iterator

# Idle threads of OpenMP sleep instead of spinning; read once, when PyTorch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch


@pytest.fixture(params=(1, 2, 3, 8))
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many threads in this test; more than the machine has processors are of use too."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
