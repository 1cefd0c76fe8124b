"""What the contract of engines is tried on: a scripted model behind a real server, an engine in front of it, tools."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import anyio
import anyio.lowlevel

from microturn.background_agent import (
    REMOTE,
    AgentEngine,
    ChatClient,
    ChatLimits,
    Control,
    LoopEngine,
    ModelProfile,
    RunLimits,
    TokenPrices,
)
from microturn.background_agent.model_wires import WireName
from microturn.background_agent.pydantic_engine import PydanticEngine
from microturn.background_agent.pydantic_models import model_of
from microturn.background_agent.scripted_model import CallTools, Line, ScriptedModel, scripted_model
from microturn.tools import Spoken, Tool, ToolContext, ToolRegistry, ToolRetry, tool
from tests.background_agent.stand_ins import Sent, package

QUICK = ChatLimits(connect_s=2.0, first_byte_s=10.0, silence_s=10.0, retries=1, retry_wait_s=0.01)
PROFILE = dataclasses.replace(REMOTE, limits=QUICK)
SMALL = dataclasses.replace(PROFILE, answer_chars=400, step_tokens=100)
"""A profile that little text exceeds."""


@dataclass(frozen=True)
class Setup:
    """One engine on one interface."""

    engine: Literal["loop", "pydantic-ai"]
    wire: WireName

    @asynccontextmanager
    async def open(
        self,
        model: ScriptedModel,
        *,
        limits: RunLimits | None = None,
        profile: ModelProfile = PROFILE,
        prices: TokenPrices | None = None,
    ) -> AsyncIterator[AgentEngine]:
        """The engine on a server."""
        with TemporaryDirectory() as folder:
            async with self._engine(model, Path(folder), limits, profile, prices) as engine:
                yield engine

    @asynccontextmanager
    async def _engine(
        self,
        model: ScriptedModel,
        data_dir: Path,
        limits: RunLimits | None,
        profile: ModelProfile,
        prices: TokenPrices | None,
    ) -> AsyncIterator[AgentEngine]:
        if self.engine == "loop":
            client = ChatClient(model.url, "m", key="sk-secret", limits=profile.limits)
            async with LoopEngine(client, profile, data_dir=data_dir, limits=limits, prices=prices) as loop:
                yield loop
            return
        provider = {"anthropic": "anthropic", "gemini": "google"}.get(self.wire, "openai")
        url = model.url if provider == "openai" else model.root
        served = model_of(f"{provider}:m", url=url, key="sk-secret")
        async with PydanticEngine(
            served, profile=profile, data_dir=data_dir, limits=limits, prices=prices
        ) as engine:
            yield engine


LOOP_WIRES: tuple[WireName, ...] = ("openai", "vllm", "ollama", "tags")
PYDANTIC_WIRES: tuple[WireName, ...] = (*LOOP_WIRES, "anthropic", "gemini")
EVERY_WIRE = (
    *(Setup("loop", wire) for wire in LOOP_WIRES),
    *(Setup("pydantic-ai", wire) for wire in PYDANTIC_WIRES),
)
"""For what depends on how an answer is streamed."""
EVERY_CLIENT = (
    Setup("loop", "vllm"),
    Setup("pydantic-ai", "vllm"),
    Setup("pydantic-ai", "anthropic"),
    Setup("pydantic-ai", "gemini"),
)
"""For all else: each engine, with each library below it."""


@dataclass
class Bench:
    """Tools that a test can look into."""

    began: list[str] = field(default_factory=list)
    cancelled_s: list[float] = field(default_factory=list)
    has_begun: anyio.Event = field(default_factory=anyio.Event)
    both_began: anyio.Event = field(default_factory=anyio.Event)

    def registry(self) -> ToolRegistry:
        """The tools: `double`, `meet`, `wait`, `picky`, `erase`, and those that ask."""

        @tool()
        async def double(value: float) -> Spoken:
            """Double a number.

            Args:
                value: The number.
            """
            self.began.append(f"double {value:g}")
            return Spoken(f"{2 * value:g}", f"Twice {value:g} is {2 * value:g}.")

        @tool()
        async def meet(name: str) -> str:
            """Wait until two of these run at once.

            Args:
                name: Who it is.
            """
            self.began.append(name)
            if len(self.began) == 2:
                self.both_began.set()
            await self.both_began.wait()
            return f"{name} has met the other"

        @tool()
        async def wait(seconds: float) -> str:
            """Do nothing for a time.

            Args:
                seconds: How long.
            """
            self.has_begun.set()
            try:
                await anyio.sleep(seconds)
            except BaseException:
                self.cancelled_s.append(anyio.current_time())
                raise
            return "done waiting"

        @tool()
        async def picky(word: str) -> str:
            """Take one word only.

            Args:
                word: The word.
            """
            if word != "please":
                raise ToolRetry("`word` must be please")
            return "thank you"

        @tool(side_effect="unsafe")
        async def erase(context: ToolContext, name: str) -> Spoken:
            """Remove a file for good.

            Args:
                name: Its name.
            """
            self.began.append(f"erase {name} {context.idempotency_key}")
            return Spoken("erased", "It is erased.")

        return ToolRegistry([double, meet, wait, picky, erase, *self._asking()])

    def _asking(self) -> list[Tool[..., object]]:
        """The tools that need the user: `choose` and `send`."""

        @tool()
        async def choose(context: ToolContext, what: str) -> str:
            """Let the user choose.

            Args:
                what: Among what.
            """
            return await context.ask(f"Which {what}?")

        @tool(side_effect="unsafe", approval="Shall I send it to {name}?")
        async def send(name: str) -> str:
            """Send it.

            Args:
                name: To whom.
            """
            self.began.append(f"send {name}")
            return "sent"

        return [choose, send]


def calls(*asked: tuple[str, str], text: str = "", thought: str = "") -> CallTools:
    return CallTools(asked, text, thought)


def double(value: int) -> tuple[str, str]:
    return ("double", f'{{"value": {value}}}')


@dataclass
class Play:
    """One run that is over."""

    sent: Sent
    model: ScriptedModel
    bench: Bench


async def play(
    setup: Setup,
    *script: Line,
    intent: str = "how much is that doubled",
    control: Control | None = None,
    sent: Sent | None = None,
    limits: RunLimits | None = None,
    profile: ModelProfile = PROFILE,
    prices: TokenPrices | None = None,
) -> Play:
    """Run one task on a script."""
    sent, bench = sent or Sent(), Bench()
    async with (
        scripted_model(*script, wire=setup.wire) as model,
        setup.open(model, limits=limits, profile=profile, prices=prices) as engine,
    ):
        await engine.run(package(intent), bench.registry(), sent, control or Control())
    return Play(sent, model, bench)
