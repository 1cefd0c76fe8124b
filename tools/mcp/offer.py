"""One tool as an MCP server describes it, kept in the form in which it is pinned.

Knows nothing of the SDK's classes, so that pins can be read without it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, JsonValue

from microturn.protocols import SideEffect

NAME_LIMIT_CHARS = 64
_HASH_CHARS = 8


class Offer(BaseModel):
    """What a server says of one of its tools."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", frozen=True)

    name: str
    """As the server has it."""
    description: str = ""
    parameters: dict[str, JsonValue]
    """JSON schema of the arguments."""
    is_read_only: bool | None = None
    is_idempotent: bool | None = None
    is_open_world: bool | None = None

    @property
    def side_effect(self) -> SideEffect:
        """What a repeated call would do, as far as the server says; one that says nothing is taken to be unsafe."""
        if self.is_read_only:
            return "none"
        return "idempotent" if self.is_idempotent else "unsafe"


def fingerprint(offers: Sequence[Offer]) -> str:
    """SHA-256, in hexadecimal, of a list of tools in any order."""
    digest = hashlib.sha256()
    for offer in sorted(offers, key=lambda each: each.name):
        digest.update(offer.model_dump_json().encode() + b"\n")
    return digest.hexdigest()


def local_names(server: str, offers: Sequence[Offer]) -> dict[str, str]:
    """Return, for each tool's own name, the name `server__tool` that fits a tool here.

    Letters are made small, other characters become underscores. A name that is too long, and names that would come
    out the same, end in eight digits of a hash, so that they do not depend on the order of the list.
    """
    plain = {offer.name: f"{_slug(server)}__{_slug(offer.name, lead='')}" for offer in offers}
    taken = list(plain.values())
    return {
        own: _with_hash(local, server, own)
        if len(local) > NAME_LIMIT_CHARS or taken.count(local) > 1
        else local
        for own, local in plain.items()
    }


def _slug(text: str, lead: str = "s") -> str:
    slug = re.sub(r"[^a-z0-9_]", "_", text.lower()) or "_"
    return slug if not lead or slug[0].isascii() and slug[0].isalpha() else f"{lead}{slug}"


def _with_hash(local: str, server: str, own: str) -> str:
    digest = hashlib.sha256(f"{server}\0{own}".encode()).hexdigest()[:_HASH_CHARS]
    return f"{local[: NAME_LIMIT_CHARS - _HASH_CHARS - 1]}_{digest}"
