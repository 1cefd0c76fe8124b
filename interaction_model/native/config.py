"""Sizes of the native model. The shape is that of the Inkling models (Thinking Machines, transformers 5.23).

Knows numbers only; `presets` has the values.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from microturn.interaction_model.native._errors import BadConfigError

AttentionKind = Literal["sliding", "global"]
MlpKind = Literal["dense", "sparse"]


@dataclass(frozen=True, kw_only=True)
class HeadsConfig:
    """Heads of one kind of attention layer."""

    heads: int
    """H, of queries."""
    groups: int
    """G, of keys and values; divides H."""
    head_dim: int
    """D"""

    def __post_init__(self) -> None:
        _expect_positive("HeadsConfig", heads=self.heads, groups=self.groups, head_dim=self.head_dim)
        if self.heads % self.groups:
            raise BadConfigError(
                "HeadsConfig", "heads", expected=f"a multiple of {self.groups!r} groups", got=self.heads
            )

    @property
    def query_width(self) -> int:
        """H * D."""
        return self.heads * self.head_dim

    @property
    def key_width(self) -> int:
        """G * D."""
        return self.groups * self.head_dim


@dataclass(frozen=True, kw_only=True)
class ExpertsConfig:
    """A mixture of experts with experts that all tokens share."""

    count: int
    """E: routed experts."""
    chosen: int
    """How many of them compute each token."""
    shared: int
    """Experts that compute every token, and take their part of the weights."""
    inner: int
    """Width inside one expert."""
    scale: float = 8.0
    """Factor of all weights (`route_scale`); 8 is Inkling's."""

    def __post_init__(self) -> None:
        _expect_positive(
            "ExpertsConfig", count=self.count, chosen=self.chosen, inner=self.inner, shared=self.shared
        )
        if self.chosen > self.count:
            expected = f"at most the {self.count!r} experts"
            raise BadConfigError("ExpertsConfig", "chosen", expected=expected, got=self.chosen)


@dataclass(frozen=True, kw_only=True)
class LogScaling:
    """Scores of global layers grow with the logarithm of the position, from `floor` tokens on.

    The factor is `1 + alpha * log(max(1, (position + 1) / floor))`; an option of the Inkling models.
    """

    floor: int
    alpha: float = 0.1

    def __post_init__(self) -> None:
        _expect_positive("LogScaling", floor=self.floor)


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Sizes of the transformer."""

    vocabulary: int
    """V: rows of the embedding and of the head."""
    width: int
    """C: of the residual stream."""
    attention: tuple[AttentionKind, ...]
    """The kind of attention of each layer."""
    mlps: tuple[MlpKind, ...]
    """The kind of the second half of each layer."""
    sliding_heads: HeadsConfig
    global_heads: HeadsConfig
    window: int
    """Tokens that a sliding layer sees, itself included; also the reach of its bias."""
    reach: int
    """Distances, in tokens, that the bias of a global layer knows; further ones have the bias 0."""
    profile_rank: int = 16
    """Numbers per head by which a token mixes the profiles of its bias (`d_rel`)."""
    taps: int = 4
    """W: of the short convolutions, the token itself included."""
    inner: int = 0
    """Width inside a dense MLP; may be 0 if every layer is sparse."""
    experts: ExpertsConfig | None = None
    """Needed if a layer is sparse."""
    logits_divisor: float = 1.0
    """Hidden states are divided by it before the head: the width over that of a base model (muP)."""
    eps: float = 1e-6
    """Of every norm."""
    log_scaling: LogScaling | None = None

    def __post_init__(self) -> None:
        _expect_positive(
            "BackboneConfig",
            vocabulary=self.vocabulary,
            width=self.width,
            layers=len(self.attention),
            window=self.window,
            reach=self.reach,
            profile_rank=self.profile_rank,
        )
        self._check_layers()
        if self.taps < 2:
            raise BadConfigError("BackboneConfig", "taps", expected="2 or more", got=self.taps)
        if not self.logits_divisor > 0 or not self.eps > 0:
            got = (self.logits_divisor, self.eps)
            raise BadConfigError("BackboneConfig", "logits_divisor and eps", expected="above 0", got=got)

    def _check_layers(self) -> None:
        if len(self.mlps) != len(self.attention):
            expected = f"one kind for each of {len(self.attention)} layers"
            raise BadConfigError("BackboneConfig", "mlps", expected=expected, got=len(self.mlps))
        for field, kinds, known in (
            ("attention", self.attention, ("sliding", "global")),
            ("mlps", self.mlps, ("dense", "sparse")),
        ):
            unknown = [kind for kind in kinds if kind not in known]
            if unknown:
                raise BadConfigError("BackboneConfig", field, expected=f"of {known!r}", got=unknown[0])
        if "dense" in self.mlps and self.inner < 1:
            raise BadConfigError(
                "BackboneConfig", "inner", expected="above 0 for a dense layer", got=self.inner
            )
        if "sparse" in self.mlps and self.experts is None:
            raise BadConfigError("BackboneConfig", "experts", expected="given for a sparse layer", got=None)

    @property
    def layers(self) -> int:
        """How many there are."""
        return len(self.attention)

    def heads(self, layer: int) -> HeadsConfig:
        """The heads of a layer."""
        return self.sliding_heads if self.attention[layer] == "sliding" else self.global_heads

    def bias_reach(self, layer: int) -> int:
        """How many distances the bias of a layer knows."""
        return self.window if self.attention[layer] == "sliding" else self.reach

    def layer_window(self, layer: int) -> int:
        """How many tokens a layer sees; 0 for all."""
        return self.window if self.attention[layer] == "sliding" else 0


@dataclass(frozen=True, kw_only=True)
class EarsConfig:
    """Sizes of what embeds dMel frames; bins, levels and rates are those of `microturn.kernels.mel_filters`."""

    width: int
    """C: of the backbone."""
    eps: float = 1e-6

    def __post_init__(self) -> None:
        _expect_positive("EarsConfig", width=self.width)


@dataclass(frozen=True, kw_only=True)
class EyesConfig:
    """Sizes of the patch encoder, an hMLP (Touvron et al., "Three things everyone should know about ViT", 2022)."""

    width: int
    """C: of the backbone."""
    patch: int = 40
    """Pixels of a patch's side."""
    frames: int = 2
    """Frames that make one token."""
    layers: int = 4
    channels: tuple[int, ...] = ()
    """Output widths of all layers but the last; empty for Inkling's, which lose nothing (`eyes.plan`)."""
    eps: float = 1e-6

    def __post_init__(self) -> None:
        _expect_positive(
            "EyesConfig", width=self.width, patch=self.patch, frames=self.frames, layers=self.layers
        )
        if self.channels and len(self.channels) != self.layers - 1:
            expected = f"empty or {self.layers - 1} widths"
            raise BadConfigError("EyesConfig", "channels", expected=expected, got=self.channels)
        if any(width < 1 for width in self.channels):
            raise BadConfigError("EyesConfig", "channels", expected="above 0", got=self.channels)


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """A backbone with its ears and eyes."""

    backbone: BackboneConfig
    ears: EarsConfig
    eyes: EyesConfig

    def __post_init__(self) -> None:
        widths = (self.backbone.width, self.ears.width, self.eyes.width)
        if any(left != right for left, right in pairwise(widths)):
            expected = "the same for backbone, ears and eyes"
            raise BadConfigError("NetworkConfig", "width", expected=expected, got=widths)


def _expect_positive(config: str, **sizes: int) -> None:
    for field, size in sizes.items():
        if size < 1:
            raise BadConfigError(config, field, expected="1 or more", got=size)
