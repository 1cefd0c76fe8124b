"""Chooses the agents' models and engines from the environment, and opens them.

    MICROTURN_MODEL_URL      an OpenAI-compatible address, ending in /v1; then nothing local is used
    MICROTURN_MODEL          the model's name there; or anthropic:NAME, google:NAME or openai:NAME without an address
    MICROTURN_MODEL_KEY      the key, where one is asked for
    MICROTURN_MODEL_DIALECT  native_tools (as without it) or json_actions, for servers without native tools
    MICROTURN_MODEL_FILE     a GGUF file of your own to serve on this machine
    MICROTURN_ENGINE         pydantic-ai or loop; without it pydantic-ai, where the extra `agents` is installed
    MICROTURN_AGENTS         a file with more agents by name; see `agent_settings`

Without any of them, the local model that fits the free memory is served on this machine. It always runs on the loop,
as does any model that is spoken to in JSON actions.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from microturn import weights
from microturn.background_agent._errors import LocalModelError
from microturn.background_agent.agent_roster import DEFAULT_AGENT, AgentRoster
from microturn.background_agent.agent_settings import AgentSection, read_agents
from microturn.background_agent.chat_client import ChatClient
from microturn.background_agent.engine import AgentEngine
from microturn.background_agent.limits import RunLimits, TokenPrices
from microturn.background_agent.local_process import LocalModel, local_model
from microturn.background_agent.loop_engine import LoopEngine
from microturn.background_agent.prefix_cache import PrefixCache
from microturn.background_agent.profile import LOCAL, REMOTE, REMOTE_JSON, ModelProfile
from microturn.protocols import UserError

EngineName: TypeAlias = Literal["pydantic-ai", "loop"]
LARGE_MODEL: Final = "qwen2.5-coder-1.5b"
"""Does everyday tasks of two steps; takes 2.0 GB of memory."""
SMALL_MODEL: Final = "qwen2.5-coder-0.5b"
"""Does one-step tasks, with mistakes; takes 0.8 GB of memory."""
LARGE_NEEDS_BYTES = 3_000_000_000
SMALL_NEEDS_BYTES = 1_300_000_000
"""Free memory that the models ask for: their own, and room for the rest of the system."""
_DIALECTS: dict[str, ModelProfile] = {"": REMOTE, "native_tools": REMOTE, "json_actions": REMOTE_JSON}
_PROVIDERS: Final = ("openai", "anthropic", "google")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model behind an address."""

    url: str | None
    """Base of the interface; None for the provider's own."""
    model: str
    key: str | None = field(default=None, repr=False)
    profile: ModelProfile = REMOTE
    provider: str = "openai"
    """Whose interface it has: openai, anthropic or google."""
    engine: EngineName | None = None
    """The engine that was asked for."""
    limits: RunLimits = field(default_factory=RunLimits)
    prices: TokenPrices | None = None


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A model to be served on this machine."""

    path: Path
    limits: RunLimits = field(default_factory=RunLimits)


ModelChoice: TypeAlias = RemoteModel | LocalFile


@asynccontextmanager
async def engine_from_environment(
    choice: ModelChoice | None = None, *, data_dir: Path | None = None
) -> AsyncIterator[AgentRoster]:
    """Open the agents that the environment names, and close them, their servers with them, at the end of the block.

    A local model takes some seconds to load. Enter the block in a thread that lasts; see `local_model`.

    Args:
        choice: the model of the default agent, in place of what the environment says.
        data_dir: where tools keep their files.

    Raises:
        UserError: the environment contradicts itself, or asks for what is not installed.
        WeightError: the weights of the local model are not on this machine; the text says how to get them.
        LocalModelError: there is too little memory, or the local model did not start.
    """
    choices = choose_agents(os.environ, default=choice)
    engines: dict[str, AgentEngine] = {}
    async with AsyncExitStack() as stack:
        for name, chosen in choices.items():
            engines[name] = await stack.enter_async_context(_open(chosen, data_dir))
            _log.info("agent %s: %s", name, describe(chosen))
        local = [
            engine
            for engine in engines.values()
            if isinstance(engine, LoopEngine) and engine.profile is LOCAL
        ]
        yield AgentRoster(engines, to_warm=local)


@asynccontextmanager
async def _open(choice: ModelChoice, data_dir: Path | None) -> AsyncIterator[AgentEngine]:
    """One engine on one model."""
    if isinstance(choice, LocalFile):
        async with _open_local(choice, data_dir) as engine:
            yield engine
    elif engine_of(choice) == "loop":
        client = ChatClient(choice.url or "", choice.model, key=choice.key, limits=choice.profile.limits)
        async with LoopEngine(
            client, choice.profile, data_dir=data_dir, limits=choice.limits, prices=choice.prices
        ) as engine:
            yield engine
    else:
        async with _pydantic_engine(choice, data_dir) as engine:
            yield engine


@asynccontextmanager
async def _open_local(choice: LocalFile, data_dir: Path | None) -> AsyncIterator[LoopEngine]:
    states = weights.cache_directory().parent / "prefixes"
    async with local_model(choice.path, state_dir=states) as served:
        client = client_of(served)
        file = choice.path.stat()
        identity = f"{served.model} {file.st_size} {file.st_mtime_ns}"
        cache = PrefixCache(states, served.address, identity)
        async with LoopEngine(
            client, LOCAL, data_dir=data_dir, limits=choice.limits, prefix_cache=cache
        ) as engine:
            yield engine


def _pydantic_engine(choice: RemoteModel, data_dir: Path | None) -> Any:  # a class that may not be installed
    """The engine on pydantic-ai, which is imported only here, because that takes seconds."""
    try:
        models = importlib.import_module("microturn.background_agent.pydantic_models")
        engine = importlib.import_module("microturn.background_agent.pydantic_engine")
    except ImportError as error:
        raise UserError(
            f"the engine pydantic-ai cannot be loaded ({error.name} is missing): run `pip install 'microturn[agents]'`"
        ) from error
    model = models.model_of(f"{choice.provider}:{choice.model}", url=choice.url, key=choice.key)
    return engine.PydanticEngine(
        model, profile=choice.profile, data_dir=data_dir, limits=choice.limits, prices=choice.prices
    )


def engine_of(choice: ModelChoice) -> EngineName:
    """The engine that a model runs on.

    Raises:
        UserError: the loop was asked for with an interface that it does not speak.
    """
    if isinstance(choice, LocalFile) or choice.profile.dialect == "json_actions":
        return "loop"
    is_for_loop = choice.provider == "openai" and choice.url is not None
    if choice.engine == "loop" and not is_for_loop:
        raise UserError(
            f"the model {choice.provider}:{choice.model} cannot run on the engine loop, which speaks to "
            "OpenAI-compatible addresses: give its address, or leave the engine out"
        )
    if choice.engine is not None or not is_for_loop:
        return choice.engine or "pydantic-ai"
    return "pydantic-ai" if has_pydantic_ai() else "loop"


def has_pydantic_ai() -> bool:
    """Whether the extra `agents` is installed, by looking and not by importing."""
    return all(importlib.util.find_spec(name) is not None for name in ("pydantic_ai", "openai"))


def describe(choice: ModelChoice) -> str:
    """A model and its engine in a few words, without the key."""
    if isinstance(choice, LocalFile):
        return f"{choice.path.name} on this machine, engine loop"
    at = f" at {choice.url}" if choice.url else ""
    return f"{choice.provider}:{choice.model}{at}, engine {engine_of(choice)}"


def client_of(served: LocalModel) -> ChatClient:
    """A client of a local model that starts it again should it end."""
    address = served.address
    return ChatClient(address.url, served.model, key=address.key, limits=LOCAL.limits, revive=served.revive)


def choose_agents(
    environment: Mapping[str, str], free_bytes: int | None = None, *, default: ModelChoice | None = None
) -> dict[str, ModelChoice]:
    """The models of all agents by name, the default first.

    Args:
        environment: the variables above.
        free_bytes: memory for a local model; measured where it is not given.
        default: the model of the default agent, in place of what the environment says.

    Raises:
        UserError: the environment contradicts itself.
        WeightError: the weights of the local model are not on this machine.
        LocalModelError: there is too little memory for any local model.
    """
    named = _named_agents(environment)
    first = default or named.get(DEFAULT_AGENT) or _unnamed(environment, free_bytes)
    return {DEFAULT_AGENT: first} | {name: one for name, one in named.items() if name != DEFAULT_AGENT}


def choose_model(environment: Mapping[str, str], free_bytes: int | None = None) -> ModelChoice:
    """The model of the default agent; raises what `choose_agents` raises."""
    return choose_agents(environment, free_bytes)[DEFAULT_AGENT]


def _named_agents(environment: Mapping[str, str]) -> dict[str, ModelChoice]:
    path = environment.get("MICROTURN_AGENTS", "").strip()
    sections = read_agents(Path(path)) if path else {}
    return {name: _of_section(name, section, environment) for name, section in sections.items()}


def _of_section(name: str, section: AgentSection, environment: Mapping[str, str]) -> ModelChoice:
    limits = RunLimits(**section.limits.model_dump(exclude_none=True))
    if section.file is not None:
        return LocalFile(section.file, limits)
    key = environment.get(section.key_env, "").strip() if section.key_env else ""
    if section.key_env and not key:
        raise UserError(f"the agent {name!r} takes its key from {section.key_env}, which is not set: set it")
    provider, _, model = (section.model or "").partition(":")
    prices = TokenPrices(**section.prices.model_dump()) if section.prices is not None else None
    choice = RemoteModel(
        section.url, model, key or None, _DIALECTS[section.dialect], provider, section.engine, limits, prices
    )
    return _checked(name, choice)


def _checked(name: str, choice: RemoteModel) -> RemoteModel:
    if choice.profile is REMOTE_JSON and choice.url is None:
        raise UserError(f"the agent {name!r} speaks json_actions, which needs an OpenAI-compatible `url`")
    if engine_of(choice) == "loop" and choice.limits.cost_usd is not None and choice.prices is None:
        raise UserError(
            f"the agent {name!r} has a limit `cost_usd` and no `prices`: say what its model costs"
        )
    return choice


def _unnamed(environment: Mapping[str, str], free_bytes: int | None) -> ModelChoice:
    """The model that single variables describe, or a local one."""
    url = environment.get("MICROTURN_MODEL_URL", "").strip()
    provider = environment.get("MICROTURN_MODEL", "").partition(":")[0].strip()
    if url or provider in _PROVIDERS:
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
    if url and not url.startswith(("http://", "https://")):
        raise UserError(f"MICROTURN_MODEL_URL must begin with http:// or https://, got {url!r}")
    model = environment.get("MICROTURN_MODEL", "").strip()
    if not model:
        raise UserError(
            "MICROTURN_MODEL_URL is set and MICROTURN_MODEL is not: set it to the model's name there"
        )
    dialect = environment.get("MICROTURN_MODEL_DIALECT", "").strip()
    if dialect not in _DIALECTS:
        raise UserError(f"MICROTURN_MODEL_DIALECT must be native_tools or json_actions, got {dialect!r}")
    provider, _, name = model.partition(":")
    if provider not in _PROVIDERS:
        provider, name = "openai", model
    key = environment.get("MICROTURN_MODEL_KEY") or None
    profile, engine = _DIALECTS[dialect], _engine_name(environment)
    return _checked(DEFAULT_AGENT, RemoteModel(url or None, name, key, profile, provider, engine))


def _engine_name(environment: Mapping[str, str]) -> EngineName | None:
    asked = environment.get("MICROTURN_ENGINE", "").strip()
    for name in get_args(EngineName):
        if asked == name:
            chosen: EngineName = name
            return chosen
    if asked:
        raise UserError(f"MICROTURN_ENGINE must be pydantic-ai or loop, got {asked!r}")
    return None


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
