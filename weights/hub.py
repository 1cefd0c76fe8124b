"""Files of the model hub, fetched over HTTPS, resumed where a former fetch broke off."""

from __future__ import annotations

import httpx

from microturn.weights._errors import WeightSourceError
from microturn.weights.partial_file import PartialFile
from microturn.weights.weight_file import HubFile

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_MARK_BYTES = 8 << 20
"""A fetch that breaks off loses at most this much."""


def append_file(source: HubFile, partial: PartialFile, client: httpx.Client | None = None) -> None:
    """Append what is missing of the file. Blocks.

    Raises:
        WeightSourceError: the hub cannot be reached, refuses, or broke off; a repeated call goes on from there.
    """
    owned = client is None
    client = client or httpx.Client(timeout=_TIMEOUT, follow_redirects=True)
    try:
        _stream(client, source.url, partial)
    except httpx.HTTPError as error:
        raise WeightSourceError(f"GET {source.url} failed: {type(error).__name__}") from error
    finally:
        if owned:
            client.close()


def _stream(client: httpx.Client, url: str, partial: PartialFile) -> None:
    start = partial.done_bytes
    headers = {"Range": f"bytes={start}-"} if start else {}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == 416:  # The bytes on disk reach beyond the file; the hash will judge them.
            return
        if response.status_code not in (200, 206):
            raise WeightSourceError(f"GET {url} failed: HTTP status {response.status_code}")
        if start and response.status_code == 200:
            partial.restart()  # A server without ranges sends the file from its beginning.
        marked = partial.done_bytes
        try:
            for chunk in response.iter_bytes():
                partial.write(chunk)
                if partial.done_bytes - marked >= _MARK_BYTES:
                    partial.mark(0)
                    marked = partial.done_bytes
        finally:
            partial.mark(0)
