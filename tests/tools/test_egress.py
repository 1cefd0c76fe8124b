"""The way out: which addresses are public, which hosts are allowed, how a checked request is sent, and the proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx
import pytest
from anyio.abc import ByteStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from microturn.protocols import UserError
from microturn.tools import ToolFailed, ToolRetry
from microturn.tools.egress.addresses import is_public, resolve
from microturn.tools.egress.hosts import AllowedHosts
from microturn.tools.egress.proxy import EgressProxy
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
        "2606:4700::1%1",
        "2606:4700::200:5efe:10.0.0.1",
        "2606:4700::5efe:a00:1",
        "2606:4700:a9fe:a9fe::1",
        "2606:4700::a9fe:a9fe",
        "100:0:0:1::1",
        "3fff::1",
        "5f00::1",
        "2001:2::1",
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


@pytest.mark.parametrize(
    ("patterns", "host", "allowed"),
    [
        (("api.example.org",), "api.example.org", True),
        (("api.example.org",), "API.example.ORG.", True),
        (("api.example.org",), "example.org", False),
        (("api.example.org",), "api.example.org.evil.net", False),
        (("*.example.org",), "a.b.example.org", True),
        (("*.example.org",), "example.org", False),
        (("*.example.org",), "evilexample.org", False),
        (("*",), "anything.net", True),
        ((), "example.org", False),
    ],
)
def test_hosts_are_allowed_by_name(patterns: tuple[str, ...], host: str, allowed: bool) -> None:
    assert AllowedHosts(patterns).allow(host) is allowed


@pytest.mark.parametrize("pattern", ["https://example.org", "example.org:443", "a*.org", "*.*.org", "", "*."])
def test_what_is_no_host_is_refused(pattern: str) -> None:
    with pytest.raises(UserError, match="is no host"):
        AllowedHosts((pattern,))


async def test_a_host_that_is_not_allowed_is_not_even_resolved() -> None:
    network = Network(example_org=[PUBLIC])
    transport = GuardedTransport(
        httpx.MockTransport(network.answer), network.resolve, AllowedHosts(("other.org",))
    )
    async with httpx.AsyncClient(transport=transport) as client:
        with pytest.raises(ToolRetry, match="may reach"):
            await client.get("https://example.org/")
    assert network.requests == []


@pytest.mark.parametrize(
    "target",
    [
        "http://localhost/",
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://metadata.google.internal/",
        "http://inside.example.org/",
    ],
)
async def test_a_redirect_to_the_inside_is_refused(target: str) -> None:
    network = Network(
        example_org=[PUBLIC],
        localhost=["127.0.0.1"],
        metadata_google_internal=["169.254.169.254"],
        inside_example_org=["10.0.0.7"],
    )
    network.hosts |= {"127.0.0.1": ["127.0.0.1"], "::1": ["::1"], "169.254.169.254": ["169.254.169.254"]}

    def answer(request: httpx.Request) -> httpx.Response:
        network.requests.append(request)
        return httpx.Response(302, headers={"Location": target})

    transport = GuardedTransport(httpx.MockTransport(answer), network.resolve)
    async with httpx.AsyncClient(transport=transport, follow_redirects=True) as client:
        with pytest.raises(ToolRetry, match="public internet"):
            await client.get("https://example.org/")

    assert len(network.requests) == 1


async def test_a_name_that_changes_its_mind_gains_nothing() -> None:
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return [PUBLIC] if len(asked) == 1 else ["127.0.0.1"]

    network = Network()
    transport = GuardedTransport(httpx.MockTransport(network.answer), rebinding)
    async with httpx.AsyncClient(transport=transport) as client:
        await client.get("https://rebind.example.org/")
        assert [request.url.host for request in network.requests] == [PUBLIC]
        with pytest.raises(ToolRetry, match="public internet"):
            await client.get("https://rebind.example.org/")
    assert len(network.requests) == 1 and len(asked) == 2


@dataclass
class Proxied:
    """A proxy on a socket file with a network behind it, whose servers send everything back."""

    path: Path
    network: Network
    connected: list[tuple[str, int]] = field(default_factory=list)

    async def connect(self, address: str, port: int) -> ByteStream:
        self.connected.append((address, port))
        back, forth = anyio.create_memory_object_stream[bytes](10)
        return StapledByteStream(back, forth)

    async def ask(self, head: str, more: bytes = b"") -> bytes:
        async with await anyio.connect_unix(self.path) as stream:
            await stream.send(head.encode() + b"\r\n\r\n")
            answer = await stream.receive()
            if more:
                await stream.send(more)
                answer += await stream.receive()
            return answer


class StapledByteStream(ByteStream):
    """Gives back what was sent into it."""

    def __init__(
        self, incoming: MemoryObjectSendStream[bytes], outgoing: MemoryObjectReceiveStream[bytes]
    ) -> None:
        self._in, self._out = incoming, outgoing

    async def send(self, item: bytes) -> None:
        await self._in.send(item)

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        return await self._out.receive()

    async def send_eof(self) -> None:
        self._in.close()

    async def aclose(self) -> None:
        self._in.close()
        self._out.close()


@pytest.fixture
async def proxied(tmp_path: Path) -> AsyncIterator[Proxied]:
    network = Network(example_org=[PUBLIC], inside_example_org=["10.0.0.1"], evil_net=[PUBLIC])
    made = Proxied(tmp_path / "proxy.sock", network)
    allowed = AllowedHosts(("example.org", "inside.example.org", "nowhere.example.org"))
    async with anyio.create_task_group() as group:
        await EgressProxy(allowed, resolver=network.resolve, connect=made.connect).listen(made.path, group)
        yield made
        group.cancel_scope.cancel()


async def test_the_proxy_tunnels_to_the_checked_address(proxied: Proxied) -> None:
    answer = await proxied.ask("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443", b"hello")

    assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"hello")
    assert proxied.connected == [(PUBLIC, 443)]


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ("CONNECT evil.net:443 HTTP/1.1", "may reach"),
        ("CONNECT inside.example.org:443 HTTP/1.1", "public internet"),
        ("CONNECT nowhere.example.org:443 HTTP/1.1", "cannot be found"),
        ("CONNECT example.org:6379 HTTP/1.1", "only https"),
        ("CONNECT example.org:80 HTTP/1.1", "only https"),
        ("GET http://example.org/ HTTP/1.1", "only https"),
        ("CONNECT [::1]:443 HTTP/1.1", "only https"),
        ("nonsense", "only https"),
        ("CONNECT " + "a" * 20_000, "only https"),
    ],
)
async def test_the_proxy_refuses_everything_else(proxied: Proxied, head: str, why: str) -> None:
    answer = (await proxied.ask(head)).decode()

    assert answer.startswith("HTTP/1.1 403 ") and why in answer
    assert proxied.connected == []
