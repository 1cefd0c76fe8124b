"""The commands with which a bus is operated: what they print of a real server, and how they end."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

from microturn.protocols import ContextPackage, Floor
from microturn.protocols.runtime_status import RuntimeStatus, SessionStatus
from microturn.runtime.bus import BusSettings, EmbeddedServer, open_delegation_port, open_worker_port
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.overview import open_observer
from microturn.runtime.bus.raw import command
from microturn.runtime.bus.status_board import posting_status
from tests.runtime.conftest import Run

pytestmark = [pytest.mark.redis, pytest.mark.usefixtures("home")]


@pytest.fixture
def tenant(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)[:60].replace("[", "-").replace("]", "")


@pytest.fixture
def run(run: Run, redis_server: EmbeddedServer, tenant: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command against the server, as this test's tenant."""
    monkeypatch.setenv("MICROTURN_REDIS_URL", redis_server.url)
    monkeypatch.setenv("MICROTURN_TENANT", tenant)
    monkeypatch.setenv("COLUMNS", "80")
    return run


@pytest.fixture
def settings(redis_server: EmbeddedServer, tenant: str) -> BusSettings:
    return BusSettings(redis_server.url, tenant=tenant)


def package(task_id: str, session_id: str = "kitchen") -> ContextPackage:
    return ContextPackage(
        task_id=task_id,
        session_id=session_id,
        idempotency_key=task_id,
        intent="the secret wish",
        said_start_ms=0,
        said_end_ms=400,
        local_time="2026-01-01T12:00:00+00:00",
        deadline_s=60.0,
    )


def status(runtime_id: str, *session_ids: str) -> RuntimeStatus:
    sessions = tuple(
        SessionStatus(session_id=each, floor=Floor.ASSISTANT, age_s=90, open_tasks=1, task_ids=("0a1b2c3d",))
        for each in session_ids
    )
    return RuntimeStatus(
        runtime_id=runtime_id,
        host="here",
        pid=4711,
        sessions=sessions,
        session_count=len(sessions),
        ticks=300,
        tick_p50_ms=20.4,
        tick_p99_ms=231.0,
        missed=2,
    )


@asynccontextmanager
async def a_bus_at_work(settings: BusSettings, *session_ids: str) -> AsyncIterator[None]:
    """A runtime with sessions, a worker, and a task that waits."""
    async with (
        open_delegation_port(settings, runtime_id="r1") as port,
        open_worker_port(settings, worker_id="w1"),
        posting_status(settings, lambda: status("r1", *session_ids)),
        open_observer(settings) as observer,
    ):
        await port.submit(package("waiting"))
        with anyio.fail_after(5):
            while not any(each.status for each in (await observer.look()).runtimes):
                await anyio.sleep(0.02)
        yield


async def give_up(settings: BusSettings, *task_ids: str) -> None:
    """Let the workers of each task die until it is given up."""
    once = replace(settings, max_attempts=1, lease_s=0.05)
    async with open_delegation_port(settings, runtime_id="r1") as port:
        for task_id in task_ids:
            await port.submit(package(task_id))
            async with open_worker_port(once) as worker:
                assert await worker.begin(await worker.take()) is not None
            async with open_worker_port(once) as other:
                assert await other.begin(await other.take()) is None


@pytest.fixture
def working(settings: BusSettings) -> Iterator[None]:
    """A bus at work beside the test, on an event loop of its own."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(a_bus_at_work(settings, "kitchen")),
    ):
        yield


# Top.


def test_one_picture_has_who_is_there_and_what_waits(run: Run, working: None) -> None:
    done = run("top", "--once")
    assert done.code == 0
    for words in (
        "1 runtime  1 session  1 worker  0 running  1 waiting  0 dead",
        "here:4711",
        "20 ms",
        "231 ms",
        "kitchen",
        "assistant",
        "0a1b2c",
        "w1",
    ):
        assert words in done.out
    assert "secret" not in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_a_picture_as_json_is_one_line(run: Run, working: None) -> None:
    done = run("top", "--json")
    assert done.out.count("\n") == 1
    seen = json.loads(done.out)
    assert seen["runtimes"][0]["status"]["sessions"][0]["session_id"] == "kitchen"
    assert [lane["waiting"] for lane in seen["lanes"]] == [0, 1]
    assert "secret" not in done.out


def test_a_bus_that_nobody_has_used_is_said_to_be_so(run: Run) -> None:
    assert "Nobody has used this tenant yet" in run("top", "--once").out


def test_tasks_that_wait_without_a_worker_are_said_to_do_so(run: Run, settings: BusSettings) -> None:
    async def leave_one() -> None:
        async with open_delegation_port(settings) as port:
            await port.submit(package("waiting"))

    anyio.run(leave_one)
    assert "Tasks wait and nobody works on them" in run("top", "--once").out


def test_a_built_in_server_that_does_not_run_is_not_started(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MICROTURN_REDIS_URL")
    done = run("top", "--once")
    assert done.code == 1
    assert "the built-in server, which runs while `microturn talk` does" in done.err
    assert not EmbeddedServer().socket_path.exists()


@contextmanager
def on_a_terminal(*words: str, rows: int = 24, columns: int = 80) -> Iterator[Terminal]:
    """Run a command on a terminal of its own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    # A test run that was itself started in the background hands down a Ctrl-C that is ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "microturn.runtime.cli", *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm"},
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, handler)
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


