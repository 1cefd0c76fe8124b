"""Why a connection to a server has ended, told by whoever notices it first."""

from __future__ import annotations

import anyio

from microturn.tools.text import clean


class Lost:
    """The end of one connection. Belongs to one event loop."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self.reason = ""
        self.is_servers_fault = False
        """Whether the same call would break a new connection too."""
        self.complaints = b""
        """The last bytes that the server wrote to its error output."""

    def tell(self, reason: str, *, is_servers_fault: bool = False) -> None:
        """Say that it has ended, and why; the first reason stays."""
        if not self._event.is_set():
            self.reason = reason
            self.is_servers_fault = is_servers_fault
            self._event.set()

    async def wait(self) -> None:
        """Wait until it has ended."""
        await self._event.wait()

    def last_complaint(self) -> str:
        """Return the last line of the server's error output; empty where there is none."""
        lines = clean(self.complaints.decode(errors="replace")).split("\n")
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")
