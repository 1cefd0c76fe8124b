"""Where and how speech is heard: a room, a microphone, noise, a level and a coding, all drawn at once by seed.

Knows rooms and noise and how they go together; nothing of words. The ranges are our choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from microturn.interaction_model.training import noise
from microturn.interaction_model.training.rooms import AcousticPath, Microphone, Room
from microturn.interaction_model.training.utterances import USUAL_LEVEL, speech_level
from microturn.protocols import Samples


class NoiseKind(StrEnum):
    """What is heard beside the speech."""

    COLOURED = "coloured"
    HUM = "hum"
    CLICKS = "clicks"
    BABBLE = "babble"


_SHARES = {
    NoiseKind.COLOURED: 0.8,
    NoiseKind.HUM: 0.15,
    NoiseKind.CLICKS: 0.2,
    NoiseKind.BABBLE: 0.25,
}
"""How often each kind is there."""
SNR_DB = (5.0, 40.0)
GAIN_DB = (-25.0, 6.0)


@dataclass(frozen=True, slots=True)
class Condition:
    """One way of being heard; equal conditions change equal sound into equal samples."""

    room: Room
    microphone: Microphone
    noises: tuple[tuple[NoiseKind, float], ...]
    """Kinds and how many decibels each is below the speech."""
    gain_db: float
    is_telephone: bool
    """Coded with mu-law at the end."""
    seed: int

    def heard(
        self, speech: Samples, others: Sequence[Samples] = (), *, beside: Samples | None = None
    ) -> Samples:
        """Return what the microphone makes of the speech, as long as it and not delayed, in [-1, 1].

        `others` are clips of other people for the babble; without any there is none. `beside` is sound as long as
        the speech that is heard with it, without the room. The level of noise follows that of the parts of `speech`
        that are not silent.
        """
        level = speech_level(speech) or USUAL_LEVEL
        path = AcousticPath.through(self.room, self.microphone)
        total = path.heard(speech)
        around = self._noise(speech.size, level, others)
        if beside is not None:
            around += beside
        if self.noises or beside is not None:
            total = total + AcousticPath.through(_NO_ROOM, self.microphone).heard(around)
        total = total * np.float32(10 ** (self.gain_db / 20))
        return noise.mu_law(total) if self.is_telephone else np.clip(total, -1.0, 1.0)

    def _noise(self, samples: int, level: float, others: Sequence[Samples]) -> Samples:
        total = np.zeros(samples, np.float32)
        for place, (kind, snr_db) in enumerate(self.noises):
            generator = np.random.default_rng([self.seed, place])
            sound = _sound(kind, generator, samples, others)
            total += np.float32(level * 10 ** (-snr_db / 20)) * sound
        return total


_NO_ROOM = Room(0.0, 0.0, 0)


def draw_condition(generator: np.random.Generator) -> Condition:
    """Return a condition; the generator alone decides which. One in ten is a plain close microphone."""
    seed = int(generator.integers(2**31))
    if generator.random() < 0.1:
        return Condition(_NO_ROOM, Microphone(20.0, 8000.0), (), _uniform(generator, GAIN_DB), False, seed)
    room = Room(_uniform(generator, (0.1, 0.8)), _uniform(generator, (-3.0, 15.0)), seed)
    is_telephone = bool(generator.random() < 0.15)
    low, high = (300.0, 3400.0) if is_telephone else _band(generator)
    noises = tuple(
        (kind, _uniform(generator, SNR_DB)) for kind, share in _SHARES.items() if generator.random() < share
    )
    gain_db = _uniform(generator, GAIN_DB)
    return Condition(room, Microphone(low, high), noises, gain_db, is_telephone, seed)


def _band(generator: np.random.Generator) -> tuple[float, float]:
    return _uniform(generator, (20.0, 200.0)), _uniform(generator, (3400.0, 9000.0))


def _sound(
    kind: NoiseKind, generator: np.random.Generator, samples: int, others: Sequence[Samples]
) -> Samples:
    if kind is NoiseKind.COLOURED:
        return noise.coloured_noise(generator, samples, _uniform(generator, (0.0, 2.0)))
    if kind is NoiseKind.HUM:
        return noise.hum(generator, samples)
    if kind is NoiseKind.CLICKS:
        # Knocks are short: at the level of other noise they would hardly be heard.
        return 4 * noise.clicks(generator, samples, _uniform(generator, (0.2, 2.0)))
    if not others:
        return np.zeros(samples, np.float32)
    return noise.babble(generator, samples, others, voices=int(generator.integers(2, 7)))


def _uniform(generator: np.random.Generator, limits: tuple[float, float]) -> float:
    return float(generator.uniform(*limits))
