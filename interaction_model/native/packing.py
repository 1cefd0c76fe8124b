"""Several sequences one after the other in a row of a training batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from microturn.interaction_model.native._errors import BadEmbeddingsError


@dataclass(frozen=True)
class Packing:
    """Where each token stands in its own sequence. Nothing of one sequence reaches another."""

    positions: Tensor
    """(B or 1, T) int64: tokens before this one in its sequence."""
    is_packed: bool
    """Whether a row may hold more than one sequence."""

    @classmethod
    def of(cls, embeddings: Tensor, segments: Tensor | None) -> Packing:
        """Find the positions.

        Args:
            embeddings: `(B, T, C)`.
            segments: `(B, T)` integers, equal within a sequence and different in neighbouring ones; None if every
                row is one sequence.

        Raises:
            BadEmbeddingsError: the shapes do not fit.
        """
        if embeddings.dim() != 3 or embeddings.shape[1] == 0:
            got = tuple(embeddings.shape)
            raise BadEmbeddingsError("embeddings", expected="(B, T, C) with T at least 1", got=got)
        places = torch.arange(embeddings.shape[1], device=embeddings.device)[None]
        if segments is None:
            return cls(places, is_packed=False)
        if segments.shape != embeddings.shape[:2]:
            expected = f"{tuple(embeddings.shape[:2])}, one number per token"
            raise BadEmbeddingsError("segments", expected=expected, got=tuple(segments.shape))
        begins = torch.ones_like(segments, dtype=torch.bool)
        begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
        first = (places * begins).cummax(1).values
        return cls(places - first, is_packed=True)

    def has_before(self, distance: int) -> Tensor:
        """`(B or 1, T, 1)` bool: whether the token at this distance before belongs to the same sequence."""
        return (self.positions >= distance).unsqueeze(-1)
