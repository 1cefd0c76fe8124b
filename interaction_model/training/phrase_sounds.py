"""Where the sound of a scene's phrases comes from, by the name of the clip: recordings have a prefix, speech that is
made has none.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from microturn.interaction_model.training.scene import Phrase
from microturn.interaction_model.training.utterances import Utterance
from microturn.protocols import INPUT_RATE_HZ, Samples

KEPT_CLIPS = 256
"""Clips whose sound is kept; a scene has fewer than 30. What was dropped is made again when it is asked for."""
_SAMPLES_PER_MS = INPUT_RATE_HZ // 1000


class PhraseSounds(Protocol):
    """Gives the sound of phrases that it, or an equal object, has named."""

    def sound(self, phrase: Phrase) -> Samples:
        """Return the sound of a phrase, 16 kHz, `(S,)`."""
        ...


@dataclass(frozen=True, slots=True)
class SoundsByPrefix:
    """Sends a phrase to who has made it."""

    recorded: Mapping[str, PhraseSounds]
    """By what stands before the colon in the name of the clip."""
    made: PhraseSounds
    """For names without a colon."""

    def sound(self, phrase: Phrase) -> Samples:
        """Return the sound of a phrase.

        Raises:
            KeyError: nobody has the prefix.
        """
        prefix, colon, _ = phrase.clip.partition(":")
        return (self.recorded[prefix] if colon else self.made).sound(phrase)


class ClipMemory:
    """Makes clips by name, and keeps the newest."""

    def __init__(self, make: Callable[[str], Utterance]) -> None:
        """Make with a function that gives the same clip for the same name."""
        self._make = make
        self._clips: OrderedDict[str, Utterance] = OrderedDict()

    def __call__(self, name: str) -> Utterance:
        """Return the clip of a name."""
        if name not in self._clips:
            self._clips[name] = self._make(name)
            if len(self._clips) > KEPT_CLIPS:
                self._clips.popitem(last=False)
        self._clips.move_to_end(name)
        return self._clips[name]


def phrase_of(utterance: Utterance, clip: str) -> Phrase:
    """Name an utterance, whose first word begins at its begin, as a phrase of a scene."""
    spans = tuple(
        (word.start_sample // _SAMPLES_PER_MS, -(-word.end_sample // _SAMPLES_PER_MS))
        for word in utterance.words
    )
    return Phrase(utterance.text, spans, clip)
