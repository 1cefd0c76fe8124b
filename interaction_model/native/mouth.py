"""The mouth: words that the backbone begins to say become the coded frames of the next 200 ms.

A word is looked up, its symbols get their lengths, and they wait in a track; the flow head draws the frames of what
the track holds for this micro-turn. The renderer makes sound of them. Many sessions at once; the bits of a session do
not depend on the others, nor on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from microturn.interaction_model.native.durations import DurationModel
from microturn.interaction_model.native.flow_head import (
    PAST_FRAMES,
    SERVING_MATH,
    FlowContext,
    FlowHead,
    FlowHeadConfig,
    FlowMath,
)
from microturn.interaction_model.native.pronunciation import SILENCE, symbols
from microturn.interaction_model.native.speech_track import UNIT_FRAMES, FrameStates, SpeechTrack
from microturn.interaction_model.native.vocoder_frames import FRAME_SIZE, TURN_FRAMES, silence
from microturn.kernels.cpu.sampling import sampling_hash

STEPS = 4
"""Euler steps of one micro-turn."""
_SEED_MARK = 0x6D6F757468
"""Goes into the seed, so that the mouth's noise is not that with which tokens are drawn."""
_NOTHING = (SILENCE, SILENCE)


@cache
def _quiet_frames(frames: int) -> Tensor:
    return torch.from_numpy(silence(frames))


def _quiet_states() -> FrameStates:
    return SpeechTrack().advanced(PAST_FRAMES)[1]


@dataclass(frozen=True, slots=True)
class MouthState:
    """Where one session's mouth is. A value: keep it to go back to it."""

    seed: int
    turn: int = 0
    """Micro-turns so far; with the seed it decides the noise."""
    track: SpeechTrack = field(default_factory=SpeechTrack)
    tail: tuple[int, int] = _NOTHING
    """The last two symbols of the last word, the pause included."""
    frames: Tensor = field(default_factory=lambda: _quiet_frames(PAST_FRAMES), repr=False)
    """`(8, 48)`, on the CPU: the last frames drawn."""
    states: FrameStates = field(default_factory=_quiet_states, repr=False)
    """What was said in them."""

    @property
    def is_quiet(self) -> bool:
        """Whether the next 200 ms are silence unless a word comes."""
        return self.track.is_quiet

    def stopped(self) -> MouthState:
        """Return the state with nothing left to say, for a barge-in."""
        return replace(self, track=self.track.cut(), tail=_NOTHING)


@dataclass(frozen=True, slots=True)
class Speech:
    """What the mouths of some sessions say in one micro-turn."""

    frames: Tensor
    """`(B, 16, 48)` float32 on the CPU, for one renderer each."""
    states: tuple[MouthState, ...]
    ends: tuple[tuple[int, ...], ...]
    """For each session and each word that ends in this micro-turn, in order, the frame behind its last one."""