class Terminal:
    """What a command on a terminal shows, and a way to press keys."""

    def __init__(self, fd: int, process: subprocess.Popen[bytes]) -> None:
        self._fd = fd
        self.process = process
        self.shown = ""

    def until(self, words: str, within_s: float = 15.0) -> None:
        """Wait until it shows these words."""
        self.shown = ""
        give_up_s = time.monotonic() + within_s
        while words not in self.shown:
            assert time.monotonic() < give_up_s, self.shown[-2000:]
            if select.select([self._fd], [], [], 0.1)[0]:
                self.shown += os.read(self._fd, 65536).decode(errors="replace")

    def press(self, key: str) -> None:
        """Press a key."""
        os.write(self._fd, key.encode())


def test_the_live_view_goes_through_an_outage_and_ends_with_q(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "server", restart=False)
    with server, on_a_terminal("top", "--redis", server.url) as terminal:
        terminal.until("Nobody has used this tenant yet")
        server.stop()
        terminal.until("Trying again.")
        server.start()
        terminal.until("Nobody has used this tenant yet")
        terminal.press("q")
        assert terminal.process.wait(5) == 0
        assert "\x1b[?1049l" in drained(terminal)  # the screen that was there before is back


def test_the_live_view_ends_with_ctrl_c_without_a_traceback(redis_server: EmbeddedServer) -> None:
    with on_a_terminal("top", "--redis", redis_server.url) as terminal:
        terminal.until("microturn top")
        os.killpg(terminal.process.pid, signal.SIGINT)
        assert terminal.process.wait(5) == 0
        assert "Traceback" not in drained(terminal)


def drained(terminal: Terminal) -> str:
    """What is still shown once the command has ended."""
    with suppress(OSError):  # the other end is closed
        while select.select([terminal._fd], [], [], 0.2)[0]:
            terminal.shown += os.read(terminal._fd, 65536).decode(errors="replace")
    return terminal.shown


# Sessions.


def test_the_sessions_that_run_are_listed_with_their_floor(run: Run, working: None) -> None:
    done = run("session", "list")
    assert "kitchen" in done.out and "assistant" in done.out


def test_a_session_whose_process_died_is_listed_as_cut_off(run: Run, settings: BusSettings) -> None:
    async def die() -> None:
        async with open_delegation_port(settings, runtime_id="r1"), open_clients(settings) as clients:
            key = Keys(settings.tenant, settings.shards).status("r1")
            await command(clients.commands, "SET", key, status("r1", "kitchen").encode(), "PX", 3_000_000)

    anyio.run(die)
    out = run("session", "list").out
    assert "kitchen" in out and "cut off" in out


def test_no_session_is_said_to_be_none(run: Run) -> None:
    assert "no session runs" in run("session", "list").out


# Dead letters.


def test_what_was_given_up_is_listed_and_shown_without_its_words(run: Run, settings: BusSettings) -> None:
    anyio.run(give_up, settings, "poison-1", "venom-2")
    listed = run("dead", "list")
    assert "2 given up" in listed.out
    assert listed.out.index("venom-2") < listed.out.index("poison-1")
    shown = run("dead", "show", "pois")
    for words in ("poison-1", "session  kitchen, which is open", "its workers died of it", "attempt 2: dead"):
        assert words in shown.out
    assert "secret" not in listed.out + shown.out
    assert "wanted   the secret wish" in run("dead", "show", "pois", "--words").out


def test_one_is_tried_again_and_another_dropped(run: Run, settings: BusSettings) -> None:
    anyio.run(give_up, settings, "poison-1", "venom-2")
    assert run("dead", "drop", "venom").out == "dropped venom-2\n"
    done = run("dead", "retry", "poison")
    assert done.code == 0 and done.out.startswith("handed over as ")
    assert "0 given up" in run("dead", "list").out
    assert "1 waiting" in run("top", "--once").out


def test_one_that_is_not_there_is_a_sentence(run: Run) -> None:
    done = run("dead", "show", "nothing")
    assert done.code == 1
    assert "`microturn dead list` names them" in done.err and done.err.count("\n") == 1
