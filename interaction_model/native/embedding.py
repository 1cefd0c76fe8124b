"""Positions of `grammar` to embeddings, for training: each by the part of the network that its kind names."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from microturn.interaction_model.native._errors import BadEmbeddingsError
from microturn.interaction_model.native.clock import FACES
from microturn.interaction_model.native.grammar import PositionKind
from microturn.interaction_model.native.network import Network


def embed_positions(
    network: Network, kinds: Tensor, ids: Tensor, times: Tensor, *, levels: Tensor, patches: Tensor
) -> Tensor:
    """Embed packed scenes, with gradients for every part.

    Rows of a batch share `levels` and `patches`: whoever puts scenes side by side adds to the ids of AUDIO and PATCH
    positions how many frames and patches stand before theirs.

    Args:
        network: whose embeddings, ears, eyes and clock are used.
        kinds: `(B, T)` values of `PositionKind`.
        ids: `(B, T)` integers: a row of `levels` or of `patches`, or a token.
        times: `(B, T, 3)` integers: what the clock of NOW shows, `stopwatches.packed_times`.
        levels: `(F, 80)` integers from 0 to 15.
        patches: `(P, frames, patch, patch, 3)`, of `eyes.cut_patches`; P may be 0.

    Returns:
        `(B, T, C)` of the dtype of the network's embeddings.

    Raises:
        BadEmbeddingsError: shapes differ, or a kind is unknown.
    """
    _check(kinds, ids, times)
    table = network.model.embed_tokens
    embedded = table.weight.new_zeros(*kinds.shape, table.weight.shape[1])
    is_heard, is_seen = kinds == PositionKind.AUDIO, kinds == PositionKind.PATCH
    is_now = kinds == PositionKind.NOW
    is_token = ~(is_heard | is_seen)
    parts: list[tuple[Tensor, Callable[[], Tensor]]] = [
        (is_token, lambda: table(ids[is_token])),
        (is_heard, lambda: network.audio_tower(levels)[ids[is_heard]]),
        (is_seen, lambda: network.vision_tower(patches)[ids[is_seen]]),
        (is_now, lambda: network.clock(times[is_now])),
    ]
    for here, part in parts:
        if here.any():
            embedded = embedded.index_put((here,), part().to(embedded.dtype), accumulate=True)
    return embedded


def _check(kinds: Tensor, ids: Tensor, times: Tensor) -> None:
    shapes = [tuple(part.shape) for part in (kinds, ids, times)]
    if kinds.dim() != 2 or shapes[1:] != [shapes[0], (*shapes[0], FACES)]:
        expected = f"(B, T), (B, T) and (B, T, {FACES})"
        raise BadEmbeddingsError("kinds, ids and times", expected=expected, got=shapes)
    if kinds.numel() and int(torch.max(kinds)) > max(PositionKind):
        expected = f"values of PositionKind, up to {int(max(PositionKind))}"
        raise BadEmbeddingsError("kinds", expected=expected, got=int(torch.max(kinds)))
