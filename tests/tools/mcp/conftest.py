"""Servers for the tests: each a real process, reached as an operator's would be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from microturn.tools.mcp import HttpServer, McpConfig, McpServers, Pins, StdioServer

HERE = Path(__file__).parent
Opens = Callable[..., McpServers]


@pytest.fixture
def shelf(tmp_path: Path) -> StdioServer:
    """A server made with the SDK, over stdio."""
    return StdioServer(command=sys.executable, args=(str(HERE / "shelf_server.py"), str(tmp_path)))


def crude(how: str, **options: object) -> StdioServer:
    """Return a server that misbehaves."""
    entry = {"command": sys.executable, "args": (str(HERE / "crude_server.py"), how), **options}
    return StdioServer.model_validate(entry)


@pytest.fixture
def pins(tmp_path: Path) -> Pins:
    return Pins(tmp_path / "state")


@pytest.fixture
def opens(pins: Pins) -> Opens:
    """Makes the servers of a configuration; what they offer is pinned in the test's own folder."""

    def make(**servers: StdioServer | HttpServer) -> McpServers:
        return McpServers(McpConfig(servers), pins)

    return make


class HttpShelf:
    """A server made with the SDK, over HTTP, that can be ended and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self.start()

    @property
    def entry(self) -> HttpServer:
        return HttpServer(url=f"http://127.0.0.1:{self._port}/mcp")

    def start(self) -> None:
        port_file = self._folder / "port"
        port_file.unlink(missing_ok=True)
        command = [sys.executable, str(HERE / "shelf_server.py"), str(self._folder), "--http", str(port_file)]
        self._process = subprocess.Popen(command, env={**os.environ, "SHELF_PORT": str(self._port)})
        until_s = time.monotonic() + 15
        while not port_file.exists() or not port_file.read_text():
            assert time.monotonic() < until_s, "the server did not start"
            time.sleep(0.02)
        self._port = json.loads(port_file.read_text())

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def http_shelf(tmp_path: Path) -> Iterator[HttpShelf]:
    shelf = HttpShelf(tmp_path)
    yield shelf
    shelf.kill()
