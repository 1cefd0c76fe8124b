"""Chooses the model of the background agent from the environment, and opens an engine on it.

    MICROTURN_MODEL_URL      an OpenAI-compatible address, ending in /v1; then nothing local is used
    MICROTURN_MODEL          the model's name there
    MICROTURN_MODEL_KEY      the key, where one is asked for
    MICROTURN_MODEL_DIALECT  native_tools (as without it) or json_actions, for servers without native tools
    MICROTURN_MODEL_FILE     a GGUF file of your own to serve on this machine

Without any of them, the local model that fits the free memory is served on this machine.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from microturn import weights
from microturn.background_agent._errors import LocalModelError
from microturn.background_agent.chat_client import ChatClient
from microturn.background_agent.local_process import LocalModel, local_model
from microturn.background_agent.loop_engine import LoopEngine
from microturn.background_agent.prefix_cache import PrefixCache
from microturn.background_agent.profile import LOCAL, REMOTE, REMOTE_JSON, ModelProfile
from microturn.protocols import UserError

LARGE_MODEL: Final = "qwen2.5-coder-1.5b"
"""Does everyday tasks of two steps; takes 2.0 GB of memory."""
SMALL_MODEL: Final = "qwen2.5-coder-0.5b"
"""Does one-step tasks, with mistakes; takes 0.8 GB of memory."""
LARGE_NEEDS_BYTES = 3_000_000_000
SMALL_NEEDS_BYTES = 1_300_000_000
"""Free memory that the models ask for: their own, and room for the rest of the system."""
_DIALECTS: dict[str, ModelProfile] = {"": REMOTE, "native_tools": REMOTE, "json_actions": REMOTE_JSON}


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model behind an address."""

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    profile: ModelProfile = REMOTE


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A model to be served on this machine."""

    path: Path


ModelChoice: TypeAlias = RemoteModel | LocalFile


@asynccontextmanager
async def engine_from_environment(
    choice: ModelChoice | None = None, *, data_dir: Path | None = None
) -> AsyncIterator[LoopEngine]:
    """Open an engine on the chosen model, and close it, its server with it, at the end of the block.

    A local model takes some seconds to load. Enter the block in a thread that lasts; see `local_model`.

    Raises:
        UserError: the environment contradicts itself.
        WeightError: the weights of the local model are not on this machine; the text says how to get them.
        LocalModelError: there is too little memory, or the local model did not start.
    """
    choice = choice or choose_model(os.environ)
    if isinstance(choice, RemoteModel):
        client = ChatClient(choice.url, choice.model, key=choice.key, limits=choice.profile.limits)
        async with LoopEngine(client, choice.profile, data_dir=data_dir) as engine:
            yield engine
        return
    states = weights.cache_directory().parent / "prefixes"
    async with local_model(choice.path, state_dir=states) as served:
        client = client_of(served)
        file = choice.path.stat()
        identity = f"{served.model} {file.st_size} {file.st_mtime_ns}"
        cache = PrefixCache(states, served.address, identity)
        async with LoopEngine(client, LOCAL, data_dir=data_dir, prefix_cache=cache) as engine:
            yield engine


def client_of(served: LocalModel) -> ChatClient:
    """A client of a local model that starts it again should it end."""
    address = served.address
    return ChatClient(address.url, served.model, key=address.key, limits=LOCAL.limits, revive=served.revive)


def choose_model(environment: Mapping[str, str], free_bytes: int | None = None) -> ModelChoice:
    """What the environment asks for; `free_bytes` of memory are measured where they are not given.

    Raises:
        UserError: the environment contradicts itself.
        WeightError: the weights of the local model are not on this machine.
        LocalModelError: there is too little memory for any local model.
    """
    url = environment.get("MICROTURN_MODEL_URL", "").strip()
    if url:
        return _remote(url, environment)
    file = environment.get("MICROTURN_MODEL_FILE", "").strip()
    if file:
        return LocalFile(Path(file))
    free = free_memory_bytes() if free_bytes is None else free_bytes
    if free >= LARGE_NEEDS_BYTES:
        return LocalFile(weights.locate(LARGE_MODEL))
    if free >= SMALL_NEEDS_BYTES:
        return LocalFile(weights.locate(SMALL_MODEL))
    raise LocalModelError(
        f"{free / 1e9:.1f} GB of memory are free, and the smallest local model asks for "
        f"{SMALL_NEEDS_BYTES / 1e9:.1f} GB: free some, or set MICROTURN_MODEL_URL to an OpenAI-compatible server"
    )


def _remote(url: str, environment: Mapping[str, str]) -> RemoteModel:
    if not url.startswith(("http://", "https://")):
        raise UserError(f"MICROTURN_MODEL_URL must begin with http:// or https://, got {url!r}")
    model = environment.get("MICROTURN_MODEL", "").strip()
    if not model:
        raise UserError(
            "MICROTURN_MODEL_URL is set and MICROTURN_MODEL is not: set it to the model's name there"
        )
    dialect = environment.get("MICROTURN_MODEL_DIALECT", "").strip()
    if dialect not in _DIALECTS:
        raise UserError(f"MICROTURN_MODEL_DIALECT must be native_tools or json_actions, got {dialect!r}")
    return RemoteModel(url, model, environment.get("MICROTURN_MODEL_KEY") or None, _DIALECTS[dialect])


def free_memory_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Memory that a new process can use. Where the system does not say, enough for the large model is assumed."""
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return LARGE_NEEDS_BYTES
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return LARGE_NEEDS_BYTES
