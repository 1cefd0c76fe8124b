"""The HTTP client for tools: reaches the hosts that a tool declares, on the public internet, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterable

import httpx

from microturn.tools.egress.addresses import Resolver, resolve
from microturn.tools.egress.body import ENCODINGS
from microturn.tools.egress.hosts import AllowedHosts
from microturn.tools.egress.transport import GuardedTransport

PROXY_VARIABLE = "MICROTURN_EGRESS_PROXY"
"""Set inside a sandbox: the address of the proxy there, which does the checking."""
_TIME_LIMIT_S = 15.0


def guarded_client(
    hosts: Iterable[str], *, timeout_s: float = _TIME_LIMIT_S, resolver: Resolver = resolve
) -> httpx.AsyncClient:
    """Make a client for one tool; use it as an async context manager.

    Redirects are not followed unless asked for, and each is checked like a first request. The variables that name
    proxies are not heeded. How large an answer may be is the caller's business: read it with `limited_body`.

    Args:
        hosts: As in the tool's `egress`: `("api.example.org",)`, with `*.example.org` for all hosts below one and `*`
            for any public host.
        timeout_s: Seconds for each step of a request.
        resolver: How names are resolved.

    Raises:
        UserError: one of `hosts` is no host.
    """
    allowed = AllowedHosts(tuple(hosts))
    proxy = os.environ.get(PROXY_VARIABLE)
    headers = {"Accept-Encoding": ENCODINGS}
    if proxy is not None:
        return httpx.AsyncClient(proxy=proxy, trust_env=False, timeout=timeout_s, headers=headers)
    transport = GuardedTransport(httpx.AsyncHTTPTransport(trust_env=False), resolver, allowed)
    return httpx.AsyncClient(transport=transport, trust_env=False, timeout=timeout_s, headers=headers)
