"""What waits to be read: typed lines and results, so many words a micro-turn that no step becomes long.

Typed words outside the vocabulary are read as `Token.UNKNOWN`: the network knows that something stood there. Of
results only what can be said is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.native.grammar import Inputs
from microturn.interaction_model.native.sayable import sayable_words
from microturn.interaction_model.native.vocabulary import written_words

READ_WORDS = 24
"""Most words that are read in one micro-turn; further ones wait for the next. Our choice: about what one patch grid of
the eyes takes, and longer than anything that the nano model was trained on."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a session has been given and not read yet. A value: keep it to go back to it."""

    text: Words = ()
    items: tuple[Words, ...] = ()

    def given(self, lines: Iterable[str], items: Iterable[str]) -> Reading:
        """Return it with new lines and results behind; a result too long for one micro-turn becomes several."""
        words = tuple(word for line in lines for word in written_words(line))
        parts = tuple(part for item in items for part in _parts(_words(item)))
        return Reading(self.text + words, self.items + parts)

    def next(self, patches: int) -> tuple[Inputs, Reading]:
        """Return what the next micro-turn reads, with its number of patches, and what is left."""
        text, left = self.text[:READ_WORDS], READ_WORDS - len(self.text[:READ_WORDS])
        count = 0
        for item in self.items:
            if len(item) > left:
                break
            left -= len(item)
            count += 1
        inputs = Inputs(patches, text, self.items[:count])
        return inputs, Reading(self.text[READ_WORDS:], self.items[count:])


def _words(result: str) -> Words:
    return tuple(word for word, _ in sayable_words(result))


def _parts(words: Words) -> list[Words]:
    return [words[at : at + READ_WORDS] for at in range(0, len(words), READ_WORDS)]
