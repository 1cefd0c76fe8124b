"""What a GPU must hold to serve a network, by formula: weights, keys and values, and what lives during one step.

Tensor parallelism cuts heads, MLPs, experts and the vocabulary; the small rest is on every GPU. Sequence parallelism cuts
the tokens: each GPU keeps its part of every session's keys and values, and computes its part of a step's tokens. With a
group on fewer GPUs than heads of keys there are, keys and values are held more than once, as one head cannot be cut.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

from microturn.interaction_model.native._errors import BadConfigError
from microturn.interaction_model.native.config import BackboneConfig, HeadsConfig, NetworkConfig
from microturn.interaction_model.native.cost import count_parameters

SILENT_TOKENS_PER_HOUR = 25 * 3600
"""Positions of a session that hears and says nothing: five for each of five micro-turns a second."""
_FLOAT32_BYTES = 4
_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How a network is laid over GPUs."""

    tensor: int = 1
    """GPUs that share each matrix."""
    sequence: int = 1
    """Groups of such GPUs that share the tokens."""

    def __post_init__(self) -> None:
        if self.tensor < 1 or self.sequence < 1:
            got = (self.tensor, self.sequence)
            raise BadConfigError("Placement", "tensor and sequence", expected="1 or more", got=got)

    @property
    def gpus(self) -> int:
        """N"""
        return self.tensor * self.sequence


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Bytes on one GPU."""

    placement: Placement
    weight_bytes: int
    session_bytes: int
    """Of one session without tokens' end: the windows of sliding layers and the short convolutions' inputs."""
    hour_bytes: int
    """What one session adds in the global layers with every hour."""
    activation_bytes: int
    """What lives at once in the widest moment of one step."""

    def session_hours(self, gpu_bytes: int) -> float:
        """How many hours all sessions together can hold on GPUs of that size; 0 if not even the weights fit.

        Sessions are taken to be an hour long; longer ones share the part that does not grow, and need a little less.
        """
        free = gpu_bytes - self.weight_bytes - self.activation_bytes
        return max(0.0, free / (self.session_bytes + self.hour_bytes))


def plan_memory(
    config: NetworkConfig,
    placement: Placement,
    *,
    step_tokens: int,
    step_sessions: int,
    tokens_per_hour: int = SILENT_TOKENS_PER_HOUR,
    number_bytes: int = 2,
) -> MemoryPlan:
    """Plan one GPU.

    Args:
        config: sizes of the network.
        placement: how it is laid out.
        step_tokens: tokens computed at once, of all sessions together.
        step_sessions: sessions in a step; each has one row of logits, in float32.
        tokens_per_hour: of one session.
        number_bytes: of one weight, and of one number of keys, values and activations.

    Raises:
        BadConfigError: heads or widths cannot be cut into so many parts.
    """
    backbone = config.backbone
    _expect_divisible(backbone, placement.tensor)
    layers = range(backbone.layers)
    return MemoryPlan(
        placement=placement,
        weight_bytes=number_bytes * _weights(config, placement.tensor),
        session_bytes=number_bytes * sum(_fixed(backbone, layer, placement) for layer in layers),
        hour_bytes=number_bytes
        * sum(
            _per_token(backbone, layer, placement.tensor) * _ceil(tokens_per_hour, placement.sequence)
            for layer in layers
            if not backbone.layer_window(layer)
        ),
        activation_bytes=_activations(backbone, placement, step_tokens, step_sessions, number_bytes),
    )


def write_table(
    config: NetworkConfig,
    placements: Iterable[Placement],
    *,
    gpu_bytes: int,
    step_tokens: int,
    step_sessions: int,
    out: TextIO | None = None,
) -> None:
    """Write one line for each placement, in GiB, and how many session-hours fit; to standard output by default."""
    stream = out or sys.stdout
    header = ("GPUs", "tensor", "sequence", "weights", "session", "hour", "step", "session-hours")
    stream.write("  ".join(f"{name:>13}" for name in header) + "\n")
    for placement in placements:
        plan = plan_memory(config, placement, step_tokens=step_tokens, step_sessions=step_sessions)
        parts = (plan.weight_bytes, plan.session_bytes, plan.hour_bytes, plan.activation_bytes)
        cells = [
            *(str(size) for size in (placement.gpus, placement.tensor, placement.sequence)),
            *(f"{part / _GIB:.3f}" for part in parts),
            f"{plan.session_hours(gpu_bytes):.1f}",
        ]
        stream.write("  ".join(f"{cell:>13}" for cell in cells) + "\n")


def _weights(config: NetworkConfig, tensor: int) -> int:
    """Parameters on one GPU: everything, less what the other GPUs of the group hold."""
    backbone = config.backbone
    whole = count_parameters(config).total
    elsewhere = 2 * (backbone.vocabulary - _ceil(backbone.vocabulary, tensor)) * backbone.width
    elsewhere += sum(_elsewhere(backbone, layer, tensor) for layer in range(backbone.layers))
    return whole - elsewhere


def _elsewhere(config: BackboneConfig, layer: int, tensor: int) -> int:
    """Parameters of a layer that are on other GPUs of the group only."""
    heads, width = config.heads(layer), config.width
    queries = heads.heads - heads.heads // tensor
    groups = heads.groups - _groups_here(heads, tensor)
    attention = queries * (2 * width * heads.head_dim + width * config.profile_rank)
    attention += groups * heads.head_dim * 2 * (width + config.taps)
    if config.mlps[layer] == "dense":
        return attention + 3 * width * (config.inner - config.inner // tensor)
    assert config.experts is not None
    experts = config.experts
    each = 3 * width * (experts.inner - experts.inner // tensor)
    return attention + (experts.count + experts.shared) * each


def _per_token(config: BackboneConfig, layer: int, tensor: int) -> int:
    """Numbers of keys and values of one token on one GPU."""
    heads = config.heads(layer)
    return 2 * _groups_here(heads, tensor) * heads.head_dim


def _fixed(config: BackboneConfig, layer: int, placement: Placement) -> int:
    """Numbers that a session of any length holds in a layer."""
    convolutions = (config.taps - 1) * (_per_token(config, layer, placement.tensor) + 2 * config.width)
    window = _ceil(config.layer_window(layer), placement.sequence)
    return convolutions + window * _per_token(config, layer, placement.tensor)


def _activations(
    config: BackboneConfig, placement: Placement, step_tokens: int, step_sessions: int, number_bytes: int
) -> int:
    """The residual stream and a branch, and beside them the widest of attention, MLP and logits."""
    tokens = _ceil(step_tokens, placement.sequence)
    widest = max(_widest(config, layer, placement.tensor) for layer in range(config.layers))
    sessions = _ceil(step_sessions, placement.sequence)
    logits = sessions * _ceil(config.vocabulary, placement.tensor) * _FLOAT32_BYTES
    return 2 * tokens * config.width * number_bytes + max(tokens * widest * number_bytes, logits)


def _widest(config: BackboneConfig, layer: int, tensor: int) -> int:
    """Numbers of one token that live at once in the widest moment of a layer."""
    heads = config.heads(layer)
    queries = heads.heads // tensor
    attention = queries * (2 * heads.head_dim + config.profile_rank + config.bias_reach(layer))
    attention += _per_token(config, layer, tensor)
    if config.mlps[layer] == "dense":
        return max(attention, 3 * (config.inner // tensor))
    assert config.experts is not None
    slots = config.experts.chosen + config.experts.shared
    return max(attention, slots * (3 * (config.experts.inner // tensor) + config.width))


def _groups_here(heads: HeadsConfig, tensor: int) -> int:
    return _ceil(heads.groups, tensor)


def _expect_divisible(config: BackboneConfig, tensor: int) -> None:
    sizes = {
        "heads of sliding layers": config.sliding_heads.heads,
        "heads of global layers": config.global_heads.heads,
    }
    if "dense" in config.mlps:
        sizes["inner"] = config.inner
    if config.experts is not None:
        sizes["inner of experts"] = config.experts.inner
    for field, size in sizes.items():
        if size % tensor:
            raise BadConfigError("Placement", field, expected=f"a multiple of {tensor} GPUs", got=size)


def _ceil(number: int, parts: int) -> int:
    return -(-number // parts)
