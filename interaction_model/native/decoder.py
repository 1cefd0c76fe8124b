"""The backbone as it is served: a few new tokens of several sessions at once, with the bits of each alone.

It computes with `microturn.kernels.ops` what `backbone.Backbone.forward` computes with plain PyTorch. No bit of a
token depends on which sessions are computed with it, or on how its session was cut into calls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from microturn.interaction_model.native._errors import BadEmbeddingsError
from microturn.interaction_model.native.backbone import Backbone, DecoderLayer
from microturn.interaction_model.native.cache import (
    CacheConfig,
    ConvolutionInputs,
    KeyValueCache,
    Places,
    SessionState,
)
from microturn.interaction_model.native.config import AttentionKind
from microturn.interaction_model.native.served_layer import Reach, ServedLayer, ServedNorm
from microturn.kernels.ops.attention import prepare_attention
from microturn.kernels.ops.linear import linear, prepare_linears
from microturn.kernels.ops.norm import add_rms_norm, rms_norm

STEP_TOKENS = (1, 5, 17, 53)
"""Rows of linears that are tried out beforehand: an emitted token, a silent micro-turn, the same with the patches of
160 x 120 and of 320 x 240 pixels."""


class Decoder:
    """Serves one network. Calls must come one at a time.

    Args:
        backbone: where the weights come from; they are copied.
        head: `(V, C)`: weight of the head.
        cache: how much is kept of sessions.
    """

    def __init__(self, backbone: Backbone, head: Tensor, cache: CacheConfig | None = None) -> None:
        self.config = backbone.config
        weight = backbone.norm.weight
        self._norm = ServedNorm.of(backbone.norm)
        self._head = head.detach().clone()
        self._layers = [ServedLayer(layer) for layer in backbone.layers if isinstance(layer, DecoderLayer)]
        embedding = backbone.embed_tokens
        norm = embedding.embed_norm
        self._table = rms_norm(embedding.weight.detach(), norm.weight.detach(), norm.eps)
        self.cache = KeyValueCache(self.config, cache or CacheConfig(), weight.dtype, weight.device)

    def prepare(self) -> None:
        """Lay weights out for speed and try them, so that no later call has to wait; for the CPU."""
        prepare_linears(
            (self._head, *(matrix for layer in self._layers for matrix in layer.matrices())), STEP_TOKENS
        )
        for layer in range(self.config.layers):
            prepare_attention(self._head.dtype, self.config.heads(layer).head_dim)

    def open(self) -> SessionState:
        """A session without tokens."""
        return self.cache.open()

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings of token ids: `(T,)` int64 -> `(T, C)`."""
        return self._table[ids]

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token: `(T, C)` -> `(T, V)`."""
        return linear(hidden / self.config.logits_divisor, self._head)

    @torch.inference_mode()
    def advance(self, states: Sequence[SessionState], embeddings: Sequence[Tensor]) -> list[Tensor]:
        """Append tokens to several sessions.

        Args:
            states: the sessions, each once.
            embeddings: of each its new tokens, `(T, C)` with T at least 1, of the weights' dtype.

        Returns:
            Of each session `(T, C)`: normed hidden states.

        Raises:
            BadEmbeddingsError: the shapes do not fit, or a session stands there twice.
            PoolFullError: there are too few free pages; every session is as it was.
        """
        self._check(states, embeddings)
        counts = [len(tokens) for tokens in embeddings]
        firsts = [state.length for state in states]
        places = self.cache.append(states, counts)
        factors = self._factors(firsts, counts)
        x = embeddings[0] if len(embeddings) == 1 else torch.cat(list(embeddings))
        branch = torch.zeros_like(x)
        after: list[list[ConvolutionInputs]] = []
        for number, layer in enumerate(self._layers):
            kind = self.config.attention[number]
            reach = self._reach(number, kind, places[kind], factors)
            before = ConvolutionInputs.joined([state.inputs[number] for state in states])
            x, branch, kept = layer.advance(x, branch, before, reach)
            after.append(kept.split())
        for state, own in zip(states, zip(*after, strict=True), strict=True):
            state.inputs = own
        self.cache.evict(states)
        hidden, _ = add_rms_norm(branch, x, self._norm.weight, self._norm.eps)
        return list(hidden.split(counts))

    def _reach(self, number: int, kind: AttentionKind, places: Places, factors: Tensor | None) -> Reach:
        keys, values = self.cache.layers[number]
        window, sinks = self.cache.window(kind)
        scaled = factors if kind == "global" else None
        return Reach(keys, values, places.tables, places.slots, window, sinks, scaled)

    def _factors(self, firsts: Sequence[int], counts: Sequence[int]) -> Tensor | None:
        """What scores of global layers are scaled with, `(T, 1, 1)`; each by itself, so that its bits are its own."""
        scaling = self.config.log_scaling
        if scaling is None:
            return None
        lengths = [first + n + 1 for first, count in zip(firsts, counts, strict=True) for n in range(count)]
        numbers = [1.0 + scaling.alpha * math.log(max(1.0, length / scaling.floor)) for length in lengths]
        return torch.tensor(numbers, dtype=torch.float32, device=self._head.device).view(-1, 1, 1)

    def _check(self, states: Sequence[SessionState], embeddings: Sequence[Tensor]) -> None:
        if len(states) != len(embeddings) or not states:
            got = (len(states), len(embeddings))
            raise BadEmbeddingsError(
                "sessions and embeddings", expected="as many of both, at least 1", got=got
            )
        for tokens in embeddings:
            if tokens.dim() != 2 or tokens.shape[1] != self.config.width or not len(tokens):
                expected = f"(T, {self.config.width}) for each session, T at least 1"
                raise BadEmbeddingsError("embeddings", expected=expected, got=tuple(tokens.shape))
            if tokens.dtype != self._head.dtype:
                raise BadEmbeddingsError("embeddings", expected=f"of {self._head.dtype}", got=tokens.dtype)
