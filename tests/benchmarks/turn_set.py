"""The labelled set of single turns in `tests/benchmarks/turns`: what is in it and how to read it.

Times are milliseconds from the beginning of a file, measured by loudness in windows of 10 ms before noise was added.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import soundfile
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

FOLDER = Path(__file__).parent / "turns"
"""Where the set lies."""

LABELS = "turns.json"
"""The name of the file of labels."""

Group: TypeAlias = Literal["turn", "barge_in", "backchannel"]
"""A whole turn after silence; an interruption, which takes the floor; or a sound that takes no floor."""

Kind: TypeAlias = Literal["small_talk", "delegate", "interrupt", "backchannel"]
"""What an assistant should do: answer at once, hand over, fall silent, or go on."""


class _Labels(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Clip(_Labels):
    """One recording of the set."""

    id: str
    group: Group
    kind: Kind
    voice: str
    """Name of the Kokoro voice."""
    text: str
    """What is said, without the marks of pauses."""
    speech_start_ms: int
    speech_end_ms: int
    """When the last sound of the turn ends: latency counts from here."""
    pauses: tuple[tuple[int, int], ...]
    """Thinking pauses inside the sentence, as (start, end): an answer that begins there is a cut-off."""
    words: tuple[tuple[str, int, int], ...]
    """Each word with its start and end, from the voice's duration predictor."""
    heard: str
    """What Moonshine tiny made of it."""
    phoneme_error_rate: float

    @property
    def file(self) -> str:
        """Its name in the folder."""
        return f"{self.id}.flac"


class HumanUtterance(_Labels):
    """A reading by a real person from LibriSpeech, which is not part of this repository."""

    utterance: str
    """LibriSpeech's own name, of the subset test-other."""
    speech_start_ms: int
    speech_end_ms: int
    pauses: tuple[tuple[int, int], ...]
    """Silences of at least 300 ms inside; a reader's pauses, often at the end of a clause."""


class TurnSet(_Labels):
    """All labels."""

    sample_rate_hz: int
    clips: tuple[Clip, ...]
    human: tuple[HumanUtterance, ...]

    def of(self, group: Group) -> tuple[Clip, ...]:
        """The clips of one group, in the order of their names."""
        return tuple(clip for clip in self.clips if clip.group == group)


def load_turn_set(folder: Path = FOLDER) -> TurnSet:
    """Read the labels. Blocks for milliseconds."""
    return TurnSet.model_validate_json((folder / LABELS).read_text(encoding="utf-8"))


def read_sound(path: Path) -> NDArray[np.float32]:
    """Read a recording as `(S,)` float32 at its own rate, 16 kHz for all that are named here."""
    sound: NDArray[np.float32] = soundfile.read(path, dtype="float32")[0]
    return sound