class Mouth(nn.Module):
    """The two networks of speech: lengths of symbols, and frames."""

    def __init__(self, config: FlowHeadConfig) -> None:
        super().__init__()
        self.flow = FlowHead(config)
        self.durations = DurationModel()

    def begins(self, words: Sequence[str], math: FlowMath = SERVING_MATH) -> list[int]:
        """Return the frame at which each word begins if all are said in one go, and where the last one ends.

        Frame 0 is the first of the micro-turn in which the first word is given. A word that begins at frame f is
        given in micro-turn `f // 16`; then `speak` says it at exactly that frame.

        Raises:
            UnknownWordsError: a word is not in the vocabulary.
        """
        at, tail = [0], _NOTHING
        for word in words:
            numbers = symbols(word)
            track = SpeechTrack().adding(numbers, self.durations.units(numbers, tail, math))
            at.append(at[-1] + UNIT_FRAMES * sum(symbol.units for symbol in track.waiting))
            tail = (numbers[-2], numbers[-1])
        return at

    def speak(
        self,
        hidden: Tensor,
        states: Sequence[MouthState],
        words: Sequence[Sequence[str]],
        *,
        steps: int = STEPS,
        math: FlowMath = SERVING_MATH,
    ) -> Speech:
        """Say the next 200 ms of each session.

        Args:
            hidden: `(B, C)`, the backbone's state at the last position of the micro-turn.
            states: one of each session; they stay as they are.
            words: what each session begins to say in this micro-turn; may be empty.
            steps: Euler steps.
            math: the operators to compute with.

        Raises:
            UnknownWordsError: a word is not in the vocabulary.
            ValueError: there are not as many states or words as rows of `hidden`.
        """
        if not len(hidden) == len(states) == len(words):
            got = (len(hidden), len(states), len(words))
            raise ValueError(f"hidden, states and words must be of one length, got {got}")
        given = [self._given(state, own, math) for state, own in zip(states, words, strict=True)]
        ahead = [state.track.advanced(TURN_FRAMES) for state in given]
        frames = _quiet_frames(TURN_FRAMES).repeat(len(states), 1, 1)
        loud = [row for row, state in enumerate(given) if not state.is_quiet]
        if loud:
            context = self._context(hidden[loud], [given[r] for r in loud], [ahead[r][1] for r in loud])
            noise = torch.stack([_noise(given[row]) for row in loud]).to(hidden.device)
            frames[loud] = self.flow.restored(self.flow.draw(context, noise, steps, math)).cpu()
        later = tuple(
            _later(*parts, drawn) for parts, drawn in zip(zip(given, ahead, strict=True), frames, strict=True)
        )
        return Speech(frames, later, tuple(said.ends for _, said in ahead))

    def _given(self, state: MouthState, words: Sequence[str], math: FlowMath) -> MouthState:
        """The state with new words behind what is being said; a silence before them is forgotten."""
        goes_on = state.track.waiting or state.track.silent == 0
        track, tail = state.track, state.tail if goes_on else _NOTHING
        for word in words:
            numbers = symbols(word)
            track = track.adding(numbers, self.durations.units(numbers, tail, math))
            tail = (numbers[-2], numbers[-1])
        return replace(state, track=track, tail=tail)

    def _context(
        self, hidden: Tensor, states: Sequence[MouthState], ahead: Sequence[FrameStates]
    ) -> FlowContext:
        pairs = list(zip(states, ahead, strict=True))
        numbers = np.stack([np.concatenate([s.states.symbols, a.symbols]) for s, a in pairs])
        measures = np.stack([np.concatenate([s.states.measures, a.measures]) for s, a in pairs])
        past = torch.stack([state.frames for state in states]).to(hidden.device)
        return FlowContext(
            condition=hidden,
            past=self.flow.normalised(past),
            symbols=torch.from_numpy(numbers).to(hidden.device),
            measures=torch.from_numpy(measures).to(hidden.device),
        )


def _later(given: MouthState, ahead: tuple[SpeechTrack, FrameStates], frames: Tensor) -> MouthState:
    track, said = ahead
    kept = FrameStates(said.symbols[-PAST_FRAMES:], said.measures[-PAST_FRAMES:])
    return MouthState(given.seed, given.turn + 1, track, given.tail, frames[-PAST_FRAMES:].clone(), kept)


def _noise(state: MouthState) -> Tensor:
    """Standard normal numbers `(16, 48)` that the seed and the micro-turn decide.

    The hash is that of `microturn.kernels.ops.sampling.sample`; two numbers of it make two normal ones (Box and
    Muller, 1958). Computed on the CPU for every device, so that a session sounds alike on all of them.
    """
    seeds = torch.tensor([state.seed ^ _SEED_MARK])
    hashes = sampling_hash(seeds, torch.tensor([state.turn]), TURN_FRAMES * FRAME_SIZE)
    uniform = (hashes.reshape(2, -1).astype(np.float64) + 0.5) * 2.0**-32
    radius, angle = np.sqrt(-2 * np.log(uniform[0])), 2 * np.pi * uniform[1]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    return torch.from_numpy(normal.astype(np.float32)).view(TURN_FRAMES, FRAME_SIZE)
