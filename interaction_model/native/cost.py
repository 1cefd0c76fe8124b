"""What a network costs by formula: parameters, and work and memory traffic for every micro-turn."""

from __future__ import annotations

from dataclasses import dataclass

from microturn.interaction_model.native.clock import FACES
from microturn.interaction_model.native.config import BackboneConfig, ExpertsConfig, NetworkConfig
from microturn.interaction_model.native.eye_plan import plan
from microturn.interaction_model.native.grammar import CLOCK_PERIODS
from microturn.kernels.mel_filters import LEVELS, MEL_BINS


@dataclass(frozen=True)
class Parameters:
    """How many numbers are trained."""

    total: int
    active: int
    """Those that one text token uses: of the experts the chosen and shared ones; of the embedding one row."""


@dataclass(frozen=True)
class TurnCost:
    """One micro-turn of one session."""

    positions: int
    """Tokens computed: those that arrived and those that were emitted."""
    steps: int
    """Passes over the weights: one for what arrived, one for each emitted token."""
    flops: float
    """Floating-point operations, a multiplication and an addition counting as two."""
    weight_bytes: float
    """Read of the weights."""
    cache_bytes: float
    """Read of keys and values."""


def count_parameters(config: NetworkConfig) -> Parameters:
    """Count all parameters of `network.Network`, ears and eyes included."""
    backbone = config.backbone
    width, rows = backbone.width, backbone.vocabulary * backbone.width
    layers = [count_layer(backbone, layer) for layer in range(backbone.layers)]
    head_and_norms = rows + 2 * width
    senses = _ears(config) + _eyes(config) + FACES * 2 * len(CLOCK_PERIODS) * width
    return Parameters(
        total=sum(layer.total for layer in layers) + head_and_norms + rows + senses,
        active=sum(layer.active for layer in layers) + head_and_norms + width,
    )


def count_layer(config: BackboneConfig, layer: int) -> Parameters:
    """Count the parameters of one layer."""
    heads, width = config.heads(layer), config.width
    attention = width * (2 * heads.query_width + 2 * heads.key_width + heads.heads * config.profile_rank)
    attention += 2 * heads.key_width * config.taps + 2 * heads.head_dim
    attention += config.profile_rank * config.bias_reach(layer)
    around = 2 * width + 2 * width * config.taps
    if config.mlps[layer] == "dense":
        total = attention + around + 3 * width * config.inner + 1
        return Parameters(total, total)
    assert config.experts is not None
    each = 3 * width * config.experts.inner
    router = (config.experts.count + config.experts.shared) * width + 1
    used = config.experts.chosen + config.experts.shared
    return Parameters(
        total=attention + around + router + (config.experts.count + config.experts.shared) * each,
        active=attention + around + router + used * each,
    )


def turn_cost(
    config: NetworkConfig, *, inputs: int, outputs: int, patches: int, context: int, weight_bytes: float = 2.0
) -> TurnCost:
    """What one micro-turn of one session costs by itself.

    Args:
        config: sizes of the network.
        inputs: positions that arrive at once: 5 for sound alone, patches and text besides.
        outputs: tokens emitted one after the other.
        patches: how many of the inputs the eyes make.
        context: tokens in the session before.
        weight_bytes: of one parameter, and of one number of keys and values.
    """
    backbone = config.backbone
    positions, steps = inputs + outputs, 1 + outputs
    matrices = sum(count_layer(backbone, layer).active for layer in range(backbone.layers))
    head = backbone.vocabulary * backbone.width
    seen = [_seen(backbone, layer, context) for layer in range(backbone.layers)]
    scores = sum(
        4 * backbone.heads(layer).query_width * length + 2 * _bias_work(backbone, layer)
        for layer, length in enumerate(seen)
    )
    cache = sum(2 * backbone.heads(layer).key_width * length for layer, length in enumerate(seen))
    at_once = sum(_layer_read(backbone, layer, inputs) for layer in range(backbone.layers))
    read = at_once + outputs * matrices + steps * head
    return TurnCost(
        positions=positions,
        steps=steps,
        flops=float(positions * (2 * matrices + scores) + 2 * steps * head + patches * eye_flops(config)),
        weight_bytes=read * weight_bytes,
        cache_bytes=steps * cache * weight_bytes,
    )


def distinct_experts(config: ExpertsConfig, tokens: int) -> float:
    """How many routed experts that many tokens choose between them, were each choice even and independent."""
    return config.count * (1 - (1 - config.chosen / config.count) ** tokens)


def eye_flops(config: NetworkConfig) -> int:
    """Operations of the eyes for one patch."""
    frames, side = config.eyes.frames, config.eyes.patch
    flops = 0
    for fold in plan(config.eyes):
        frames, side = frames // fold.frames, side // fold.side
        flops += 2 * frames * side**2 * fold.inputs * fold.outputs
    return flops


def _layer_read(config: BackboneConfig, layer: int, tokens: int) -> float:
    """Parameters of a layer that one pass over so many tokens reads."""
    counted = count_layer(config, layer)
    if config.mlps[layer] == "dense":
        return counted.total
    assert config.experts is not None
    each = 3 * config.width * config.experts.inner
    return counted.active + (distinct_experts(config.experts, tokens) - config.experts.chosen) * each


def _seen(config: BackboneConfig, layer: int, context: int) -> int:
    window = config.layer_window(layer)
    return min(context, window) if window else context


def _bias_work(config: BackboneConfig, layer: int) -> int:
    return config.heads(layer).heads * config.profile_rank * config.bias_reach(layer)


def _ears(config: NetworkConfig) -> int:
    return (MEL_BINS * LEVELS + 1) * config.ears.width


def _eyes(config: NetworkConfig) -> int:
    folds = plan(config.eyes)
    norms = sum(fold.outputs for fold in folds[:-1]) + config.eyes.width
    return sum(fold.inputs * fold.outputs for fold in folds) + norms
