"""Synthetic speakers: each is drawn from the name of an engine and a number, and is nothing but these two.

Which speakers are held out follows from a hash of the name, so that no one can be in both parts. Knows nothing of
text and of how the engines are run.

The ranges are our choice; those of hibari are what `voice_style` documents as still sounding like a person.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np

from microturn.interaction_model.cascade.voice_style import VoiceStyle

HELD_OUT_SHARE = 0.1
"""Share of all speakers that are never trained on."""
SPEAKERS_PER_ENGINE = 1_000_000
"""Numbers of speakers run from 0 to one less than this."""


class Engine(StrEnum):
    """What makes the sound."""

    HIBARI = "hibari"
    """The neural voice inside the package hibari-tts."""
    FLITE = "flite"
    """The program flite, if it is installed."""
    ESPEAK = "espeak-ng"
    """The program espeak-ng, if it is installed."""


class Split(StrEnum):
    """What a speaker may be used for."""

    TRAIN = "train"
    HELD_OUT = "held-out"


@dataclass(frozen=True, slots=True)
class StyleRange:
    """Between which values an engine's speakers are drawn; pitch and speed evenly on a logarithmic scale."""

    pitch: tuple[float, float]
    formant: tuple[float, float]
    speed: tuple[float, float]
    pitch_range: tuple[float, float] = (1.0, 1.0)
    breath: tuple[float, float] = (0.0, 0.0)


_RANGES = {
    Engine.HIBARI: StyleRange(
        pitch=(0.5, 1.4), formant=(0.8, 1.18), speed=(0.8, 1.25), pitch_range=(0.5, 1.6), breath=(-0.7, 0.7)
    ),
    Engine.FLITE: StyleRange(pitch=(0.75, 1.4), formant=(0.88, 1.15), speed=(0.8, 1.25)),
    Engine.ESPEAK: StyleRange(pitch=(0.7, 1.3), formant=(0.93, 1.1), speed=(0.75, 1.15)),
}
_VOICES = {
    Engine.HIBARI: ("heart",),
    Engine.FLITE: ("awb", "rms", "slt"),
    Engine.ESPEAK: tuple(
        f"{accent}{variant}"
        for accent in ("en-us", "en-gb", "en-gb-scotland", "en-029")
        for variant in ("", "+m1", "+m3", "+m4", "+m7", "+f1", "+f2", "+f3", "+f4", "+f5")
    ),
}
_WEIGHTS = {Engine.HIBARI: 3.0, Engine.FLITE: 1.0, Engine.ESPEAK: 1.0}
"""How often an engine is drawn, relative to the others: hibari sounds most like people."""
_PITCH_IN_FORMANT = 0.6
"""How much of a speaker's formants follows from the pitch: low voices come from long vocal tracts."""


@dataclass(frozen=True)
class Speaker:
    """One voice, always the same."""

    engine: Engine
    number: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < SPEAKERS_PER_ENGINE:
            raise ValueError(f"number must be from 0 to {SPEAKERS_PER_ENGINE - 1}, got {self.number!r}")

    @property
    def name(self) -> str:
        """The engine and the number, such as `hibari-000042`."""
        return f"{self.engine}-{self.number:06d}"

    @classmethod
    def named(cls, name: str) -> Speaker:
        """Return the speaker of a name.

        Raises:
            ValueError: `name` is none that `Speaker.name` gives.
        """
        engine, _, number = name.rpartition("-")
        speaker = cls(Engine(engine), int(number))
        if speaker.name != name:
            raise ValueError(f"name must be the one of a speaker, such as {speaker.name!r}, got {name!r}")
        return speaker

    @cached_property
    def split(self) -> Split:
        """Whether this speaker may be trained on: a hash of the name decides."""
        draw = int.from_bytes(_digest("split", self.name)[:8]) / 2**64
        return Split.HELD_OUT if draw < HELD_OUT_SHARE else Split.TRAIN

    @cached_property
    def style(self) -> VoiceStyle:
        """How the engine's voice is changed; `pitch` 1 is the pitch of the engine's own voice."""
        return _style(_RANGES[self.engine], self._generator("style"))

    @cached_property
    def voice(self) -> str:
        """The name that the engine has for the voice that is changed."""
        voices = _VOICES[self.engine]
        return voices[int(self._generator("voice").integers(len(voices)))]

    def _generator(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng(list(_digest(purpose, self.name)))


class SpeakerPool:
    """Speakers of some engines and one split; draws them at random, and knows no others."""

    def __init__(self, engines: Sequence[Engine], split: Split) -> None:
        """Draw from these engines, those that sound most like people more often.

        Raises:
            ValueError: `engines` is empty or names one twice.
        """
        if not engines or len(set(engines)) != len(engines):
            raise ValueError(f"engines must be one or more different ones, got {list(engines)!r}")
        self.engines = tuple(sorted(engines))
        self.split = split
        weights = np.array([_WEIGHTS[engine] for engine in self.engines])
        self._shares = weights / weights.sum()

    def draw(self, generator: np.random.Generator) -> Speaker:
        """Return a speaker; the generator alone decides which."""
        engine = self.engines[int(generator.choice(len(self.engines), p=self._shares))]
        while True:
            speaker = Speaker(engine, int(generator.integers(SPEAKERS_PER_ENGINE)))
            if speaker.split is self.split:
                return speaker


def _digest(purpose: str, name: str) -> bytes:
    return hashlib.sha256(f"microturn speaker {purpose} {name}".encode()).digest()


def _style(ranges: StyleRange, generator: np.random.Generator) -> VoiceStyle:
    height, own, pace, melody, breath = generator.random(5)
    tract = _PITCH_IN_FORMANT * height + (1 - _PITCH_IN_FORMANT) * own
    return VoiceStyle(
        pitch=_between(ranges.pitch, height, logarithmic=True),
        formant=_between(ranges.formant, tract),
        pitch_range=_between(ranges.pitch_range, melody),
        breath=_between(ranges.breath, breath),
        speed=_between(ranges.speed, pace, logarithmic=True),
    )


def _between(limits: tuple[float, float], share: float, *, logarithmic: bool = False) -> float:
    low, high = limits
    if logarithmic:
        return float(low * (high / low) ** share)
    return float(low + (high - low) * share)
