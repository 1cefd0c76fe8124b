"""Small backbones that between them have every kind of layer and no two sizes alike."""

from __future__ import annotations

import itertools
from typing import Literal

import torch

from microturn.interaction_model.native.backbone import Backbone
from microturn.interaction_model.native.config import (
    BackboneConfig,
    EarsConfig,
    ExpertsConfig,
    EyesConfig,
    HeadsConfig,
    LogScaling,
    NetworkConfig,
)
from tests.interaction_model.native.inkling import draw

DENSE = BackboneConfig(
    vocabulary=41,
    width=48,
    attention=("sliding", "global", "sliding"),
    mlps=("dense", "dense", "dense"),
    sliding_heads=HeadsConfig(heads=6, groups=2, head_dim=8),
    global_heads=HeadsConfig(heads=4, groups=4, head_dim=16),
    window=12,
    reach=20,
    profile_rank=5,
    inner=72,
    logits_divisor=1.5,
)
SPARSE = BackboneConfig(
    vocabulary=41,
    width=48,
    attention=("global", "sliding", "global"),
    mlps=("dense", "sparse", "sparse"),
    sliding_heads=HeadsConfig(heads=3, groups=1, head_dim=16),
    global_heads=HeadsConfig(heads=6, groups=2, head_dim=8),
    window=7,
    reach=5,
    profile_rank=3,
    taps=3,
    inner=33,
    experts=ExpertsConfig(count=6, chosen=2, shared=2, inner=20, scale=2.5),
    log_scaling=LogScaling(floor=9, alpha=0.3),
)
CONFIGS = {"dense": DENSE, "sparse": SPARSE}
Name = Literal["dense", "sparse"]


def small_backbone(config: BackboneConfig, dtype: torch.dtype = torch.float32, seed: int = 1) -> Backbone:
    """A backbone with random weights."""
    backbone = Backbone(config).to(dtype)
    draw(backbone, seed)
    return backbone


def small_network_config(config: BackboneConfig) -> NetworkConfig:
    """The backbone with ears and eyes."""
    eyes = EyesConfig(width=config.width, patch=4, layers=2, channels=(10,))
    return NetworkConfig(backbone=config, ears=EarsConfig(width=config.width), eyes=eyes)


def random_embeddings(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """Embeddings of about unit size."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def cuts(total: int, sizes: tuple[int, ...]) -> list[int]:
    """Cut a number into the given sizes over and over, the last one being what is left."""
    parts: list[int] = []
    for size in itertools.cycle(sizes):
        if sum(parts) == total:
            return parts
        parts.append(min(size, total - sum(parts)))
    return parts
