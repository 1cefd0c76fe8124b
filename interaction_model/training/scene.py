"""A scene: what happens in N micro-turns, and what the assistant should do in each of them.

Pure data made by seed. Sound is named, not held: a `Talk` says which phrase begins when, and the clip bank renders
it; a film is a recipe that draws its frames on demand. Beside the targets that a network learns, a scene holds the
truth that its answers are scored with (`Due`, `Moment`), which comes from the events and not from the targets.

Times are milliseconds from the scene's begin. What the assistant says in micro-turn t is heard from the end of t, as
it is computed from everything up to there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.native.grammar import Inputs

MICRO_TURN_MS = 200
FRAMES_APART_MS = 100
"""Between the two frames of a micro-turn."""
USER = 0
"""The speaker slot of the one who is listened to; other slots are other people."""
PATCH_PIXELS = 40
"""Side of a patch that the eyes make one token of; stated by Thinking Machines for their interaction models."""

Split = Literal["train", "test"]
MomentKind = Literal[
    "turn", "pause", "backchannel", "sign", "interruption", "others", "repetition", "action", "event"
]
"""A `backchannel` is the user's, a `sign` of listening the assistant's."""
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words as one voice says them."""

    words: Words
    """Empty for talk of other people that nobody has written down; then there is one span, of all of it."""
    spans_ms: tuple[tuple[int, int], ...]
    """Begin and end of each word, from the phrase's begin; in order and not overlapping."""
    clip: str
    """Names the rendering for who made it."""
    tail_ms: int = 0
    """How long speech goes on after the last of the words: with words that are not in the vocabulary, which recordings of
    people may hold anywhere. They are in no phrase, as nothing is to be made of them."""

    @property
    def length_ms(self) -> int:
        """From its begin to the end of its last word, be it one of `words` or not."""
        return self.spans_ms[-1][1] + self.tail_ms


@dataclass(frozen=True, slots=True)
class Talk:
    """Somebody says a phrase."""

    start_ms: int
    speaker: int
    """`USER`, or the slot of somebody else who is not talking to the assistant."""
    phrase: Phrase
    gain_db: float = 0.0
    """Against the user's usual level; others are further away, -12 dB and less."""

    @property
    def end_ms(self) -> int:
        """The end of its last word."""
        return self.start_ms + self.phrase.length_ms


@dataclass(frozen=True, slots=True)
class Noise:
    """Sound that is no speech."""

    kind: Literal["noise", "music", "click"]
    start_ms: int
    length_ms: int
    gain_db: float
    """Against the user's usual level."""


@dataclass(frozen=True, slots=True)
class OwnWord:
    """A word of the assistant; the target SAY stands in `micro_turn`, one micro-turn before its sound."""

    word: str
    micro_turn: int
    start_ms: int
    end_ms: int
    """Earlier than the word's usual length if it was cut."""


@dataclass(frozen=True, slots=True)
class Due:
    """Something that has to be said: one meaning and one time window."""

    kind: str
    answers: tuple[Words, ...]
    """Any one of them is right."""
    window_ms: tuple[int, int]
    """The first word has to begin inside it, both ends included."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A stretch of time that a score looks at."""

    kind: MomentKind
    start_ms: int
    end_ms: int


class SeenThing(NamedTuple):
    """A thing as it stands in a frame."""

    colour: str
    shape: str
    centre: tuple[float, float]
    """x to the right and y down, in pixels; may lie outside the picture."""


class Film(Protocol):
    """What the camera sees."""

    def frame(self, time_ms: int) -> Pixels:
        """Draw the frame of a time: (H, W, 3) uint8, always the same for the same time."""

    def things_at(self, time_ms: int) -> Sequence[SeenThing]:
        """Return the things in the frame of a time, the nearest last."""

    def movement_at(self, time_ms: int) -> tuple[str, float] | None:
        """Return the action of the figure in the frame of a time, and how far its cycle is, from 0 to below 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One scene of N micro-turns."""

    task: str
    split: Split
    seed: int
    micro_turns: int
    """N."""
    talks: tuple[Talk, ...]
    noises: tuple[Noise, ...]
    arrivals: Mapping[int, Inputs]
    """Text and results by micro-turn; without patches, which `inputs` adds."""
    targets: tuple[tuple[int, ...], ...]
    """(N) output tokens of each micro-turn, without END."""
    speech: tuple[OwnWord, ...]
    """The assistant's own words."""
    tasks: tuple[tuple[int, Words], ...]
    """Delegations: the micro-turn of each and its intent."""
    cancels: tuple[int, ...]
    """Micro-turns in which the running task is cancelled."""
    due: tuple[Due, ...]
    moments: tuple[Moment, ...]
    film: Film | None = None
    frame_size: tuple[int, int] = field(default=(120, 160))
    """Height and width in pixels."""

    def frames(self, micro_turn: int) -> Pixels | None:
        """Draw the pair of frames of a micro-turn, 100 ms apart: (2, H, W, 3) uint8; None without a film."""
        if self.film is None:
            return None
        newer = newer_frame_ms(micro_turn)
        return np.stack([self.film.frame(newer - FRAMES_APART_MS), self.film.frame(newer)])

    def inputs(self) -> list[Inputs]:
        """Return what arrives in each of the N micro-turns beside sound, for `grammar.pack`."""
        patches = self._patches() if self.film else 0
        nothing = Inputs()
        arrived = (self.arrivals.get(turn, nothing) for turn in range(self.micro_turns))
        return [Inputs(patches, each.text, each.background) for each in arrived]

    def _patches(self) -> int:
        height, width = self.frame_size
        return -(-height // PATCH_PIXELS) * -(-width // PATCH_PIXELS)


def newer_frame_ms(micro_turn: int) -> int:
    """The time of the newer one of a micro-turn's two frames."""
    return micro_turn * MICRO_TURN_MS + FRAMES_APART_MS
