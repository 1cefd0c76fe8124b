"""Which layer of the patch encoder folds how many pixels into one place, and how wide it is.

The plan is that of the Inkling models, found again from its rule: pixels are folded by the prime factors of the patch's
side, the largest first, then frames by theirs; a place gets as many channels as it holds numbers, rounded up to 64, so
that nothing is lost. With fewer layers than such steps, those steps are kept that come nearest to an even growth of
the logarithm of the number of places folded into one.

One thing differs: a layer in the middle that has folded frames already gets 64 times as many channels as its places
hold numbers in transformers 5.23, and not here. Inkling's own plan has no such layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate, combinations, pairwise
from operator import mul

from microturn.interaction_model.native.config import EyesConfig

COLOURS = 3
CHANNEL_QUANTUM = 64


@dataclass(frozen=True)
class Scale:
    """How much of a patch one place holds between two layers."""

    frames: int
    side: int
    """Pixels in each direction."""
    channels: int

    @property
    def places(self) -> int:
        """Places of the input that it holds."""
        return self.frames * self.side**2


@dataclass(frozen=True)
class Fold:
    """One layer of the encoder."""

    frames: int
    """Places in time folded into one."""
    side: int
    """Places in each direction folded into one."""
    inputs: int
    outputs: int


def plan(config: EyesConfig) -> tuple[Fold, ...]:
    """The layers of the patch encoder, first to last; the last one has the width of the backbone."""
    scales = _chosen(_scales(config.patch, config.frames), config.layers)
    widths = config.channels or tuple(scale.channels for scale in scales[1:-1])
    channels = [COLOURS, *widths, config.width]
    return tuple(
        Fold(
            frames=after.frames // before.frames,
            side=after.side // before.side,
            inputs=channels[layer] * after.places // before.places,
            outputs=channels[layer + 1],
        )
        for layer, (before, after) in enumerate(pairwise(scales))
    )


def _scales(patch: int, frames: int) -> list[Scale]:
    """Every step from a pixel to the whole patch."""
    sides = list(accumulate(_prime_factors(patch), mul))
    spans = list(accumulate(_prime_factors(frames), mul))
    spatial = [Scale(1, side, _rounded_up(side**2 * COLOURS)) for side in sides]
    temporal = [Scale(span, patch, patch**2 * COLOURS * span) for span in spans]
    return [Scale(1, 1, COLOURS), *spatial, *temporal]


def _chosen(scales: list[Scale], layers: int) -> list[Scale]:
    """The `layers + 1` scales that grow most evenly; the first and the last are always among them."""
    goals = [math.log(scales[-1].places * COLOURS) * step / layers for step in range(layers + 1)]
    sizes = [math.log(scale.places) for scale in scales]
    if layers >= len(scales):
        nearest = [min(range(len(scales)), key=lambda n: abs(goal - sizes[n])) for goal in goals]
        return [scales[n] for n in (0, *nearest[1:-1], len(scales) - 1)]
    # Scales and goals both ascend, so the best assignment ascends too, and few enough are possible to try them all.
    found = min(
        combinations(range(len(scales)), layers + 1),
        key=lambda picked: sum(abs(goal - sizes[n]) for goal, n in zip(goals, picked, strict=True)),
    )
    return [scales[n] for n in found]


def _prime_factors(number: int) -> list[int]:
    """Largest first."""
    factors = []
    divisor = 2
    while number > 1:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return factors[::-1]


def _rounded_up(channels: int) -> int:
    return -(-channels // CHANNEL_QUANTUM) * CHANNEL_QUANTUM
