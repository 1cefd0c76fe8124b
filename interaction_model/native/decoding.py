"""What the network does in one micro-turn: it is asked for tokens until it ends, all sessions side by side.

Each token is held against the session's script, which may end the micro-turn with words of a result in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from microturn.interaction_model.native.cache import SessionState
from microturn.interaction_model.native.decoder import Decoder
from microturn.interaction_model.native.emission import MAX_OUTPUT_TOKENS, output_mask
from microturn.interaction_model.native.script import Cue, Passage
from microturn.kernels.ops.sampling import sample


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A session whose inputs of a micro-turn have been computed."""

    state: SessionState
    hidden: Tensor
    """(C,) at its query position."""
    seed: int
    cue: Cue
    """What its tokens mean."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What it did."""

    tokens: tuple[int, ...]
    """At most 8, without END; all were appended to the session."""
    hidden: Tensor
    """(C,) at the last position of the micro-turn."""
    passage: Passage
    """What of a result stands at the end of the tokens."""


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
        passages = [Passage() for _ in questions]
        asked = list(range(len(questions)))
        while asked:
            chosen = self._choose([questions[n] for n in asked], torch.stack([hidden[n] for n in asked]))
            taken: dict[int, tuple[int, ...]] = {}
            for n, token in zip(asked, chosen, strict=True):
                passage = questions[n].cue.decide(tokens[n], token)
                if passage is None:
                    taken[n] = (token,)
                else:
                    passages[n] = passage
            self._append(questions, taken, tokens, hidden)
            asked = [n for n in taken if len(tokens[n]) < MAX_OUTPUT_TOKENS]
        told = {n: passage.tokens for n, passage in enumerate(passages) if passage.count}
        self._append(questions, told, tokens, hidden)
        answers = zip(map(tuple, tokens), hidden, passages, strict=True)
        return [Answer(*parts) for parts in answers]

    def _choose(self, questions: Sequence[Question], hidden: Tensor) -> list[int]:
        scores = self._decoder.logits(hidden)
        return self._draw(questions, scores.masked_fill(self._forbidden.to(scores.device), -torch.inf))

    def _draw(self, questions: Sequence[Question], scores: Tensor) -> list[int]:
        """Draw a token for each session, from scores `(S, V)` of those that may be emitted."""
        seeds = torch.tensor([question.seed for question in questions], device=scores.device)
        places = torch.tensor([question.state.length for question in questions], device=scores.device)
        heat = torch.full((len(questions),), self._temperature, device=scores.device)
        return [int(token) for token in sample(scores, seeds, places, heat).tolist()]

    def _append(
        self,
        questions: Sequence[Question],
        new: Mapping[int, Sequence[int]],
        tokens: Sequence[list[int]],
        hidden: list[Tensor],
    ) -> None:
        """Append new tokens to the sessions of their questions; `tokens` and `hidden` are moved on."""
        if not new:
            return
        ids = torch.tensor([token for own in new.values() for token in own], device=self._forbidden.device)
        embedded = self._decoder.embed(ids).split([len(own) for own in new.values()])
        found = self._decoder.advance([questions[n].state for n in new], list(embedded))
        for (n, own), states in zip(new.items(), found, strict=True):
            tokens[n].extend(own)
            hidden[n] = states[-1]
