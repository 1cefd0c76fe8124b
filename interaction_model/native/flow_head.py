"""The flow head: draws the 16 frames of a micro-turn from noise, by a few Euler steps along a learned vector field.

It sees the last frames that were drawn, so that speech goes on without a seam, what is spoken in each frame, and the
backbone's hidden state. A small network over 24 frames: in each block a short convolution over time, then a gated
MLP, both behind a norm that the flow's time and the hidden state scale and shift.

Source: flow matching with optimal-transport paths (Lipman et al., 2022); adaptive norms as in DiT (Peebles and Xie,
2022). The sizes are our choice. Training computes in plain PyTorch with gradients, serving with batch-invariant
operators; `FlowMath` is what differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from microturn.interaction_model.native.pronunciation import ALPHABET
from microturn.interaction_model.native.speech_track import MEASURES, NEIGHBOURS
from microturn.interaction_model.native.vocoder_frames import FRAME_SIZE, TURN_FRAMES
from microturn.kernels.ops.activation import silu, swiglu
from microturn.kernels.ops.flow import flow_step
from microturn.kernels.ops.linear import linear
from microturn.kernels.ops.norm import adaptive_rms_norm

PAST_FRAMES = 8
"""Frames drawn before that the head sees, 100 ms."""
SEEN_FRAMES = PAST_FRAMES + TURN_FRAMES
SMALLEST_NOISE = 1e-4
"""What is left of the noise at the end of a path. Source: the paper's sigma_min; the value is our choice."""
_EPS = 1e-6
_LONGEST_PERIOD = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowHeadConfig:
    """Sizes of the head."""

    condition: int
    """C of the backbone's hidden state."""
    width: int = 160
    inner: int = 320
    """Width inside the gated MLP."""
    blocks: int = 4
    reach: int = 3
    """Frames that a convolution sees on either side."""
    symbol: int = 32
    """Width of the embedding of one symbol."""
    time: int = 128
    """Width of the embedding of the flow's time."""


@dataclass(frozen=True, slots=True)
class FlowMath:
    """The operators that the head is computed with."""

    linear: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    adaptive_norm: Callable[[Tensor, Tensor, Tensor, float], Tensor]
    silu: Callable[[Tensor], Tensor]
    swiglu: Callable[[Tensor], Tensor]


