"""Sends web requests to allowed hosts of the public internet only.

Each request, redirects included, is resolved here, checked, and sent to the address that was checked: a name that
resolves differently a moment later gains nothing. Knows nothing of pages.
"""

from __future__ import annotations

import httpx

from microturn.tools._errors import ToolRetry
from microturn.tools.egress.addresses import Resolver, checked_address, resolve
from microturn.tools.egress.hosts import ANY, AllowedHosts

_PORTS = {"http": 80, "https": 443}


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends requests to public web servers only, over `inner`.

    The request goes to the checked address with the host's name in the `Host` header and, for TLS, as the server
    name against which the certificate is verified.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        resolver: Resolver = resolve,
        hosts: AllowedHosts | None = None,
    ) -> None:
        self._inner = inner
        self._resolver = resolver
        self._hosts = hosts or AllowedHosts((ANY,))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Check and send one request.

        Raises:
            ToolRetry: the address is not one of a public web page, or not of an allowed host.
            ToolFailed: the host's name cannot be resolved.
        """
        url = request.url
        port = url.port if url.port is not None else _PORTS.get(url.scheme)
        if url.scheme not in _PORTS or port != _PORTS[url.scheme] or url.userinfo:
            raise ToolRetry(
                "only http and https addresses on their usual ports, without a user name, can be read"
            )
        host = url.raw_host.decode("ascii")
        if not self._hosts.allow(host.strip("[]")):
            raise ToolRetry("this host is not one that the tool may reach")
        address = await checked_address(host.strip("[]"), port, self._resolver)
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
