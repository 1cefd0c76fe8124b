"""The one interface behind which every interaction model stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from microturn.protocols import MicroTurnInput, MicroTurnOutput


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """What a model is told once, when a session is opened."""

    session_id: str
    instructions: str = ""
    seed: int = 0


class ModelSession(Protocol):
    """One conversation's state inside a model; made by `InteractionModel.open`."""

    @property
    def session_id(self) -> str:
        """The id that it was opened with."""

    def snapshot(self) -> object:
        """Return a copy of the state, for `rewind`. Work under way elsewhere is not part of it."""

    def rewind(self, snapshot: object) -> None:
        """Go back to a snapshot of this session."""

    def close(self) -> None:
        """Give its memory back. Further steps are an error."""


class InteractionModel(Protocol):
    """One loaded model that serves many sessions.

    Methods are called one at a time and never on the event loop's thread. None of them may wait for a peer.
    """

    @property
    def fingerprint(self) -> str:
        """Names what its answers depend on beside the input: weights, versions, kind of processor.

        It stands in recordings and traces. Letters, digits, `.`, `-` and `_`.
        """

    def open(self, config: SessionConfig) -> ModelSession:
        """Begin a session."""

    def step(self, inputs: Sequence[tuple[ModelSession, MicroTurnInput]]) -> list[MicroTurnOutput]:
        """Advance every given session by one step; outputs stand in the order of the inputs.

        Work that takes longer than a small part of a micro-turn is started here and looked at in a later step.
        """

    def settle(self) -> None:
        """Wait until the work that earlier steps started is done.

        Called between steps on a virtual clock only, so that a run does not depend on how fast the machine is.
        """

    def close(self) -> None:
        """End its threads and processes and give its memory back."""
