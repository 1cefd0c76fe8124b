"""The sizes that are measured: those of Inkling-Small, and of small models that a CPU can run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerShape:
    """One decoder layer with a mixture of experts."""

    name: str
    width: int
    """C."""
    heads: int
    """H."""
    kv_heads: int
    """G."""
    head_dim: int
    """D."""
    experts: int
    """E, routed."""
    shared: int
    """Experts that every token visits."""
    top_k: int
    """K, routed experts per token."""
    expert_width: int
    """I."""
    relative: int = 0
    """Relative-position features per head; 0 for none."""
    window: int = 0
    """Keys that a sliding layer sees; 0 for all."""
    conv: int = 4
    """Taps of the short convolutions."""

    @property
    def qkv_width(self) -> int:
        """Outputs of the linear that makes q, k, v and the relative features together."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim + self.heads * self.relative

    @property
    def kv_width(self) -> int:
        """G*D."""
        return self.kv_heads * self.head_dim

    @property
    def expert_parameters(self) -> int:
        """Weights of one expert: gate, up and down."""
        return 3 * self.width * self.expert_width


INKLING_SMALL = LayerShape("Inkling-Small", 4096, 32, 8, 128, 256, 2, 6, 2048, relative=16, window=512)
"""Source: the open Inkling-Small's published sizes; the window is transformers' default for the family."""
INKLING_VOCABULARY = 201_024

NANO = LayerShape("nano", 256, 4, 1, 64, 8, 1, 2, 256)
MEDIUM = LayerShape("medium", 1024, 16, 4, 64, 16, 1, 2, 1024)
"""Nano and medium: our choices, a layer that one core runs in well under, and in about, a millisecond."""
TINY = LayerShape("tiny", 64, 4, 2, 16, 4, 1, 2, 32, relative=16, window=32)
"""For a dry run and for tests: every part of a layer, nothing large."""

SKINNY = ((12288, 2048), (4096, 4096), (6656, 4096))
"""(N, K) of linears that decode one token; the first is one that others publish figures for."""

CENSUS = (
    *SKINNY,
    (4096, 2048),
    (4096, 1024),
    (1024, 4096),
    (2048, 512),
    (1536, 512),
    (3072, 768),
    (8192, 8192),
    (258, 4096),
    (INKLING_VOCABULARY, 4096),
)
"""Twelve (N, K) that tell apart the ways a matrix library picks kernels: wide, narrow, square, odd, huge."""

CPU_LINEARS = ((1536, 512), (512, 2048), (4096, 1024))
"""(N, K) of the linears of small models."""
