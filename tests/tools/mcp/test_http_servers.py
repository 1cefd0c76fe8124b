"""Servers over streamable HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import pytest

from microturn.tools import ToolContext, ToolRegistry
from microturn.tools.mcp import HttpServer
from tests.tools.mcp.conftest import HttpShelf, Opens

pytestmark = pytest.mark.unit


@pytest.mark.anyio
async def test_tools_work_over_http_are_cancelled_and_survive_a_restart_of_the_server(
    http_shelf: HttpShelf, opens: Opens, context: ToolContext, progress: list[str], tmp_path: Path
) -> None:
    registry = ToolRegistry()
    async with opens(shelf=http_shelf.entry) as servers:
        servers.add_to(registry)
        egress = registry.get("shelf__add").spec.egress
        added = await registry.call("shelf__add", {"a": 2, "b": 3}, context)
        await registry.call("shelf__steps", {}, context)
        with anyio.move_on_after(0.3):
            await registry.call("shelf__stay", {"seconds": 30}, context)
        with anyio.fail_after(5):
            while not (tmp_path / "cancelled").exists():
                await anyio.sleep(0.02)
        http_shelf.kill()
        away = await registry.call("shelf__put", {"thing": "cup"}, context)
        await anyio.to_thread.run_sync(http_shelf.start)
        with anyio.fail_after(15):
            while (back := await registry.call("shelf__add", {"a": 1, "b": 1}, context)).is_error:
                await anyio.sleep(0.1)

    assert egress == ("127.0.0.1",)
    assert added.text == "5" and progress == ["Half of the shelf is counted.", "All is counted."]
    assert away.is_error
    assert back.text == "2"


class Endless(BaseHTTPRequestHandler):
    """Answers everything with JSON that does not end, or with what is no MCP at all."""

    body = b""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        try:
            for _ in range(100):
                self.wfile.write(self.body)
        except OSError:
            pass  # the client has had enough

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def endless() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.anyio
@pytest.mark.parametrize("body", [b" " * 1_000_000, b"a secret, no JSON"], ids=["100 MB", "nonsense"])
async def test_an_address_that_answers_nonsense_is_reported(
    endless: ThreadingHTTPServer,
    opens: Opens,
    body: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Endless, "body", body)
    registry = ToolRegistry()
    async with opens(odd=HttpServer(url=f"http://127.0.0.1:{endless.server_port}/mcp")) as servers:
        servers.add_to(registry)

    assert "it is not connected" in registry.broken["MCP server odd"]
    assert registry.specs() == []
    assert "secret" not in caplog.text + str(registry.broken)


@pytest.mark.anyio
async def test_an_address_where_nobody_listens_is_reported(opens: Opens) -> None:
    registry = ToolRegistry()
    async with opens(none=HttpServer(url="http://127.0.0.1:1/mcp")) as servers:
        servers.add_to(registry)

    assert "it is not connected" in registry.broken["MCP server none"]
