"""Training of the mouth alone, from the teacher's phrases: its lengths of symbols and its flow head.

Knows phrases and networks; where phrases come from is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from microturn.interaction_model.native.durations import LONGEST_UNITS, DurationModel, windows
from microturn.interaction_model.native.flow_head import (
    PAST_FRAMES,
    SEEN_FRAMES,
    FlowContext,
    FlowHead,
)
from microturn.interaction_model.native.pronunciation import SILENCE, symbols
from microturn.interaction_model.native.speech_track import SpeechTrack
from microturn.interaction_model.native.vocoder_frames import FRAME_SIZE, Codes, silence
from microturn.interaction_model.training.own_voice import SpokenPhrase

PAST_NOISE = 0.15
"""Standard deviation of what is added to the past, in normalised frames: the mouth's own past has errors too."""
LONGEST_GRADIENT = 1.0
"""Gradients are cut to this norm."""
SMALLEST_SCALE = 0.05
"""Of a number of a frame over all frames: one that hardly moves is not blown up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast is learned. The rate rises over the first steps and falls to 0 along half a cosine."""

    steps: int
    batch: int
    peak_rate: float = 2e-3
    warmup_steps: int = 100

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        rise = min(1.0, (step + 1) / self.warmup_steps)
        return self.peak_rate * rise * 0.5 * (1 + float(np.cos(np.pi * step / self.steps)))


class FrameBank:
    """The frames of all phrases in a row, with silence before and behind each, and what is said in them."""

    def __init__(self, phrases: Sequence[SpokenPhrase]) -> None:
        """Keep the phrases as tensors.

        Raises:
            ValueError: there are no phrases.
        """
        if not phrases:
            raise ValueError("phrases must not be empty: there is nothing to learn from")
        parts = [_padded(phrase) for phrase in phrases]
        self.frames, self.symbols, self.measures = (
            torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*parts, strict=True)
        )
        lengths = np.array([len(frames) for frames, _, _ in parts])
        windows_of = [
            end - length + np.arange(length - SEEN_FRAMES + 1)
            for end, length in zip(np.cumsum(lengths), lengths, strict=True)
        ]
        self._windows = torch.from_numpy(np.concatenate(windows_of))

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each number of a frame over the frames where something is said."""
        said = self.frames[self.symbols[:, 1] != SILENCE]
        return said.mean(0), said.std(0).clamp_min(SMALLEST_SCALE)

    def batch(self, size: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw windows of 24 frames that cross no phrase: frames, symbols and measures."""
        drawn = self._windows[torch.randint(len(self._windows), (size,), generator=random)]
        rows = drawn[:, None] + torch.arange(SEEN_FRAMES)
        return self.frames[rows], self.symbols[rows], self.measures[rows]


def train_flow_head(head: FlowHead, bank: FrameBank, schedule: Schedule, seed: int = 0) -> list[float]:
    """Train the head in place, with a hidden state of zeros, and return the loss of each step."""
    mean, scale = bank.moments()
    head.frame_mean.copy_(mean)
    head.frame_scale.copy_(scale)
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(
        head.parameters(), lr=schedule.peak_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    losses = []
    for step in range(schedule.steps):
        loss = _flow_loss(head, bank.batch(schedule.batch, random), random)
        losses.append(_descend(optimizer, loss, schedule.rate(step)))
    return losses


def train_durations(
    model: DurationModel, phrases: Sequence[SpokenPhrase], schedule: Schedule, seed: int = 0
) -> list[float]:
    """Train the model in place and return the loss of each step. A phrase's last word is left out, as it is drawn out."""
    inputs, targets = duration_examples(phrases)
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.peak_rate, weight_decay=0.01)
    losses = []
    for step in range(schedule.steps):
        rows = torch.randint(len(inputs), (schedule.batch,), generator=random)
        loss = functional.cross_entropy(model(inputs[rows]), targets[rows])
        losses.append(_descend(optimizer, loss, schedule.rate(step)))
    return losses


def duration_examples(phrases: Sequence[SpokenPhrase]) -> tuple[Tensor, Tensor]:
    """Return windows `(N, WINDOW)` and units `(N,)` of all symbols but those of the last words."""
    inputs: list[list[int]] = []
    targets: list[int] = []
    for phrase in phrases:
        before = (SILENCE, SILENCE)
        for word, units in zip(phrase.words[:-1], phrase.units[:-1], strict=True):
            numbers = symbols(word)
            inputs += windows(numbers, before)
            targets += [min(length, LONGEST_UNITS) for length in units]
            before = (numbers[-2], numbers[-1])
    return torch.tensor(inputs), torch.tensor(targets)


def _padded(phrase: SpokenPhrase) -> tuple[Codes, npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """A phrase's frames with silence before and behind, and the symbols and measures of each."""
    _, before = SpeechTrack().advanced(PAST_FRAMES)
    _, own = phrase.track().advanced(len(phrase.frames) + SEEN_FRAMES)
    frames = np.concatenate([silence(PAST_FRAMES), phrase.frames, silence(SEEN_FRAMES)])
    symbols_of = np.concatenate([before.symbols, own.symbols])
    return frames, symbols_of, np.concatenate([before.measures, own.measures])


def _flow_loss(head: FlowHead, batch: tuple[Tensor, Tensor, Tensor], random: torch.Generator) -> Tensor:
    frames, numbers, measures = batch
    frames = head.normalised(frames)
    size = len(frames)
    past, target = frames[:, :PAST_FRAMES], frames[:, PAST_FRAMES:]
    context = FlowContext(
        condition=torch.zeros(size, head.config.condition),
        past=past + PAST_NOISE * torch.randn(past.shape, generator=random),
        symbols=numbers,
        measures=measures,
    )
    noise = torch.randn(size, target.shape[1], FRAME_SIZE, generator=random)
    with torch.autocast("cpu", torch.bfloat16):  # twice as fast as float32
        return head.loss(target, context, noise, torch.rand(size, generator=random))


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor, rate: float) -> float:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, LONGEST_GRADIENT)
    optimizer.step()
    return float(loss.detach())
