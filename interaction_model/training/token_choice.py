"""How a free run chooses its next token from the scores of all of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from microturn.interaction_model.native.vocabulary import Token

Choice = Callable[[Tensor], Tensor]
"""From scores `(S, V)`, minus infinity where a token may not be emitted, to tokens `(S,)` int64."""


def greedy(scores: Tensor) -> Tensor:
    """Choose the likeliest token, as serving does."""
    return scores.argmax(-1)


def end_below(limit: float) -> Choice:
    """Return a choice that ends a micro-turn where END has at least a probability of `limit`, and only there.

    Below it, the likeliest of the other tokens is emitted, though END may be likelier than each of them: with 0.5,
    something is done where doing something is likelier than doing nothing.

    Raises:
        ValueError: `limit` is not above 0 and at most 1.
    """
    if not 0 < limit <= 1:
        raise ValueError(f"limit must be above 0 and at most 1, got {limit!r}")

    def choose(scores: Tensor) -> Tensor:
        ends = scores.float().softmax(-1)[:, Token.END] >= limit
        others = scores.clone()
        others[:, Token.END] = -torch.inf
        return others.argmax(-1).masked_fill(ends, int(Token.END))

    return choose
