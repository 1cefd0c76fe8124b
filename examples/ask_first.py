"""A tool that asks before it acts: nothing is opened until the user has said yes.

To try it in writing, on a virtual clock: `printf 'open the garage door\\nyes please\\n' | python examples/ask_first.py`.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from microturn import Assistant, tool
from microturn.background_agent import AgentEngine, Control, Emit, ReflexEngine
from microturn.protocols import ContextPackage, Speech
from microturn.runtime.events import SessionEvent, SpeechBegan
from microturn.tools import ToolRegistry


@tool(
    side_effect="unsafe",
    approval="Shall I open the {door} door?",
    phrases=["open the {door} door"],
)
async def open_door(door: str) -> str:
    """Open a door of the house.

    Args:
        door: which one, such as "garage".
    """
    return f"The {door} door is open."


class Sorry:
    """Stands where a reasoning model would."""

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        """Say so."""
        await emit("final", speech=Speech(text="I can only open doors."))


@asynccontextmanager
async def reflexes(tools: ToolRegistry) -> AsyncIterator[AgentEngine]:
    """Open an engine that needs no model."""
    yield ReflexEngine(Sorry())


def show(event: SessionEvent) -> None:
    """Print what the assistant says when it begins to say it."""
    if isinstance(event, SpeechBegan):
        print(f"{event.at_ms / 1000:6.1f} s  {event.text}")


if __name__ == "__main__":
    Assistant([open_door], open_engine=reflexes).talk(typed=sys.stdin, fast=True, observers=[show])
