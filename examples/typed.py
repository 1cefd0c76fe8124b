"""An assistant driven by typed lines, on a virtual clock: what it says is there as soon as it is computed.

Only tools answer here; what fits no tool's phrase would need a reasoning model. To try it, in a shell:
`printf 'What is 12 percent of 250?\\nthanks\\n' | python examples/typed.py`.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from microturn import Assistant
from microturn.background_agent import AgentEngine, Control, Emit, ReflexEngine
from microturn.protocols import ContextPackage, Speech
from microturn.runtime.events import SessionEvent, SpeechBegan
from microturn.tools import ToolRegistry


class Sorry:
    """Stands where a reasoning model would."""

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        """Say so."""
        await emit("final", speech=Speech(text="That is beyond me."))


@asynccontextmanager
async def reflexes(tools: ToolRegistry) -> AsyncIterator[AgentEngine]:
    """Open an engine that needs no model."""
    yield ReflexEngine(Sorry())


def show(event: SessionEvent) -> None:
    """Print what the assistant says when it begins to say it."""
    if isinstance(event, SpeechBegan):
        print(f"{event.at_ms / 1000:6.1f} s  {event.text}")


if __name__ == "__main__":
    Assistant(open_engine=reflexes).talk(typed=sys.stdin, fast=True, observers=[show])
