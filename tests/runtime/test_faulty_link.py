"""The faulty link does to a connection exactly what it is told, and nothing once it is healed."""

from __future__ import annotations

import gc
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, InvalidResponse, TimeoutError
from redis.retry import Retry

from microturn.runtime.bus import EmbeddedServer
from microturn.runtime.testing import Faults, FaultyLink

pytestmark = pytest.mark.redis


@pytest.fixture(params=["unix", "tcp"])
def link(
    redis_server: EmbeddedServer, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[FaultyLink]:
    path = tmp_path / "link.sock" if request.param == "unix" else None
    with FaultyLink(redis_server.url, path=path) as running:
        yield running


def connect(link: FaultyLink, *, timeout_s: float = 5.0) -> Redis:
    """A client that tries everything once."""
    return Redis.from_url(link.url, socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0), protocol=2)


def raw_connection(link: FaultyLink) -> socket.socket:
    """A client that says nothing."""
    url = urlsplit(link.url)
    if url.scheme == "redis":
        return socket.create_connection((url.hostname, url.port), timeout=5)
    client = socket.socket(socket.AF_UNIX)
    client.connect(url.path)
    return client


def test_a_healthy_link_passes_everything(link: FaultyLink) -> None:
    with connect(link) as client:
        client.set("large", "x" * 300_000)
        assert client.get("large") == b"x" * 300_000
    assert link.counters.dropped == link.counters.garbled == 0


def test_a_dropped_reply_breaks_the_connection_after_the_command_was_done(link: FaultyLink) -> None:
    with connect(link) as client:
        client.set("count", 0)
        link.set(Faults(drop_every=2))
        assert client.incr("count") == 1
        with pytest.raises(ConnectionError):
            client.incr("count")
        link.heal()
        assert client.get("count") == b"2"
    assert link.counters.dropped == 1


def test_faults_end_at_their_limit(link: FaultyLink) -> None:
    with connect(link) as client:
        client.set("count", 0)
        link.set(Faults(drop_every=1, limit=2))
        for _ in range(2):
            with pytest.raises(ConnectionError):
                client.get("count")
        for _ in range(5):
            client.get("count")
    assert link.counters.dropped == 2


def test_a_garbled_reply_cannot_be_read(link: FaultyLink) -> None:
    with connect(link) as client:
        client.ping()
        link.set(Faults(garble_every=1, limit=1))
        with pytest.raises(InvalidResponse):
            client.ping()
    assert link.counters.garbled == 1


def test_a_cut_link_refuses_and_a_healed_one_serves_at_the_same_address(link: FaultyLink) -> None:
    with connect(link) as client:
        client.ping()
        link.set(Faults(cut=True))
        for _ in range(3):
            with pytest.raises(ConnectionError):
                client.ping()
        link.heal()
        assert client.ping()


def test_a_stalled_link_accepts_and_passes_nothing_until_it_is_healed(link: FaultyLink) -> None:
    link.set(Faults(stall=True))
    with connect(link, timeout_s=0.2) as client, pytest.raises(TimeoutError):
        client.ping()
    link.heal()
    with connect(link) as client:
        assert client.ping()


def test_a_slow_link_delays_every_reply(link: FaultyLink) -> None:
    with connect(link) as client:
        client.ping()
        link.set(Faults(delay_s=0.05))
        began_s = time.monotonic()
        for _ in range(4):
            client.ping()
        assert time.monotonic() - began_s >= 0.2


def test_the_same_seed_drops_the_same_replies(redis_server: EmbeddedServer) -> None:
    def dropped(seed: int) -> list[int]:
        with FaultyLink(redis_server.url, seed=seed) as link, connect(link) as client:
            client.ping()
            link.set(Faults(drop_every=4))
            lost = []
            for number in range(60):
                try:
                    client.ping()
                except ConnectionError:
                    lost.append(number)
            return lost

    first = dropped(7)
    assert first == dropped(7)
    assert first != dropped(8)
    assert len(first) > 5


def test_a_link_to_a_server_that_is_away_breaks_the_connection(tmp_path: Path) -> None:
    with (
        FaultyLink(f"unix://{tmp_path}/nothing") as link,
        connect(link) as client,
        pytest.raises(ConnectionError),
    ):
        client.ping()


@pytest.mark.parametrize("over", ["unix", "tcp"])
def test_a_link_that_ends_while_clients_connect_leaves_nothing_open(
    redis_server: EmbeddedServer, tmp_path: Path, over: str
) -> None:
    path = tmp_path / "link.sock" if over == "unix" else None
    with warnings.catch_warnings(record=True) as leaks:
        warnings.simplefilter("always", ResourceWarning)
        for _ in range(30):
            with ExitStack() as clients, FaultyLink(redis_server.url, path=path) as link:
                for _ in range(3):
                    clients.enter_context(raw_connection(link))
        gc.collect()
    assert [str(leak.message) for leak in leaks] == []
