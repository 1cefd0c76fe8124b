"""The phonemes of what the user says: a second thing to learn from every scene.

A word is written down once, after its end, which is little to learn hearing from. So the network is also asked, at every
position of sound, which phonemes it has heard, by a head that is not served. Connectionist temporal classification
needs no times, only the order. Sources: Graves et al., 2006; beside another loss: Kim, Hori and Watanabe, 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from microturn.interaction_model.native.grammar import NO_TARGET, Ints
from microturn.interaction_model.native.pronunciation import (
    ALPHABET,
    PAUSE,
    PRONUNCIATIONS,
    SILENCE,
    numbered,
)
from microturn.interaction_model.native.vocabulary import Token, WordKind, word_of

BLANK = SILENCE
"""The class of CTC that stands for no new phoneme."""
CLASSES = len(ALPHABET) + 1
PER_POSITION = 2
"""Answers at each position of 50 ms: fast speech has more phonemes than positions."""
_MARKS = frozenset(PAUSE + "ˈˌ")
"""Symbols of the alphabet that are no sounds: the pause and the marks of stress."""


@cache
def phonemes_of(word: str) -> tuple[int, ...]:
    """The numbers of a word's phonemes, without stress."""
    return numbered([symbol for symbol in PRONUNCIATIONS[word] if symbol not in _MARKS])


def heard_phonemes(targets: Ints) -> list[int]:
    """The phonemes of all words that are to be written down, in the order of positions; intents are not heard.

    Args:
        targets: `(T,)` of a scene: tokens or `NO_TARGET`.
    """
    found: list[int] = []
    is_intent = False
    for token in targets[targets != NO_TARGET].tolist():
        if token == Token.DELEGATE:
            is_intent = True
        elif token in (Token.END_DELEGATE, Token.END):
            is_intent = False
        elif not is_intent:
            match word_of(token):
                case (WordKind.HEARD, word):
                    found += phonemes_of(word)
    return found


class PhonemeHead(nn.Module):
    """Asks hidden states for phonemes."""

    def __init__(self, width: int) -> None:
        """`width` is C of the hidden states."""
        super().__init__()
        self.classes = nn.Linear(width, PER_POSITION * CLASSES)

    def loss(self, hidden: Tensor, positions: Sequence[int], phonemes: Tensor, counts: Tensor) -> Tensor:
        """The sum of the losses of all rows, in nats; a row whose phonemes do not fit into its sound counts 0.

        Args:
            hidden: `(A, C)` at the positions of sound, row by row.
            positions: how many of them each of the B rows has.
            phonemes: `(N,)`, row by row.
            counts: `(B,)` how many each row has.
        """
        scores = self.classes(hidden).float().view(-1, CLASSES)
        lengths = [PER_POSITION * count for count in positions]
        rows = nn.utils.rnn.pad_sequence(list(scores.split(lengths)))
        return functional.ctc_loss(
            rows.log_softmax(-1),
            phonemes,
            torch.tensor(lengths),
            counts,
            blank=BLANK,
            reduction="sum",
            zero_infinity=True,
        )
