"""Reads the body of an answer, decompressed, within a limit of size."""

from __future__ import annotations

import zlib

import httpx

from microturn.tools._errors import ToolFailed

_CHUNK_BYTES = 16_384
ENCODINGS = "gzip, deflate"
"""For the header `Accept-Encoding`: those that can be decompressed a bounded piece at a time."""


async def limited_body(response: httpx.Response, limit_bytes: int) -> bytes:
    """Return the body of a streamed answer; holds never more than the limit and one chunk.

    Args:
        response: From `client.stream(...)`, not read yet.
        limit_bytes: Largest body, both as it travels and after it is decompressed.

    Raises:
        ToolFailed: it is larger, damaged, or compressed in another way than `ENCODINGS`.
    """
    inflate = _inflater(response.headers.get("content-encoding", "identity").strip().lower())
    body, travelled = bytearray(), 0
    async for chunk in response.aiter_raw(_CHUNK_BYTES):
        travelled += len(chunk)
        try:
            body += inflate.decompress(chunk, limit_bytes + 1 - len(body)) if inflate else chunk
        except zlib.error:
            raise ToolFailed("the page is damaged: it cannot be decompressed") from None
        if max(travelled, len(body)) > limit_bytes:
            raise ToolFailed(f"the page is larger than {limit_bytes} bytes")
    return bytes(body)


def _inflater(encoding: str) -> zlib._Decompress | None:
    if encoding in {"gzip", "x-gzip", "deflate"}:
        return zlib.decompressobj(zlib.MAX_WBITS | 32)  # takes the gzip and the zlib format
    if encoding in {"", "identity"}:
        return None
    raise ToolFailed("the server compresses the page in a way that was not asked for")
