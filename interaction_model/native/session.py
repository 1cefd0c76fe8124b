"""One conversation of the native model: its sequence of tokens, and the values around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from microturn.interaction_model.interface import SessionConfig
from microturn.interaction_model.native.cache import SessionState, Snapshot
from microturn.interaction_model.native.ears import Hearing
from microturn.interaction_model.native.mouth import MouthState
from microturn.interaction_model.native.narration import Narration
from microturn.interaction_model.native.reading import Reading
from microturn.interaction_model.native.script import Script
from microturn.interaction_model.native.stopwatches import Stopwatches
from microturn.interaction_model.native.user_turn import UserTurn
from microturn.interaction_model.native.voice_line import VoiceLine
from microturn.protocols import FloorState

SEED_BITS = 2**63 - 1
"""Seeds are taken modulo 2**63, which noise of tokens and of the voice can be made from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a session is, but for its tokens. Values throughout, so that to keep it is to remember it."""

    mouth: MouthState
    line: VoiceLine
    hearing: Hearing = field(default_factory=Hearing.begin)
    reading: Reading = field(default_factory=Reading)
    user: UserTurn = field(default_factory=UserTurn)
    stopwatches: Stopwatches = field(default_factory=Stopwatches)
    script: Script = field(default_factory=Script)
    narration: Narration = field(default_factory=Narration)
    floor: FloorState = field(default_factory=FloorState)
    faults: int = 0
    """How often what the network emitted broke the grammar (`emission.Fault`)."""

    @classmethod
    def begin(cls, seed: int) -> Place:
        """Before the first micro-turn."""
        return cls(mouth=MouthState(seed & SEED_BITS), line=VoiceLine.begin(seed & SEED_BITS))


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """Where a session was. It copies nothing: it is as large as the last second of sound."""

    tokens: Snapshot
    place: Place


class NativeSession:
    """One conversation of a `NativeModel`, which opens it and moves it on."""

    def __init__(
        self,
        config: SessionConfig,
        state: SessionState,
        place: Place,
        forget: Callable[[NativeSession], None],
    ) -> None:
        self.config = config
        self.state = state
        self.place = place
        self._forget = forget

    @property
    def session_id(self) -> str:
        """The id that it was opened with."""
        return self.config.session_id

    @property
    def seed(self) -> int:
        """Of the noise with which tokens are drawn."""
        return self.config.seed & SEED_BITS

    def snapshot(self) -> SessionSnapshot:
        """Remember this place. It can be gone back to within `StateWindow.rewind_tokens`; a fork lasts longer."""
        return SessionSnapshot(self.state.snapshot(), self.place)

    def rewind(self, snapshot: object) -> None:
        """Go back to a snapshot of this session: the same inputs then give the same bits.

        Raises:
            TypeError: `snapshot` is none of a native session.
            LostTokensError: too many tokens have come since; nothing has changed.
        """
        if not isinstance(snapshot, SessionSnapshot):
            raise TypeError(
                f"snapshot must be one that a native session gave, got {type(snapshot).__name__!r}"
            )
        self.state.rewind(snapshot.tokens)
        self.place = snapshot.place

    def close(self) -> None:
        """Give its pages back; a second call does nothing."""
        self._forget(self)
