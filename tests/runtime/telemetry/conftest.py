"""What the tests of telemetry share: a collector of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.telemetry.otlp_receiver import Collector, collector


@pytest.fixture
def receiver() -> Iterator[Collector]:
    """A collector that listens, and no setting of the user's that would send anything elsewhere."""
    with collector() as received:
        yield received


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Leaves a test out where the system allows no network namespace, in which the viewer runs."""
    program = "from microturn.runtime.telemetry.viewer_cell import leave_network; leave_network()"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the system allows no network namespace ({done.stderr.strip()})")


@pytest.fixture(scope="session")
def without_namespaces() -> tuple[str, ...]:
    """What is to stand before a command so that the kernel refuses it namespaces."""
    command = (sys.executable, str(Path(__file__).with_name("without_namespaces.py")))
    done = subprocess.run([*command, "true"], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(done.stderr.strip())
    return command