def _plain_adaptive_norm(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    wide = x.float()
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (normed * (1 + scale) + shift).to(x.dtype)


def _plain_swiglu(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, -1)
    return functional.silu(gate) * up


TRAINING_MATH = FlowMath(functional.linear, _plain_adaptive_norm, functional.silu, _plain_swiglu)
SERVING_MATH = FlowMath(linear, adaptive_rms_norm, silu, swiglu)


@dataclass(frozen=True, slots=True)
class FlowContext:
    """What the frames to be drawn depend on."""

    condition: Tensor
    """`(B, C)`, the backbone's hidden state at the end of the micro-turn."""
    past: Tensor
    """`(B, 8, 48)`, normalised frames drawn before."""
    symbols: Tensor
    """`(B, 24, NEIGHBOURS)` int64, of the past and of the new frames."""
    measures: Tensor
    """`(B, 24, MEASURES)`"""


class FlowHead(nn.Module):
    """The vector field over normalised frames, and the ways to train it and to draw from it."""

    def __init__(self, config: FlowHeadConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.frame_mean = nn.Buffer(torch.zeros(FRAME_SIZE))
        self.frame_scale = nn.Buffer(torch.ones(FRAME_SIZE))
        self.symbols = nn.Embedding(len(ALPHABET) + 1, config.symbol)
        self.states = nn.Linear(NEIGHBOURS * config.symbol + MEASURES, width)
        self.past = nn.Linear(FRAME_SIZE, width)
        self.noisy = nn.Linear(FRAME_SIZE, width)
        self.time = nn.Linear(config.time, config.time)
        self.condition = nn.Linear(config.condition, config.time, bias=False)
        self.modulation = nn.Linear(config.time, config.blocks * 4 * width)
        self.blocks = nn.ModuleList(FlowBlock(config) for _ in range(config.blocks))
        self.velocity = nn.Linear(width, FRAME_SIZE)
        nn.init.zeros_(self.velocity.weight)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(
            self.condition.weight
        )  # a head that was trained without a backbone ignores hidden states

    def normalised(self, frames: Tensor) -> Tensor:
        """`(..., 48)` -> the same with mean 0 and variance 1 over the training data."""
        return (frames - self.frame_mean) / self.frame_scale

    def restored(self, frames: Tensor) -> Tensor:
        """The inverse of `normalised`."""
        return frames * self.frame_scale + self.frame_mean

    def loss(self, target: Tensor, context: FlowContext, noise: Tensor, time: Tensor) -> Tensor:
        """Conditional flow matching: the mean squared error of the velocity, a scalar.

        Args:
            target: `(B, 16, 48)`, normalised frames.
            noise: `(B, 16, 48)`, standard normal.
            time: `(B,)` in [0, 1]: 0 is noise, 1 is data.
        """
        at = time[:, None, None]
        point = (1 - (1 - SMALLEST_NOISE) * at) * noise + at * target
        drift = target - (1 - SMALLEST_NOISE) * noise
        entered = self._entered(context, TRAINING_MATH)
        found = self._velocity(point, time, context, entered, TRAINING_MATH)
        return functional.mse_loss(found.float(), drift)

    @torch.no_grad()
    def draw(self, context: FlowContext, noise: Tensor, steps: int, math: FlowMath = SERVING_MATH) -> Tensor:
        """Return normalised frames, `(B, 16, 48)`: `steps` Euler steps from `noise` of that shape."""
        entered = self._entered(context, math)
        point = noise
        for step in range(steps):
            time = torch.full((len(noise),), step / steps, device=noise.device)
            point = flow_step(point, self._velocity(point, time, context, entered, math), 1 / steps)
        return point

    def _entered(self, context: FlowContext, math: FlowMath) -> Tensor:
        """What enters the blocks whatever the flow's time, `(B, 24, width)`."""
        near = self.symbols(context.symbols).flatten(2)
        states = _apply(math, self.states, torch.cat([near, context.measures], -1))
        past = _apply(math, self.past, context.past)
        return states + functional.pad(past, (0, 0, 0, TURN_FRAMES))

    def _velocity(
        self, point: Tensor, time: Tensor, context: FlowContext, entered: Tensor, math: FlowMath
    ) -> Tensor:
        noisy = _apply(math, self.noisy, point)
        x = entered + functional.pad(noisy, (0, 0, PAST_FRAMES, 0))
        when = _apply(math, self.time, self._clock(time)) + math.linear(
            context.condition, self.condition.weight, None
        )
        modulation = _apply(math, self.modulation, math.silu(when))
        for block, own in zip(self.blocks, modulation.chunk(len(self.blocks), -1), strict=True):
            x = block(x, own, math)
        return _apply(math, self.velocity, x[:, PAST_FRAMES:])

    def _clock(self, time: Tensor) -> Tensor:
        """Sines and cosines of the flow's time, `(B,)` -> `(B, time)`."""
        half = self.config.time // 2
        periods = torch.logspace(0, 1, half, base=_LONGEST_PERIOD, device=time.device)
        angle = time[:, None] * periods
        return torch.cat([angle.sin(), angle.cos()], -1)


class FlowBlock(nn.Module):
    """A depthwise convolution over frames and a gated MLP, each with its residual."""

    def __init__(self, config: FlowHeadConfig) -> None:
        super().__init__()
        width, taps = config.width, 2 * config.reach + 1
        self.reach = config.reach
        self.taps = nn.Parameter(torch.randn(taps, width) / taps**0.5)
        self.mix = nn.Linear(width, width)
        self.gate_up = nn.Linear(width, 2 * config.inner)
        self.down = nn.Linear(config.inner, width)

    def forward(self, x: Tensor, modulation: Tensor, math: FlowMath) -> Tensor:
        """`(B, 24, width)` and `(B, 4 * width)` -> `(B, 24, width)`."""
        shift, scale, inner_shift, inner_scale = modulation[:, None].chunk(4, -1)
        x = x + _apply(math, self.mix, self._convolved(_adapted(math, x, shift, scale)))
        gate_up = _apply(math, self.gate_up, _adapted(math, x, inner_shift, inner_scale))
        return x + _apply(math, self.down, math.swiglu(gate_up))

    def _convolved(self, x: Tensor) -> Tensor:
        """A sum of shifted copies: elementwise, so that a row's bits depend on that row alone."""
        padded = functional.pad(x, (0, 0, self.reach, self.reach))
        frames = x.shape[1]
        total = padded[:, :frames] * self.taps[0]
        for tap in range(1, len(self.taps)):
            total = total + padded[:, tap : tap + frames] * self.taps[tap]
        return total


def _apply(math: FlowMath, layer: nn.Linear, x: Tensor) -> Tensor:
    return math.linear(x, layer.weight, layer.bias)


def _adapted(math: FlowMath, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """The adaptive norm of `(B, 24, width)` by `(B, 1, width)`."""
    rows = x.reshape(-1, x.shape[-1])
    shifts, scales = (number.expand_as(x).reshape(rows.shape) for number in (shift, scale))
    return math.adaptive_norm(rows, shifts, scales, _EPS).view(x.shape)
