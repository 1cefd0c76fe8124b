"""How long the assistant's own words take: by the mouth's own model of lengths, so that whoever plans keeps its time.

A word's length depends on the word and on the one it follows without a gap, as in `Mouth.begins`.
"""

from __future__ import annotations

from microturn.interaction_model.native.durations import DurationModel
from microturn.interaction_model.native.flow_head import SERVING_MATH
from microturn.interaction_model.native.pronunciation import SILENCE, symbols
from microturn.interaction_model.native.speech_track import UNIT_FRAMES
from microturn.interaction_model.native.vocoder_frames import TURN_FRAMES
from microturn.protocols import MICRO_TURN_MS

UNIT_MS = UNIT_FRAMES * MICRO_TURN_MS // TURN_FRAMES
"""One unit of length, 25 ms."""


class OwnWords:
    """Lengths of words; equal questions are answered from memory, which a vocabulary's pairs of words bound."""

    def __init__(self, model: DurationModel) -> None:
        """Ask a model, which must not be changed any more."""
        self._model = model
        self._known: dict[tuple[str, str | None], tuple[int, ...]] = {}

    def __call__(self, word: str, before: str | None = None) -> int:
        """Return the milliseconds of a word, the pause behind it included; `before` is None after silence.

        Raises:
            UnknownWordsError: a word is not in the vocabulary.
        """
        return UNIT_MS * sum(self.units(word, before))

    def units(self, word: str, before: str | None) -> tuple[int, ...]:
        """Return the units of each symbol of a word, the pause last, as a `SpeechTrack` says them.

        Raises:
            UnknownWordsError: a word is not in the vocabulary.
        """
        if (word, before) not in self._known:
            numbers = symbols(word)
            tail = symbols(before)[-2:] if before else (SILENCE, SILENCE)
            units = self._model.units(numbers, tail, SERVING_MATH)
            # A track lets every word end: its last sound has at least one unit.
            units[-2] = max(units[-2], 1)
            self._known[word, before] = tuple(units)
        return self._known[word, before]
