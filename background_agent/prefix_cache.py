"""Keeps what the local model has read of the fixed prefix on disk, so that a later start need not read it again.

Reading the prefix takes a small model on one core tens of seconds; loading what was kept, milliseconds. A kept
state holds the prefix only, nothing that a user said. The server refuses a state of another model or another
release; it is then made anew. Knows nothing of what the prefix says.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import httpx

from microturn.background_agent.chat_client import Address

KEPT_STATES = 3
"""States on disk, the newest; each is about 28 kB per token for the 1.5 B model."""
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class PrefixCache:
    """The states of one local model server. `directory` is the one that the server was started with."""

    directory: Path
    address: Address
    model: str
    """Names the model; states of another one have other names."""

    async def restore(self, prefix: str) -> bool:
        """Load the state for a prefix; false where there is none that fits."""
        name = self._name(prefix)
        path = self.directory / name
        if not path.is_file():
            return False
        if not await self._act("restore", name):
            path.unlink(missing_ok=True)
            return False
        os.utime(path)
        return True

    async def save(self, prefix: str) -> bool:
        """Keep the server's present state for a prefix; it must be that of a request which began with it."""
        name = self._name(prefix)
        draft = f"{name}.{os.getpid()}"
        if not await self._act("save", draft):
            return False
        (self.directory / draft).replace(self.directory / name)
        self._prune()
        return True

    def _name(self, prefix: str) -> str:
        return hashlib.sha256(f"{self.model}\n{prefix}".encode()).hexdigest()[:32] + ".state"

    async def _act(self, action: str, name: str) -> bool:
        """Have the server save or restore; false where it cannot, which costs time and nothing else."""
        url = f"{self.address.url.removesuffix('/v1')}/slots/0"
        headers = {"Authorization": f"Bearer {self.address.key}"}
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT_S, headers=headers, trust_env=False) as http:
                answer = await http.post(url, params={"action": action}, json={"filename": name})
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    def _prune(self) -> None:
        states = sorted(self.directory.glob("*.state"), key=lambda path: path.stat().st_mtime)
        for path in states[:-KEPT_STATES]:
            path.unlink(missing_ok=True)
