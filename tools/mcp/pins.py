"""Remembers which tools each MCP server had when it was first met, so that a list that changes is noticed.

A server can show harmless tools until it is trusted and other ones later. What is pinned is what models are told;
what differs from it is not used until `microturn tools trust` accepts it.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import platformdirs
from pydantic import BaseModel, ValidationError

from microturn.protocols import UserError
from microturn.tools.mcp.offer import Offer, fingerprint


class Pin(BaseModel):
    """The tools of one server as they were accepted."""

    server: str
    sha256: str
    """Fingerprint of the list."""
    tools: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """How a list differs from the pinned one; tools by the server's own names."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def summary(self) -> str:
        """Say how many tools differ, in words: "2 changed, 1 new"."""
        counts = ((self.changed, "changed"), (self.added, "new"), (self.removed, "gone"))
        return ", ".join(f"{len(names)} {word}" for names, word in counts if names)


def compare(pinned: Sequence[Offer], now: Sequence[Offer]) -> Difference:
    """Find what is new, gone or changed."""
    before = {offer.name: offer for offer in pinned}
    after = {offer.name: offer for offer in now}
    return Difference(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(sorted(name for name in before.keys() & after.keys() if before[name] != after[name])),
    )


def differing_lines(pinned: Sequence[Offer], now: Sequence[Offer]) -> list[str]:
    """Show the difference of two lists line by line, as `diff -u` does."""
    return list(
        difflib.unified_diff(_lines(pinned), _lines(now), "accepted", "offered now", lineterm="", n=2)
    )


class Pins:
    """The pins of all servers, one file each in a folder, which is made when it is first written to."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(platformdirs.user_state_dir("microturn")) / "mcp"

    def read(self, server: str) -> Pin | None:
        """Return what was accepted of a server; None where it has never been met.

        Raises:
            UserError: the file cannot be read, or is not what was written.
        """
        path = self._path(server)
        try:
            pin = Pin.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise UserError(
                f"cannot read the accepted tool list {str(path)!r} ({type(error).__name__}); "
                f"accept it anew: {accepting(server)}"
            ) from None
        if pin.server != server or pin.sha256 != fingerprint(pin.tools):
            raise UserError(
                f"the accepted tool list {str(path)!r} was altered; accept it anew: {accepting(server)}"
            )
        return pin

    def write(self, server: str, tools: Sequence[Offer]) -> Pin:
        """Accept a list of tools.

        Raises:
            UserError: the folder cannot be written.
        """
        pin = Pin(server=server, sha256=fingerprint(tools), tools=tuple(tools))
        path = self._path(server)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            partial = path.with_suffix(".tmp")
            partial.write_text(pin.model_dump_json(indent=1), "utf-8")
            partial.replace(path)
        except OSError as error:
            raise UserError(
                f"cannot keep the tool list of MCP server {server!r} in {str(self.folder)!r}: {error.strerror}; "
                "make that folder writable, or set XDG_STATE_HOME to another place"
            ) from None
        return pin

    def _path(self, server: str) -> Path:
        readable = re.sub(r"[^A-Za-z0-9-]", "_", server)[:40]
        return self.folder / f"{readable}-{sha256(server.encode()).hexdigest()[:8]}.json"


def accepting(server: str) -> str:
    """Return the command that shows what a server offers now and accepts it."""
    return f"`microturn tools trust {server}`"


def _lines(offers: Sequence[Offer]) -> list[str]:
    return [
        line
        for offer in sorted(offers, key=lambda each: each.name)
        for line in json.dumps(offer.model_dump(exclude_none=True), indent=1, ensure_ascii=True).splitlines()
    ]
