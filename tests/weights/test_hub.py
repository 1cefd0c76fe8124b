"""Fetching from the hub: resumed where it broke off, and honest about what the server says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from microturn.weights import WeightSourceError
from microturn.weights.hub import append_file
from microturn.weights.partial_file import PartialFile
from microturn.weights.weight_file import HubFile

pytestmark = pytest.mark.unit

CONTENT = bytes(range(256)) * 100
SOURCE = HubFile("owner/model", "model.gguf")


class BreakingStream(httpx.SyncByteStream):
    """Sends some bytes and then loses the connection."""

    def __init__(self, sent: bytes) -> None:
        self._sent = sent

    def __iter__(self) -> Iterator[bytes]:
        yield self._sent
        raise httpx.ReadError("lost")


def a_partial(tmp_path: Path) -> PartialFile:
    return PartialFile(tmp_path / "model.partial", SOURCE.origin, len(CONTENT), None)


def test_a_fetch_that_broke_off_goes_on_from_there(tmp_path: Path) -> None:
    asked: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("Range"))
        if len(asked) == 1:
            return httpx.Response(200, stream=BreakingStream(CONTENT[:10_000]))
        return httpx.Response(206, content=CONTENT[10_000:])

    client = httpx.Client(transport=httpx.MockTransport(answer))
    with pytest.raises(WeightSourceError, match="ReadError"), a_partial(tmp_path) as partial:
        append_file(SOURCE, partial, client)
    with a_partial(tmp_path) as partial:
        append_file(SOURCE, partial, client)
    assert asked == [None, "bytes=10000-"]
    assert (tmp_path / "model.partial").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_the_file_from_its_beginning(tmp_path: Path) -> None:
    with a_partial(tmp_path) as partial:
        partial.write(b"old bytes")
        partial.mark(0)
    client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, content=CONTENT)))
    with a_partial(tmp_path) as partial:
        append_file(SOURCE, partial, client)
    assert (tmp_path / "model.partial").read_bytes() == CONTENT


def test_bytes_of_another_source_are_not_gone_on_with(tmp_path: Path) -> None:
    with PartialFile(tmp_path / "model.partial", "wheels", len(CONTENT), None) as partial:
        partial.write(b"bytes of a wheel")
        partial.mark(1)
    with a_partial(tmp_path) as partial:
        assert (partial.done_bytes, partial.parts) == (0, 0)


def test_a_refusal_names_the_status_and_the_address(tmp_path: Path) -> None:
    client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(404)))
    with a_partial(tmp_path) as partial, pytest.raises(WeightSourceError, match="owner/model.*404"):
        append_file(SOURCE, partial, client)
