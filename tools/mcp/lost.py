"""Why a connection to a server has ended, told by whoever notices it first."""

from __future__ import annotations

import anyio

from microturn.tools.mcp.sdk import MCPError
from microturn.tools.text import clean

_LONGEST_REASON_CHARS = 300


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
        return next((first_line(line) for line in reversed(lines) if line.strip()), "")


def describe(error: BaseException) -> str:
    """Say in a few words why a connection could not be made or kept."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, FileNotFoundError):
        return f"there is no program {error.filename!r}"
    if isinstance(error, MCPError):
        return first_line(error.message)
    return f"{type(error).__name__}: {first_line(str(error))}"


def first_line(text: str) -> str:
    """Return the first line of a stranger's text, cleaned and shortened."""
    return clean(text).strip().partition("\n")[0][:_LONGEST_REASON_CHARS]
