from __future__ import annotations

import pytest

from microturn.runtime.bus import BusAddressError
from microturn.runtime.bus.address import address_of, parse_address

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("url", ["redis://u:p@host:7000/1", "rediss://host", "unix:///run/redis.sock?db=1"])
def test_the_address_of_one_server_is_left_to_redis_py(url: str) -> None:
    address = parse_address(url)
    assert (address.kind, address.url, address.hosts) == ("server", url, ())


def test_a_cluster_is_some_of_its_nodes() -> None:
    address = parse_address("redis+cluster://me:p%40ss@one:7000,two,[::1]:7002")
    assert address.kind == "cluster"
    assert address.hosts == (("one", 7000), ("two", 6379), ("::1", 7002))
    assert address.login == {"username": "me", "password": "p@ss"}
    assert address.tls == {}


def test_a_service_is_named_to_its_sentinels() -> None:
    address = parse_address(
        "rediss+sentinel://:secret@one,two:5000/tasks?sentinel_password=p&ssl_ca_certs=/ca"
    )
    assert address.kind == "sentinel"
    assert address.hosts == (("one", 26379), ("two", 5000))
    assert address.service == "tasks"
    assert address.login == {"password": "secret"}
    assert address.sentinel_login == {"password": "p"}
    assert address.tls == {"ssl": True, "ssl_ca_certs": "/ca"}


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("http://host", "its scheme is none of those"),
        ("host:6379", "its scheme is none of those"),
        ("redis://host:0", "expected host:port, got 'host:0'"),
        ("redis://me:secret@host:port", "expected host:port, got 'host:port'"),
        ("redis+cluster://", "expected host:port, got ''"),
        ("redis+cluster://one:0", "expected host:port, got 'one:0'"),
        ("redis+cluster://one:x", "expected host:port, got 'one:x'"),
        ("redis+cluster://one,,two", "expected host:port, got ''"),
        ("redis+cluster://one/1", "expected nothing after the hosts"),
        ("redis+sentinel://one", "expected the name of the service after the hosts"),
        ("redis+sentinel://one/a/b", "expected the name of the service after the hosts"),
        ("redis+cluster://one?password=secret", r"got \['password'\]"),
    ],
)
def test_what_names_no_server_is_refused_with_what_is_wrong(url: str, what: str) -> None:
    with pytest.raises(BusAddressError, match=what):
        parse_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://me:secret@one:x",
        "redis+sentinel://me:secret@one",
        "http://me:secret@one",
        "redis+cluster://one?password=secret",
    ],
)
def test_neither_a_message_nor_a_repr_holds_a_password(url: str) -> None:
    with pytest.raises(BusAddressError) as caught:
        parse_address(url)
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(parse_address("redis+sentinel://me:secret@a/b?sentinel_password=secret"))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://u:p@host:7000/1", "redis://host:7000/1"),
        ("rediss://host", "rediss://host:6379"),
        ("redis://:p@[::1]:1/0?password=p", "redis://[::1]:1/0"),
        ("redis://[::1]", "redis://[::1]:6379"),
        ("unix://u:p@/run/redis.sock?db=1&password=p", "unix:///run/redis.sock"),
        ("redis+cluster://u:p@one:1,two", "redis+cluster://one:1,two"),
        ("redis+sentinel://u:p@one:1,two/tasks?sentinel_password=p", "redis+sentinel://one:1,two/tasks"),
    ],
)
def test_an_address_is_shown_without_user_password_and_options(url: str, address: str) -> None:
    assert address_of(url) == address
