"""The transformer in the form that is trained: plain PyTorch, with gradients, whole sequences at once.

Shape and names of parameters are those of the Inkling models, so that weights go both ways. `decoder` computes the
same with the batch-invariant operators, a few tokens at a time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from microturn.interaction_model.native._errors import BadEmbeddingsError
from microturn.interaction_model.native.attention import Attention, RelativeProfiles
from microturn.interaction_model.native.config import BackboneConfig
from microturn.interaction_model.native.experts import MixtureOfExperts, RoutedExperts, Router, SharedExperts
from microturn.interaction_model.native.mlp import GatedMlp
from microturn.interaction_model.native.norm import RmsNorm
from microturn.interaction_model.native.packing import Packing
from microturn.interaction_model.native.short_convolution import ShortConvolution

PROFILE_STD = 0.02
"""Of the profiles of bias at the start, as in transformers."""


class NormedEmbedding(nn.Embedding):
    """Embeddings that are normed as they are looked up."""

    def __init__(self, vocabulary: int, width: int, eps: float) -> None:
        super().__init__(vocabulary, width)
        self.embed_norm = RmsNorm(width, eps)

    def forward(self, ids: Tensor) -> Tensor:
        """`(...)` int64 -> `(..., C)`."""
        normed: Tensor = self.embed_norm(super().forward(ids))
        return normed


class DecoderLayer(nn.Module):
    """Attention, then a dense or sparse MLP; a norm before and a short convolution after each."""

    def __init__(self, config: BackboneConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = _mlp(config, layer)
        self.input_layernorm = RmsNorm(config.width, config.eps)
        self.post_attention_layernorm = RmsNorm(config.width, config.eps)
        self.attn_sconv = ShortConvolution(config.width, config.taps)
        self.mlp_sconv = ShortConvolution(config.width, config.taps)

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        """`(B, T, C)` -> the same shape."""
        x = x + self.attn_sconv(self.self_attn(self.input_layernorm(x), packing), packing)
        after: Tensor = x + self.mlp_sconv(self.mlp(self.post_attention_layernorm(x)), packing)
        return after


class Backbone(nn.Module):
    """All layers, with the embedding of ids before and a norm behind.

    Args:
        config: its sizes.
        device: where its parameters are made; `meta` makes none.
    """

    def __init__(self, config: BackboneConfig, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.config = config
        with torch.device(device):
            self.embed_tokens = NormedEmbedding(config.vocabulary, config.width, config.eps)
            self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.layers))
            self.norm = RmsNorm(config.width, config.eps)
        self.reset_parameters()

    def forward(self, embeddings: Tensor, segments: Tensor | None = None) -> Tensor:
        """Compute whole sequences.

        Args:
            embeddings: `(B, T, C)`: ids, sound and patches alike; those of ids come from `embed_tokens`.
            segments: `(B, T)` integers, equal within a sequence and different in neighbouring ones, where a row holds
                several; None if every row is one sequence.

        Returns:
            `(B, T, C)`: normed hidden states.

        Raises:
            BadEmbeddingsError: the shapes do not fit.
        """
        packing = Packing.of(embeddings, segments)
        if embeddings.shape[2] != self.config.width:
            expected = f"(B, T, {self.config.width})"
            raise BadEmbeddingsError("embeddings", expected=expected, got=tuple(embeddings.shape))
        x = embeddings
        for layer in self.layers:
            x = layer(x, packing)
        normed: Tensor = self.norm(x)
        return normed

    def reset_parameters(self) -> None:
        """Draw all weights anew with PyTorch's generator.

        Matrices are normal with variance 1 / K; those that write into the residual stream are divided by the root of
        the number of branches, as in GPT-2. Short convolutions are zero, so that each begins as the identity. In
        global layers gains of queries and keys begin at the fourth root of D, so that scores vary by about 1 as
        they do in common attention, and one key of hundreds can be picked out; from gains of 1 that was not learned
        in the time we had. Our choice; transformers draws all matrices with one standard deviation.
        """
        for module in self.modules():
            _reset(module)
        for module in self.modules():
            if isinstance(module, Attention) and not module.window:
                for norm in (module.q_norm, module.k_norm):
                    nn.init.constant_(norm.weight, module.heads.head_dim**0.25)
        branches = math.sqrt(2 * self.config.layers)
        for name, parameter in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "down_proj")):
                with torch.no_grad():
                    parameter.div_(branches)


def _mlp(config: BackboneConfig, layer: int) -> nn.Module:
    if config.mlps[layer] == "dense":
        return GatedMlp(config.width, config.inner)
    assert config.experts is not None
    return MixtureOfExperts(config.width, config.experts)


def _reset(module: nn.Module) -> None:
    if isinstance(module, RmsNorm):
        nn.init.ones_(module.weight)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight)
    elif isinstance(module, nn.Conv1d):
        nn.init.zeros_(module.weight)
    elif isinstance(module, RelativeProfiles):
        nn.init.normal_(module.proj, std=PROFILE_STD)
    elif isinstance(module, nn.Linear | Router | RoutedExperts | SharedExperts):
        _draw_matrices(module)


def _draw_matrices(module: nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
