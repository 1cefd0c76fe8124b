"""What an examinee did in a scene, in the form in which it is scored: words with their times, and decisions.

Whoever sits the exam is described in this way, so that nothing behind it knows of networks or of how an answer was made.
Does not know what would have been right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from microturn.interaction_model.native.emission import Words, read_emission
from microturn.interaction_model.native.pace import OwnWordMs
from microturn.interaction_model.training.scorers import SpokenWord
from microturn.interaction_model.training.stage import heard_ms


@dataclass(frozen=True, slots=True)
class Conduct:
    """All that was done in one scene. Micro-turns are those in which something was decided, from 0."""

    said: tuple[SpokenWord, ...] = ()
    """In order of time, in seconds from the scene's begin, as the user heard them."""
    heard: tuple[tuple[int, str], ...] = ()
    """Words of the user that were written down, each with its micro-turn, in the order of the text."""
    tasks: tuple[tuple[int, Words], ...] = ()
    """Delegations: the micro-turn of each and its intent."""
    cancels: tuple[int, ...] = ()
    """Micro-turns in which the running task was called off."""
    signs: tuple[int, ...] = ()
    """Micro-turns in which a sign of listening was given; such signs are not among `said`."""


def conduct_of(outputs: Sequence[Sequence[int]], own_word_ms: OwnWordMs) -> Conduct:
    """Read the output tokens of all micro-turns of a scene."""
    emissions = [read_emission(tokens) for tokens in outputs]
    return Conduct(
        said=tuple(spoken_words(outputs, own_word_ms)),
        heard=tuple((turn, word) for turn, each in enumerate(emissions) for word in each.heard),
        tasks=tuple((turn, intent) for turn, each in enumerate(emissions) for intent in each.tasks),
        cancels=tuple(turn for turn, each in enumerate(emissions) if each.cancels),
        signs=tuple(turn for turn, each in enumerate(emissions) if each.backchannel),
    )


def spoken_words(outputs: Sequence[Sequence[int]], own_word_ms: OwnWordMs) -> list[SpokenWord]:
    """Return when the words of emitted tokens are heard: each from its micro-turn on, one after the other.

    Words that are broken off end there; those that have not begun by then are not heard at all.
    """
    words: list[SpokenWord] = []
    free, before = 0, None
    for turn, tokens in enumerate(outputs):
        emission, now = read_emission(tokens), heard_ms(turn)
        if emission.hushes and free > now:
            free, before = now, None
            words = [
                replace(word, end=min(word.end, now / 1000)) for word in words if 1000 * word.begin < now
            ]
        for word in emission.said:
            begin = max(now, free)
            free = begin + own_word_ms(word, before if begin == free else None)
            before = word
            words.append(SpokenWord(word, begin / 1000, free / 1000))
    return words
