"""How long each symbol of a word is said: a small network, asked once for every word.

Knows nothing of sound. What it says depends on the word and on the symbols before it alone, so that the places of
words in speech can be computed beforehand; see `Mouth.begins`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from microturn.interaction_model.native.flow_head import TRAINING_MATH, FlowMath
from microturn.interaction_model.native.pronunciation import ALPHABET, SILENCE

LONGEST_UNITS = 11
"""Longer symbols are said as long as this, 275 ms. Our choice: within a phrase the teacher has hardly any."""
WINDOW = 7
"""Symbols that are looked at: two before, the symbol, three behind it, and where in the word it stands."""
_LONGEST_WORD = 15


class DurationModel(nn.Module):
    """Scores for each length from 0 to `LONGEST_UNITS` units."""

    def __init__(self, symbol: int = 24, inner: int = 128) -> None:
        super().__init__()
        self.symbols = nn.Embedding(len(ALPHABET) + 1, symbol)
        self.places = nn.Embedding(_LONGEST_WORD + 1, symbol)
        self.hidden = nn.Linear(WINDOW * symbol, inner)
        self.scores = nn.Linear(inner, LONGEST_UNITS + 1)

    def forward(self, windows: Tensor, math: FlowMath = TRAINING_MATH) -> Tensor:
        """`(symbols, WINDOW)` int64 -> `(symbols, LONGEST_UNITS + 1)`."""
        near = torch.cat([self.symbols(windows[:, :-1]).flatten(1), self.places(windows[:, -1])], -1)
        hidden = math.silu(math.linear(near, self.hidden.weight, self.hidden.bias))
        return math.linear(hidden, self.scores.weight, self.scores.bias)

    @torch.no_grad()
    def units(self, word: Sequence[int], before: Sequence[int], math: FlowMath) -> list[int]:
        """Return the likeliest length of each symbol, in units of 25 ms; the shortest among equals.

        Args:
            word: numbers of the word's symbols.
            before: the two symbols before the word.
            math: the operators to compute with.
        """
        rows = torch.tensor(windows(word, before), device=self.scores.weight.device)
        return [int(number) for number in self(rows, math).argmax(-1).tolist()]


def windows(word: Sequence[int], before: Sequence[int]) -> list[list[int]]:
    """Return what the model looks at for each symbol of a word, `(symbols, WINDOW)`."""
    around = [*before, *word, SILENCE, SILENCE, SILENCE]
    return [[*around[at : at + WINDOW - 1], min(len(word) - at, _LONGEST_WORD)] for at in range(len(word))]
