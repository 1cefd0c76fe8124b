"""The tools as pydantic-ai sees them: declared to it, and run outside of it.

All calls of one answer come out at once, so that there is one door to the tools. Knows nothing of what is behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, RunContext, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool

from microturn.protocols import ToolSpec

RETRIES: Final = 1_000
"""pydantic-ai's own counts of retries never end a run: the limits of the run do."""


class Caller(Protocol):
    """What makes the calls, and says what a request is held to."""

    def settings(self) -> ModelSettings:
        """What the next request is held to."""

    async def call(self, asked: Sequence[ToolCallPart]) -> DeferredToolResults:
        """Run the calls of one answer."""


class OneDoor(AbstractCapability[Caller]):
    """Holds an agent to the rules of the run, and sends its calls through the one door."""

    def get_model_settings(self) -> Callable[[RunContext[Caller]], ModelSettings]:
        """Settings that are made anew for each request."""
        return lambda context: context.deps.settings()

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[Caller], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        """Run all calls of an answer."""
        return await ctx.deps.call(requests.calls)


class DeclaredTools(AbstractToolset[Caller]):
    """The tools as pydantic-ai sees them: declared here, run elsewhere, their arguments taken as they come."""

    def __init__(self, specs: Sequence[ToolSpec]) -> None:
        self._tools = {
            spec.name: ToolsetTool(
                toolset=self,
                tool_def=ToolDefinition(
                    name=spec.name,
                    description=spec.description,
                    parameters_json_schema=dict(spec.parameters) or {"type": "object", "properties": {}},
                    kind="external",
                ),
                max_retries=RETRIES,
                args_validator=_AsTheyCome(),
            )
            for spec in specs
        }

    @property
    def id(self) -> str:
        """Name of the set."""
        return "microturn"

    async def get_tools(self, ctx: RunContext[Caller]) -> dict[str, ToolsetTool[Caller]]:
        """All tools, at every step, so that what a server keeps ready of the prompt stays valid."""
        return self._tools

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Caller], tool: ToolsetTool[Caller]
    ) -> Any:
        """Never called: the calls of tools that are declared as external go to `OneDoor`."""
        raise NotImplementedError(f"tool {name!r} is run by the tool runner")


class _AsTheyCome:
    """Finds no fault with any arguments, as the tool runner judges them."""

    def validate_json(self, input: str | bytes | bytearray, **_: Any) -> dict[str, Any]:
        """Nothing, as they are read elsewhere."""
        return {}

    def validate_python(self, input: Any, **_: Any) -> dict[str, Any]:
        """Nothing, as they are read elsewhere."""
        return {}
