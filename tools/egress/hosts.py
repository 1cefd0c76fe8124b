"""The hosts that a tool may reach, as it declares them."""

from __future__ import annotations

from collections.abc import Iterable

from microturn.protocols import UserError

ANY = "*"


class AllowedHosts:
    """Names of hosts: `api.example.org`; `*.example.org`, any host below that one; `*`, any public host."""

    def __init__(self, patterns: Iterable[str]) -> None:
        """Take in the patterns.

        Raises:
            UserError: one is no host name, for example an address with a scheme.
        """
        self._patterns = tuple(_pattern(each) for each in patterns)

    def allow(self, host: str) -> bool:
        """Whether a host may be reached."""
        asked = _host(host)
        return any(_matches(asked, pattern) for pattern in self._patterns)


def _matches(host: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return pattern in (ANY, host)


def _pattern(written: str) -> str:
    rest = written.strip().removeprefix("*.")
    if written.strip() != ANY and (not rest or any(mark in rest for mark in "*/:@ ")):
        raise UserError(f"{written!r} in `egress` is no host; write 'example.org', '*.example.org' or '*'")
    return _host(written)


def _host(name: str) -> str:
    """The one way of writing a name: lower case, without the dot of the root at the end."""
    return name.strip().lower().removesuffix(".")
