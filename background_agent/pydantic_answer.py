"""One answer of a model, put together from pydantic-ai's events. Knows nothing of what is done with it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic_ai.messages import (
    AgentStreamEvent,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPartDelta,
)

from microturn.background_agent.thinking import without_thinking


@dataclass(slots=True)
class PydanticAnswer:
    """One answer of the model, as far as it has come."""

    text: str = ""
    received_chars: int = 0
    """All that has come, with thoughts and calls."""
    response: ModelResponse | None = None
    is_left: bool = False
    """Whether it was left because the user has said something else."""
    is_cut: bool = False
    """Whether it was cut off because it did not end."""

    @property
    def visible(self) -> str:
        """What of it is meant for the user."""
        return without_thinking(self.text)

    @property
    def says_nothing(self) -> bool:
        """Whether its text is nothing but thoughts, which pydantic-ai would take for an answer."""
        return bool(self.text.strip()) and not self.visible.strip()

    @property
    def is_broken_off(self) -> bool:
        """Whether it ended without saying so."""
        told = self.response is not None and self.response.finish_reason is not None
        return not (told or self.is_left or self.is_cut)

    def take_in(self, event: AgentStreamEvent) -> None:
        """Add what an event brings."""
        match event:
            case (
                PartStartEvent(part=TextPart(content=piece))
                | PartDeltaEvent(delta=TextPartDelta(content_delta=piece))
            ):
                self.text += piece
                self.received_chars += len(piece)
            case PartStartEvent(part=ThinkingPart(content=piece)):
                self.received_chars += len(piece)
            case PartDeltaEvent(delta=ThinkingPartDelta(content_delta=str() as piece)):
                self.received_chars += len(piece)
            case PartDeltaEvent(delta=ToolCallPartDelta(args_delta=str() as piece)):
                self.received_chars += len(piece)
