"""Sizes that are known to make sense, from what two CPU cores serve on the beat to the shape of Inkling-Small.

Which layers are global: every sixth, as in the Inkling models, but in models of fewer than twelve layers every third, so
that something can still be done with what a global layer found. Our choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from microturn.interaction_model.native._errors import BadConfigError
from microturn.interaction_model.native.config import (
    AttentionKind,
    BackboneConfig,
    EarsConfig,
    ExpertsConfig,
    EyesConfig,
    HeadsConfig,
    MlpKind,
    NetworkConfig,
)
from microturn.interaction_model.native.vocabulary import SIZE

_BASE_WIDTH = 256
"""The width at which logits are not divided; Inkling's divisor of 24 at a width of 6,144 names the same one."""


def _nano(experts: ExpertsConfig | None = None) -> NetworkConfig:
    """6 M parameters: 25 positions a second and up to 8 outputs a micro-turn on one CPU core."""
    return _network(
        width=256,
        layers=6,
        heads=HeadsConfig(heads=4, groups=2, head_dim=64),
        inner=704,
        window=128,
        reach=512,
        eye_channels=(32, 64, 256),
        experts=experts,
    )


def _nano_experts() -> NetworkConfig:
    """The nano with 8 experts in most layers: 11 M parameters, of which a token uses as many as in the nano."""
    return _nano(ExpertsConfig(count=8, chosen=2, shared=1, inner=232, scale=3.0))


def _small() -> NetworkConfig:
    """83 M parameters: one consumer GPU, or a fast desktop processor."""
    return _network(
        width=768,
        layers=12,
        heads=HeadsConfig(heads=12, groups=4, head_dim=64),
        inner=2048,
        window=256,
        reach=1024,
        eye_channels=(64, 128, 768),
    )


def _medium() -> NetworkConfig:
    """2.9 B parameters, 0.6 B of them active: one data-centre GPU."""
    return _network(
        width=1536,
        layers=24,
        heads=HeadsConfig(heads=12, groups=4, head_dim=128),
        inner=4096,
        window=512,
        reach=1024,
        eye_channels=(128, 320, 2048),
        experts=ExpertsConfig(count=32, chosen=4, shared=1, inner=768),
    )


def _small_276b_a12b() -> NetworkConfig:
    """The shape published for Inkling-Small, which is that of the interaction model of the same lab.

    Width, layers, heads, experts, vocabulary and window are as published; every layer is sparse, and the reach of the
    global bias is the default of transformers.
    """
    return _network(
        width=4096,
        layers=42,
        heads=HeadsConfig(heads=32, groups=8, head_dim=128),
        inner=0,
        window=512,
        reach=1024,
        eye_channels=(),
        experts=ExpertsConfig(count=256, chosen=6, shared=2, inner=2048),
        vocabulary=201_024,
    )


_PRESETS: dict[str, Callable[[], NetworkConfig]] = {
    "nano": _nano,
    "nano-experts": _nano_experts,
    "small": _small,
    "medium": _medium,
    "small-276b-a12b": _small_276b_a12b,
}
PRESETS: Mapping[str, Callable[[], NetworkConfig]] = MappingProxyType(_PRESETS)
"""Makers of sizes by name, smallest first."""


def preset(name: str) -> NetworkConfig:
    """The sizes of that name.

    Raises:
        BadConfigError: there is no such preset.
    """
    if name not in PRESETS:
        raise BadConfigError("preset", "name", expected=f"one of {', '.join(PRESETS)}", got=name)
    return PRESETS[name]()


def _network(
    *,
    width: int,
    layers: int,
    heads: HeadsConfig,
    inner: int,
    window: int,
    reach: int,
    eye_channels: tuple[int, ...],
    experts: ExpertsConfig | None = None,
    vocabulary: int = SIZE,
) -> NetworkConfig:
    every = 6 if layers >= 12 else 3
    attention: list[AttentionKind] = [
        "sliding" if (layer + 1) % every else "global" for layer in range(layers)
    ]
    backbone = BackboneConfig(
        vocabulary=vocabulary,
        width=width,
        attention=tuple(attention),
        mlps=_mlps(layers, inner, experts),
        sliding_heads=heads,
        global_heads=heads,
        window=window,
        reach=reach,
        inner=inner,
        experts=experts,
        logits_divisor=width / _BASE_WIDTH,
    )
    eyes = EyesConfig(width=width, channels=eye_channels)
    return NetworkConfig(backbone=backbone, ears=EarsConfig(width=width), eyes=eyes)


def _mlps(layers: int, inner: int, experts: ExpertsConfig | None) -> tuple[MlpKind, ...]:
    """Sparse where there are experts, but for a dense first layer where it has a width."""
    first: MlpKind = "dense" if inner else "sparse"
    rest: MlpKind = "dense" if experts is None else "sparse"
    return (first, *(rest,) * (layers - 1))
