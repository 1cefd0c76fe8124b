"""What the programs are told to do and what they answer, as lines of JSON.

Times are seconds of the machine's one monotonic clock, so that they can be compared between processes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

SPOKEN = "The next train to the coast leaves at ten past nine from platform four, and there are seats left."
"""What each piece carries besides its times: about as much as a worker says at once."""


@dataclass(frozen=True, slots=True)
class Order:
    """Tasks to hand over."""

    tasks: int = 1
    at_once: int = 1
    """How many of them are under way at a time."""
    pieces: int = 20
    """Partial results of each task; its end comes after them."""
    pause_s: float = 0.0
    """Between two pieces of a task."""
    within_s: float = 15.0
    """After which a task counts as never finished."""
    nudge_s: float = 0.0
    """How often another task is handed over while one is waited for; 0 is never."""

    def encode(self) -> str:
        """The order as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, line: str) -> Order:
        """Read what `encode` wrote."""
        return cls(**json.loads(line))


@dataclass(frozen=True, slots=True)
class Piece:
    """One partial result, or the end after them."""

    number: int
    begun_s: float
    """When the task's function was entered."""
    sent_s: float
    pid: int
    is_end: bool = False
    text: str = SPOKEN


@dataclass(slots=True)
class Trial:
    """What came of one task."""

    submitted_s: float = 0.0
    begun_s: float | None = None
    """When the first attempt whose words arrived had entered the task's function."""
    numbers: list[int] = field(default_factory=list)
    """Of the pieces, in the order in which they came."""
    sent_s: list[float] = field(default_factory=list)
    got_s: list[float] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)
    ended_s: float | None = None
    """None if the end had not come in time."""

    def take(self, piece: Piece, got_s: float) -> None:
        """Note a piece that has come."""
        if self.begun_s is None:
            self.begun_s = piece.begun_s
        if piece.is_end:
            self.ended_s = got_s
            return
        self.numbers.append(piece.number)
        self.sent_s.append(piece.sent_s)
        self.got_s.append(got_s)
        self.pids.append(piece.pid)

    def lost(self, pieces: int) -> int:
        """Pieces that never came."""
        return pieces - len(set(self.numbers))

    def doubled(self) -> int:
        """Pieces that came more than once."""
        return len(self.numbers) - len(set(self.numbers))

    def longest_gap_s(self) -> float:
        """The longest wait between two pieces."""
        return max(
            (later - earlier for earlier, later in zip(self.got_s, self.got_s[1:], strict=False)), default=0.0
        )
