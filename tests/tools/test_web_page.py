"""Reading of web pages: what comes back, and where it stops."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator

import anyio
import httpx
import pytest

from microturn.tools import ToolContext, ToolError, ToolFailed, ToolRegistry, ToolRetry
from microturn.tools.builtin.web_page import PageReader, read_web_page

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


class Site:
    """A web site on the public internet, and one host that is not."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.is_endless = False
        self.bytes_taken = 0

    def put(self, path: str, body: bytes, *, status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.pages[path] = (status, {"content-type": "text/html", **named}, body)

    def reader(self, **options: float) -> PageReader:
        transport = httpx.MockTransport(self._answer)
        return PageReader(
            transport,
            self._resolve,
            limit_bytes=int(options.get("limit_bytes", 10_000)),
            time_limit_s=options.get("time_limit_s", 5.0),
        )

    async def _resolve(self, host: str, port: int) -> list[str]:
        return ["10.0.0.1"] if host.startswith("inside") else ["93.184.215.14"]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        status, headers, body = self.pages.get(request.url.path, (404, {}, b""))
        return httpx.Response(status, headers=headers, content=self._stream(body))

    async def _stream(self, body: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            self.bytes_taken += 1000
            yield body[start : start + 1000]
        if self.is_endless:
            await anyio.sleep_forever()


async def test_a_page_comes_back_as_title_and_text() -> None:
    site = Site()
    site.put("/", b"<title>Home</title><nav>Menu</nav><h1>Hello</h1><p>First &amp; last.")

    text = await site.reader().read("https://example.org/")

    assert text == "Address: https://example.org/\nTitle: Home\n\n# Hello\n\nFirst & last."


async def test_plain_text_and_json_come_back_as_they_are() -> None:
    site = Site()
    site.put("/a.txt", b"<b>not markup</b>", content_type="text/plain; charset=utf-8")

    assert (await site.reader().read("https://example.org/a.txt")).endswith("\n\n<b>not markup</b>")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("blåbær".encode("latin-1"), "text/plain; charset=latin-1"),
        ("<meta charset='iso-8859-1'><p>blåbær".encode("latin-1"), "text/html"),
        ("blåbær".encode(), "text/plain"),
        ("blåbær".encode(), "text/plain; charset=punycode"),
        ("blåbær".encode(), "text/plain; charset=no-such-thing"),
    ],
)
async def test_the_character_set_is_the_declared_one_or_utf_8(body: bytes, content_type: str) -> None:
    site = Site()
    site.put("/", body, content_type=content_type)

    assert "blåbær" in await site.reader().read("https://example.org/")


async def test_a_redirect_is_followed_and_checked_again() -> None:
    site = Site()
    site.put("/old", b"", status=302, location="https://www.example.org/new")
    site.put("/trap", b"", status=302, location="http://inside.example.org/new")
    site.put("/file", b"", status=302, location="file:///etc/passwd")
    site.put("/loop", b"", status=302, location="/loop")
    site.put("/new", b"<p>here")

    assert "https://www.example.org/new" in await site.reader().read("https://example.org/old")
    with pytest.raises(ToolRetry, match="public"):
        await site.reader().read("https://example.org/trap")
    with pytest.raises(ToolRetry):
        await site.reader().read("https://example.org/file")
    with pytest.raises(ToolFailed, match="more than 5 times"):
        await site.reader().read("https://example.org/loop")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_page_is_read(encoding: str) -> None:
    site = Site()
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    site.put("/", pack(b"<p>small when packed" + b" really" * 500), content_encoding=encoding)

    assert (await site.reader().read("https://example.org/")).endswith(" really")


async def test_a_page_that_unpacks_to_too_much_is_stopped_early() -> None:
    site = Site()
    site.put("/", gzip.compress(bytes(50_000_000)), content_encoding="gzip")

    with pytest.raises(ToolFailed, match="larger than 100000 bytes"):
        await site.reader(limit_bytes=100_000).read("https://example.org/")

    assert site.bytes_taken < 20_000


async def test_a_page_that_travels_as_too_much_is_stopped_early() -> None:
    site = Site()
    site.put("/", b"x" * 1_000_000)

    with pytest.raises(ToolFailed, match="larger than 10000 bytes"):
        await site.reader().read("https://example.org/")

    assert site.bytes_taken < 40_000


async def test_a_server_that_never_ends_its_answer_is_left_in_time() -> None:
    site = Site()
    site.is_endless = True
    site.put("/", b"<p>one moment")

    with pytest.raises(ToolFailed, match="within 0.05 seconds"):
        await site.reader(time_limit_s=0.05).read("https://example.org/")


async def test_what_is_no_readable_page_is_explained() -> None:
    site = Site()
    site.put("/a.png", b"\x89PNG", content_type="image/png")
    site.put("/bad", b"not gzip", content_encoding="gzip")
    site.put("/br", b"??", content_encoding="br")
    cases = {"/a.png": "image/png", "/missing": "404", "/bad": "damaged", "/br": "not asked for"}

    for path, text in cases.items():
        with pytest.raises(ToolError, match=text):
            await site.reader().read(f"https://example.org{path}")


async def test_a_refused_connection_is_a_failure_without_the_address() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused at 93.184.215.14", request=request)

    async def resolve(host: str, port: int) -> list[str]:
        return ["93.184.215.14"]

    with pytest.raises(ToolFailed, match=r"cannot be fetched \(ConnectError\)"):
        await PageReader(httpx.MockTransport(refuse), resolve).read("https://example.org/")


@pytest.mark.parametrize(
    "url", ["localhost", "http://127.0.0.1/", "http://[::1]/", "http://169.254.169.254/x", "", "::"]
)
async def test_the_tool_itself_reaches_nothing_inside(url: str, context: ToolContext) -> None:
    result = await ToolRegistry([read_web_page]).call("read_web_page", {"url": url}, context)

    assert result.is_error and result.retryable
