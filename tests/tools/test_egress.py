"""The guard: which addresses are public, and how a checked request is sent."""

from __future__ import annotations

import httpx
import pytest

from microturn.tools import ToolFailed, ToolRetry
from microturn.tools.egress.addresses import is_public, resolve
from microturn.tools.egress.transport import GuardedTransport

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

PUBLIC = "93.184.215.14"


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e"])
def test_addresses_on_the_public_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:93.184.215.14",
        "::ffff:0:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%1",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "localhost",
        "",
    ],
)
def test_everything_else_is_not(address: str) -> None:
    assert not is_public(address)


class Network:
    """A name server and a web server that keep what they were asked."""

    def __init__(self, **hosts: list[str]) -> None:
        self.hosts = {name.replace("_", "."): addresses for name, addresses in hosts.items()}
        self.requests: list[httpx.Request] = []

    async def resolve(self, host: str, port: int) -> list[str]:
        if host not in self.hosts:
            raise OSError("unknown host")
        return self.hosts[host]

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(200)

    async def get(self, url: str) -> httpx.Response:
        transport = GuardedTransport(httpx.MockTransport(self.answer), self.resolve)
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.get(url)


async def test_a_request_goes_to_the_checked_address_under_its_own_name() -> None:
    network = Network(example_org=[PUBLIC])

    await network.get("https://example.org/a?b=c")

    (sent,) = network.requests
    assert str(sent.url) == f"https://{PUBLIC}/a?b=c"
    assert sent.headers.get_list("host") == ["example.org"]
    assert sent.extensions["sni_hostname"] == "example.org"


async def test_a_public_ipv6_address_is_reached_in_brackets() -> None:
    network = Network(example_org=["2606:4700::1"])

    await network.get("http://example.org/")

    assert str(network.requests[0].url) == "http://[2606:4700::1]/"


@pytest.mark.parametrize("addresses", [["127.0.0.1"], [PUBLIC, "10.0.0.1"], ["::ffff:1.1.1.1"]])
async def test_a_name_with_any_address_that_is_not_public_is_refused(addresses: list[str]) -> None:
    network = Network(inside_example_org=addresses)

    with pytest.raises(ToolRetry, match="public"):
        await network.get("http://inside.example.org/")

    assert network.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "file:///etc/passwd",
        "http://example.org:6379/",
        "http://example.org:0/",
        "https://example.org:80/",
        "https://user:word@example.org/",
    ],
)
async def test_only_plain_web_addresses_are_sent(url: str) -> None:
    network = Network(example_org=[PUBLIC])

    with pytest.raises(ToolRetry):
        await network.get(url)

    assert network.requests == []


async def test_a_name_that_cannot_be_resolved_is_a_failure() -> None:
    with pytest.raises(ToolFailed, match="cannot be found"):
        await Network().get("https://example.org/")
    with pytest.raises(ToolFailed, match="cannot be found"):
        await Network(example_org=[]).get("https://example.org/")


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "::1", "localhost"])
async def test_other_spellings_of_this_machine_resolve_to_what_is_refused(host: str) -> None:
    assert not any(is_public(address) for address in await resolve(host, 80))
