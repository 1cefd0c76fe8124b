"""The address of a bus: one server, a cluster, or a primary that sentinels watch over. Knows nothing of connections.

`redis://host:6379/0`, `rediss://...`, `unix:///path`    one server, as redis-py reads it
`redis+cluster://host:port[,host:port...]`               a cluster; the hosts are where to ask for the others
`redis+sentinel://host:port[,host:port...]/service`      the primary that the sentinels name for the service

`rediss+cluster` and `rediss+sentinel` encrypt. User and password come before the hosts, as `user:password@`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from microturn.runtime.bus._errors import BusAddressError

Kind: TypeAlias = Literal["server", "cluster", "sentinel"]

_SCHEMES: dict[str, tuple[Kind, bool]] = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "unix": ("server", False),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
}
_PORTS: dict[Kind, int] = {"server": 6379, "cluster": 6379, "sentinel": 26379}
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")
"""What redis-py may be told of encryption; the words are its own."""
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
"""How to log in to the sentinels themselves, which have their own list of users."""


@dataclass(frozen=True, slots=True)
class BusAddress:
    """The parts of an address. Made by `parse_address`; never shown, since it holds the password."""

    kind: Kind
    url: str = field(repr=False)
    """As given; what redis-py reads if it is one server."""
    hosts: tuple[tuple[str, int], ...] = ()
    """Where to ask: nodes of the cluster, or sentinels. Empty for one server."""
    service: str = ""
    """The name under which sentinels know the primary."""
    login: dict[str, str] = field(default_factory=dict, repr=False)
    """`username` and `password`, as far as they are given."""
    sentinel_login: dict[str, str] = field(default_factory=dict, repr=False)
    """The same for the sentinels."""
    tls: dict[str, str | bool] = field(default_factory=dict)
    """Options of the encryption; empty without."""

    def __str__(self) -> str:
        return address_of(self.url)


def parse_address(url: str) -> BusAddress:
    """Read a URL.

    Raises:
        BusAddressError: it is none of the forms above.
    """
    scheme, _, _ = url.partition("://")
    if scheme not in _SCHEMES:
        shown = address_of(url) if "://" in url else url.rpartition("@")[2]
        raise BusAddressError("its scheme is none of those", shown)
    kind, is_encrypted = _SCHEMES[scheme]
    parts = urlsplit(url)
    user_info, _, hosts = parts.netloc.rpartition("@")
    if kind == "server":
        if hosts and scheme != "unix":
            _host_and_port(url, hosts, _PORTS[kind])
        return BusAddress(kind, url)
    service = unquote(parts.path.strip("/"))
    if bool(service) != (kind == "sentinel") or "/" in service:
        wanted = "the name of the service" if kind == "sentinel" else "nothing"
        raise BusAddressError(f"expected {wanted} after the hosts", address_of(url))
    options = _options(url, parts.query, kind, is_encrypted)
    return BusAddress(
        kind,
        url,
        hosts=tuple(_host_and_port(url, host, _PORTS[kind]) for host in hosts.split(",")),
        service=service,
        login=_login(user_info),
        sentinel_login={
            name.removeprefix("sentinel_"): options.pop(name) for name in _SENTINEL_OPTIONS & options.keys()
        },
        tls={"ssl": True, **options} if is_encrypted else {},
    )


def address_of(url: str) -> str:
    """The address in a URL without user name, password and options."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    hosts = parts.netloc.rpartition("@")[2] or "localhost"
    if "+" not in parts.scheme and not hosts.rpartition("]")[2].partition(":")[2]:
        hosts = f"{hosts.rstrip(':')}:6379"
    return f"{parts.scheme}://{hosts}{parts.path}"


def _login(user_info: str) -> dict[str, str]:
    user, _, password = user_info.partition(":")
    given = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in given.items() if value}


def _options(url: str, query: str, kind: Kind, is_encrypted: bool) -> dict[str, str]:
    allowed = (*(_TLS_OPTIONS if is_encrypted else ()), *(_SENTINEL_OPTIONS if kind == "sentinel" else ()))
    options = dict(parse_qsl(query))
    if unknown := sorted(options.keys() - set(allowed)):
        raise BusAddressError(f"expected only options out of {allowed}, got {unknown}", address_of(url))
    return options


def _host_and_port(url: str, text: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if not parts.hostname or port == 0:
        raise BusAddressError(f"expected host:port, got {text!r}", address_of(url))
    return parts.hostname, port or default_port
