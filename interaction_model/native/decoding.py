"""What the network does in one micro-turn: it is asked for tokens until it ends, all sessions side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from microturn.interaction_model.native.cache import SessionState
from microturn.interaction_model.native.decoder import Decoder
from microturn.interaction_model.native.emission import MAX_OUTPUT_TOKENS, output_mask
from microturn.interaction_model.native.vocabulary import Token
from microturn.kernels.ops.sampling import sample


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A session whose inputs of a micro-turn have been computed."""

    state: SessionState
    hidden: Tensor
    """(C,) at its query position."""
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What it did."""

    tokens: tuple[int, ...]
    """At most 8, without END; all were appended to the session."""
    hidden: Tensor
    """(C,) at the last position of the micro-turn."""


class Emitter:
    """Draws output tokens.

    Args:
        decoder: the network; sessions grow by what is drawn.
        temperature: 0 takes the likeliest token, without noise.
    """

    def __init__(self, decoder: Decoder, temperature: float = 0.0) -> None:
        self._decoder = decoder
        self._temperature = temperature
        self._forbidden = ~torch.from_numpy(output_mask())

    @torch.inference_mode()
    def emit(self, questions: Sequence[Question]) -> list[Answer]:
        """Let each session emit tokens until it ends its micro-turn; those that have ended drop out.

        A session's tokens do not depend on the others: noise is a hash of its seed and of the place in its sequence.
        """
        tokens: list[list[int]] = [[] for _ in questions]
        hidden = [question.hidden for question in questions]
        asked = list(range(len(questions)))
        while asked:
            chosen = self._choose([questions[n] for n in asked], torch.stack([hidden[n] for n in asked]))
            going = [(n, token) for n, token in zip(asked, chosen, strict=True) if token != Token.END]
            if not going:
                break
            later = self._append([questions[n].state for n, _ in going], [token for _, token in going])
            for (n, token), state in zip(going, later, strict=True):
                tokens[n].append(token)
                hidden[n] = state
            asked = [n for n, _ in going if len(tokens[n]) < MAX_OUTPUT_TOKENS]
        return [Answer(tuple(own), last) for own, last in zip(tokens, hidden, strict=True)]

    def _choose(self, questions: Sequence[Question], hidden: Tensor) -> list[int]:
        scores = self._decoder.logits(hidden)
        scores = scores.masked_fill(self._forbidden.to(scores.device), -torch.inf)
        seeds = torch.tensor([question.seed for question in questions], device=scores.device)
        places = torch.tensor([question.state.length for question in questions], device=scores.device)
        heat = torch.full((len(questions),), self._temperature, device=scores.device)
        return [int(token) for token in sample(scores, seeds, places, heat).tolist()]

    def _append(self, states: Sequence[SessionState], tokens: Sequence[int]) -> list[Tensor]:
        """The hidden state, `(C,)`, of each session behind its new token."""
        ids = torch.tensor(tokens, device=self._forbidden.device)
        embedded = self._decoder.embed(ids)
        return [row[-1] for row in self._decoder.advance(states, list(embedded.split(1)))]
