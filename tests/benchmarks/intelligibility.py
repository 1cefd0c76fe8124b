"""Is a recording intelligible? It is heard by a recogniser and compared with its text by sound.

Both texts are read as phonemes, so that "48" and "forty eight" agree and a wrong word weighs as much as it sounds
wrong. Hesitations are left out on both sides, since recognisers leave them out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from hibari.g2p import G2P
from kokoro_voice import Samples

from microturn.interaction_model.cascade.recognizer import MoonshineRecognizer

WORST_ERROR_RATE = 0.15
"""A recording whose phoneme error rate is above this is not used. Our choice: about one word in seven."""

_HESITATIONS = re.compile(r"\b(?:um+|uh+|er+m?)\b(?!-)[,.…]*", re.IGNORECASE)
_NOT_A_SOUND = re.compile(r"[^\w]|[ˈˌː]")


class Listener:
    """A recogniser and a reader of phonemes; loading takes about two seconds and blocks."""

    def __init__(self) -> None:
        self._recognizer = MoonshineRecognizer.shipped()
        self._g2p = G2P()

    def hear(self, audio: Samples) -> str:
        """Return the words in `audio`, `(S,)` at 16 kHz."""
        return self._recognizer.transcribe(audio).text

    def error_rate(self, said: str, heard: str) -> float:
        """Return the edits between two texts per phoneme of the first."""
        expected = self._sounds(said)
        return edit_distance(expected, self._sounds(heard)) / max(1, len(expected))

    def _sounds(self, text: str) -> str:
        return _NOT_A_SOUND.sub("", str(self._g2p(without_hesitations(text))))


def without_hesitations(text: str) -> str:
    """Leave "um" and its like out of a text."""
    return " ".join(_HESITATIONS.sub(" ", text).split())


def edit_distance(first: Sequence[str], second: Sequence[str]) -> int:
    """Fewest insertions, deletions and substitutions that make one of the other (Levenshtein 1966)."""
    row = np.arange(len(second) + 1)
    for index, symbol in enumerate(first, start=1):
        above = row.copy()
        row[0] = index
        for column, other in enumerate(second, start=1):
            row[column] = min(above[column] + 1, row[column - 1] + 1, above[column - 1] + (symbol != other))
    return int(row[-1])
