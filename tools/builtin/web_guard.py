"""Keeps web requests away from everything that is not the public internet.

Each request, redirects included, is resolved here, checked, and sent to the address that was checked: a name that
resolves differently a moment later gains nothing. Knows nothing of pages.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio
import httpx

from microturn.tools import ToolFailed, ToolRetry

Resolver: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
"""From a host name and a port to addresses."""

_PORTS = {"http": 80, "https": 443}

# Ranges beyond what `ipaddress` calls global that must not be reached. Those that carry an IPv4 address inside an
# IPv6 one could smuggle in a private address through a translator.
# Source: IANA special-purpose address registries; RFC 6052 and 8215 (NAT64), 3056 (6to4), 4380 (Teredo),
# 7526 (6to4 relays); the last is the metadata service of a large cloud, on an address that counts as public.
_REFUSED = tuple(
    ipaddress.ip_network(net)
    for net in (
        "::/96",
        "::ffff:0:0/96",
        "::ffff:0:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/32",
        "2002::/16",
        "fec0::/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "168.63.129.16/32",
    )
)


def is_public(address: str) -> bool:
    """Whether an IP address belongs to one machine on the public internet.

    False for private, loopback, link-local, carrier-grade NAT, multicast, reserved and unspecified addresses,
    cloud metadata services, IPv4 inside IPv6, and what is no address at all.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if any(ip.version == net.version and ip in net for net in _REFUSED):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_link_local or ip.is_loopback)


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system's resolver for all addresses of a host."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends requests to public web servers only, over `inner`.

    The request goes to the checked address with the host's name in the `Host` header and, for TLS, as the server
    name against which the certificate is verified.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, resolver: Resolver = resolve) -> None:
        self._inner = inner
        self._resolver = resolver

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Check and send one request.

        Raises:
            ToolRetry: the address is not one of a public web page.
            ToolFailed: the host's name cannot be resolved.
        """
        url = request.url
        port = url.port if url.port is not None else _PORTS.get(url.scheme)
        if url.scheme not in _PORTS or port != _PORTS[url.scheme] or url.userinfo:
            raise ToolRetry(
                "only http and https addresses on their usual ports, without a user name, can be read"
            )
        host = url.raw_host.decode("ascii")
        address = await self._checked_address(host.strip("[]"), port)
        headers = [(k, v) for k, v in request.headers.raw if k.lower() != b"host"]
        sent = httpx.Request(
            request.method,
            url.copy_with(host=address),
            headers=[(b"Host", url.netloc), *headers],
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": host},
        )
        return await self._inner.handle_async_request(sent)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    async def _checked_address(self, host: str, port: int) -> str:
        """Resolve a host; one address that is not public is reason enough to refuse it."""
        try:
            addresses = await self._resolver(host, port)
        except (OSError, UnicodeError):
            raise ToolFailed("the host of this address cannot be found") from None
        if not addresses:
            raise ToolFailed("the host of this address cannot be found")
        if not all(map(is_public, addresses)):
            raise ToolRetry("this address is not on the public internet and is never read")
        return addresses[0]
