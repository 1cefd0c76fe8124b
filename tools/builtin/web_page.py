"""Reads one page of the public web, within limits of size and time."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

import anyio
import anyio.to_thread
import httpx

from microturn.tools import ToolFailed, ToolRetry, tool
from microturn.tools.builtin.readable import readable_text
from microturn.tools.egress.addresses import Resolver, resolve
from microturn.tools.egress.body import ENCODINGS, limited_body
from microturn.tools.egress.transport import GuardedTransport

LIMIT_BYTES = 1_000_000
"""Largest page, both as it travels and after it is decompressed."""
TIME_LIMIT_S = 12.0
_MAX_REDIRECTS = 5
_TEXT_TYPES = re.compile(r"text/|application/(?:json|xml|xhtml\+xml)|$")
_META_CHARSET = re.compile(rb"<meta[^>]{0,100}charset=[\"']?([\w-]{1,40})", re.IGNORECASE)
_CHARSETS = re.compile(r"utf-(?:8|16|32)|ascii|iso8859|cp\d|koi8|mac-|gb|big5|shift_jis|euc_|iso2022")
_HEADERS = {
    "User-Agent": "microturn (reads a page on a person's request)",
    "Accept-Encoding": ENCODINGS,
}


@dataclass(frozen=True, slots=True)
class PageReader:
    """Fetches pages; one connection a page, nothing is kept between them."""

    transport: httpx.AsyncBaseTransport | None = None
    """What carries the checked requests; None is the network."""
    resolver: Resolver = resolve
    limit_bytes: int = LIMIT_BYTES
    time_limit_s: float = TIME_LIMIT_S

    async def read(self, url: str) -> str:
        """Return the page's address, title and text.

        Raises:
            ToolRetry: the address is not one of a readable page on the public internet.
            ToolFailed: the server does not answer in time, answers with an error, or sends too much.
        """
        inner = self.transport or httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))
        client = httpx.AsyncClient(
            transport=GuardedTransport(inner, self.resolver),
            headers=_HEADERS,
            follow_redirects=True,
            max_redirects=_MAX_REDIRECTS,
            timeout=self.time_limit_s,
            trust_env=False,
        )
        try:
            with anyio.fail_after(self.time_limit_s):
                async with client, client.stream("GET", url) as response:
                    return await self._page(response)
        except TimeoutError:
            raise ToolFailed(f"the page was not there within {self.time_limit_s:g} seconds") from None
        except httpx.InvalidURL:
            raise ToolRetry("`url` is not a web address; write it like https://example.org/page") from None
        except httpx.TooManyRedirects:
            raise ToolFailed(f"the page sends on to another more than {_MAX_REDIRECTS} times") from None
        except httpx.HTTPError as error:
            raise ToolFailed(f"the page cannot be fetched ({type(error).__name__})") from None

    async def _page(self, response: httpx.Response) -> str:
        if response.status_code >= 400:
            raise ToolFailed(f"the server answers with status {response.status_code}")
        media_type = response.headers.get("content-type", "").lower()
        if not _TEXT_TYPES.match(media_type):
            raise ToolFailed(f"this is no text but {media_type.split(';')[0][:60]!r}")
        body = await limited_body(response, self.limit_bytes)
        text = _decoded(body, response.charset_encoding)
        heading = f"Address: {response.url}\n"
        if "html" in media_type or (not media_type and "<html" in text[:1000].lower()):
            page = await anyio.to_thread.run_sync(readable_text, text, abandon_on_cancel=True)
            return f"{heading}Title: {page.title or '(none)'}\n\n{page.text}"
        return f"{heading}\n{text}"


_reader = PageReader()


@tool(timeout_s=TIME_LIMIT_S + 3, max_concurrency=4, egress=("*",), spoken_filler="Let me read that page.")
async def read_web_page(url: str) -> str:
    """Read a page of the public web as text.

    Args:
        url: The address, beginning with https:// or http://.
    """
    address = url.strip()
    return await _reader.read(address if "://" in address else f"https://{address}")


def _decoded(body: bytes, charset: str | None) -> str:
    """Decode as the header or the page itself declares, and as UTF-8 where that is no character set of the web."""
    declared = _META_CHARSET.search(body[:2048])
    name = charset or (declared[1].decode("ascii", "ignore") if declared else "utf-8")
    try:
        known = _CHARSETS.match(codecs.lookup(name).name)
    except LookupError:
        known = None
    return body.decode(name if known else "utf-8", errors="replace")
