"""The local viewer: reached through the loopback interface and in no other way, and gone with whoever started it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from microturn.protocols import UnavailableError
from microturn.protocols import telemetry_names as names
from microturn.runtime._errors import MissingExtraError, ViewerRefusedError
from microturn.runtime.telemetry import viewer
from microturn.runtime.telemetry.span_record import spans_of_task, traces_folder
from microturn.runtime.telemetry.viewer import LOOPBACK, trace_viewer

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

PROGRAM = """
import anyio
from microturn.runtime.telemetry.viewer import trace_viewer

async def main():
    async with trace_viewer() as address:
        print(address, flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


def ports_of(process: psutil.Process) -> set[tuple[str, int]]:
    """Where a process and its children listen in this network."""
    family = {process.pid, *(child.pid for child in process.children(recursive=True))}
    return {
        (each.laddr.ip, each.laddr.port)
        for each in psutil.net_connections("inet")
        if each.pid in family and each.status == psutil.CONN_LISTEN
    }


@pytest.mark.usefixtures("namespaces")
def test_it_listens_on_the_loopback_interface_alone_and_dies_with_its_parent(home: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert httpx.get(f"{address}/api/sessions").json() == []
        family = psutil.Process(process.pid)
        children = family.children(recursive=True)
        assert "tv" in {child.name() for child in children}
        assert ports_of(family) == {(LOOPBACK, int(address.rpartition(":")[2]))}
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []


async def test_without_the_package_the_error_says_what_to_install(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "find_viewer", lambda: None)
    with pytest.raises(MissingExtraError, match=r"microturn\[telemetry\]"):
        async with trace_viewer():
            pass


@pytest.mark.usefixtures("namespaces")
async def test_a_program_that_ends_at_once_is_told_of(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "find_viewer", lambda: "/bin/false")
    with pytest.raises(UnavailableError, match="ended at once with status 1"):
        async with trace_viewer():
            pass


RECORDING = """
import anyio
from microturn.runtime._errors import ViewerRefusedError
from microturn.runtime.telemetry.process_telemetry import process_telemetry
from microturn.runtime.telemetry.viewer import trace_viewer
from microturn.runtime.tracing import trace_hand_over

async def main():
    try:
        async with trace_viewer():
            pass
    except ViewerRefusedError as error:
        print(error)
    async with process_telemetry("microturn-test", trace=True, metrics_port=None, say=print):
        trace_hand_over("kitchen", "task-1", "default", 100.0)

anyio.run(main)
"""


def test_where_the_system_allows_no_namespace_it_is_said_and_the_record_is_kept(
    home: Path, without_namespaces: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [*without_namespaces, sys.executable, "-c", RECORDING], check=True, capture_output=True, text=True
    )
    refused, said = done.stdout.splitlines()
    assert "(Operation not permitted)" in refused and "MICROTURN_TRACE=1" in refused
    assert "(Operation not permitted)" in said and "`microturn delegation show`" in said
    assert {span.name for span in spans_of_task(traces_folder(), "task-1")} == {
        names.SEND_SPAN,
        names.TURN_SPAN,
    }


async def test_on_another_system_the_viewer_is_refused_and_not_missing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ViewerRefusedError, match="on Linux only"):
        async with trace_viewer():
            pass
