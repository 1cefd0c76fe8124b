"""Which addresses belong to the public internet, and how a name is resolved to them once and for all."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio

from microturn.tools._errors import ToolFailed, ToolRetry

Resolver: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
"""From a host name and a port to addresses."""

# Ranges beyond what `ipaddress` calls global that must not be reached. Those that carry an IPv4 address inside an
# IPv6 one could smuggle in a private address through a translator.
# Source: IANA special-purpose address registries; RFC 6052 and 8215 (NAT64), 3056 (6to4), 4380 (Teredo),
# 7526 (6to4 relays), 2765 (translated), 6666 and 9780 (discard, dummy), 9637 (documentation), 9602 (segment routing);
# the last is the metadata service of a large cloud, on an address that counts as public.
_REFUSED = tuple(
    ipaddress.ip_network(net)
    for net in (
        "::/96",
        "::ffff:0:0/96",
        "::ffff:0:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/32",
        "2001::/23",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "fec0::/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "168.63.129.16/32",
    )
)
_ISATAP = (bytes.fromhex("00005efe"), bytes.fromhex("02005efe"))
"""The middle of an IPv6 address that ends in an IPv4 one. Source: RFC 5214."""
_METADATA = tuple(
    ipaddress.ip_address(each).packed
    for each in ("169.254.169.254", "169.254.170.2", "169.254.170.23", "168.63.129.16", "100.100.100.200")
)
"""Metadata services of clouds; looked for inside IPv6 addresses too, as an operator may embed IPv4 at any offset."""
_EMBEDDED_AT = (
    (2, 3, 4, 5),
    (4, 5, 6, 7),
    (5, 6, 7, 9),
    (6, 7, 9, 10),
    (7, 9, 10, 11),
    (9, 10, 11, 12),
    (12, 13, 14, 15),
)
"""Where an IPv6 address can carry an IPv4 one. Source: RFC 6052, section 2.2; RFC 3056."""


def is_public(address: str) -> bool:
    """Whether an IP address belongs to one machine on the public internet.

    False for private, loopback, link-local, carrier-grade NAT, multicast, reserved and unspecified addresses,
    cloud metadata services, IPv4 inside IPv6, addresses with a zone, and what is no address at all.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if any(ip.version == net.version and ip in net for net in _REFUSED):
        return False
    if isinstance(ip, ipaddress.IPv6Address) and (ip.scope_id is not None or _embeds(ip)):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_link_local or ip.is_loopback)


def _embeds(ip: ipaddress.IPv6Address) -> bool:
    """Whether the address carries an IPv4 address in a known form, or one of a metadata service in any."""
    packed = ip.packed
    return packed[8:12] in _ISATAP or any(bytes(packed[i] for i in at) in _METADATA for at in _EMBEDDED_AT)


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system's resolver for all addresses of a host."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def checked_address(host: str, port: int, resolver: Resolver = resolve) -> str:
    """Resolve a host to the address that may be connected to.

    One address that is not public is reason enough to refuse it. Whoever connects has to connect to what is
    returned: the name may stand for something else a moment later.

    Raises:
        ToolRetry: it is not on the public internet.
        ToolFailed: it cannot be found.
    """
    try:
        addresses = await resolver(host, port)
    except (OSError, UnicodeError):
        raise ToolFailed("the host of this address cannot be found") from None
    if not addresses:
        raise ToolFailed("the host of this address cannot be found")
    if not all(map(is_public, addresses)):
        raise ToolRetry("this address is not on the public internet and is never read")
    return addresses[0]
