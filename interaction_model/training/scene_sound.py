"""What the microphone hears of a scene: everybody's talk and all noises, in one room, as samples and as dMel levels.

The assistant's own speech is not heard: clients cancel echoes. Knows no targets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from microturn.interaction_model.training.conditions import Condition, draw_condition
from microturn.interaction_model.training.noise import clicks, coloured_noise
from microturn.interaction_model.training.phrase_sounds import PhraseSounds
from microturn.interaction_model.training.rooms import AcousticPath, Microphone, Room
from microturn.interaction_model.training.scene import USER, Noise, Scene
from microturn.interaction_model.training.utterances import USUAL_LEVEL
from microturn.protocols import INPUT_RATE_HZ, INPUT_SAMPLES, Samples

_SAMPLES_PER_MS = INPUT_RATE_HZ // 1000
_FAR_AWAY = (0.4, -4.0)
"""Reverberation time in seconds and direct sound in decibels of somebody who is not the user."""
_NOTES_HZ = 110 * 2 ** (np.arange(36) / 12)


class SceneSound:
    """Renders scenes; one thread at a time."""

    def __init__(self, voices: PhraseSounds, others: Sequence[Samples] = ()) -> None:
        """Use the voices that the scenes were made with; `others` are clips for babble."""
        self._voices = voices
        self._others = others

    def render(self, scene: Scene, condition: Condition | None = None) -> Samples:
        """Return the scene's N * 3,200 samples at 16 kHz; the condition follows from the scene's seed by default."""
        generator = np.random.default_rng([scene.seed, int(scene.split == "test"), 1])
        drawn = draw_condition(generator)
        beside = np.zeros(scene.micro_turns * INPUT_SAMPLES, np.float32)
        for noise in scene.noises:
            _add(beside, noise.start_ms, noise.gain_db, _noise_sound(noise, generator))
        return (condition or drawn).heard(self._speech(scene), self._others, beside=beside)

    def _speech(self, scene: Scene) -> Samples:
        near = np.zeros(scene.micro_turns * INPUT_SAMPLES, np.float32)
        far = near.copy()
        for talk in scene.talks:
            place = near if talk.speaker == USER else far
            _add(place, talk.start_ms, talk.gain_db, self._voices.sound(talk.phrase))
        if far.any():
            room = Room(*_FAR_AWAY, seed=scene.seed)
            near += AcousticPath.through(room, Microphone(20.0, 8000.0)).heard(far)
        return near


def dmel_of(audio: Samples) -> npt.NDArray[np.uint8]:
    """Return the dMel levels of sound of whole hops, `(F * 800,)` to `(F, 80)`, as the native model's ears make them.

    Raises:
        NativeExtraMissingError: torch is not installed.
        BadShapeError: the sound is not whole hops of float32.
    """
    import torch  # heavy, and only levels need it

    from microturn.kernels.mel_filters import HOP_SAMPLES
    from microturn.kernels.ops.dmel import dmel_levels

    levels, _ = dmel_levels(torch.from_numpy(audio)[None], torch.zeros(1, HOP_SAMPLES))
    result: npt.NDArray[np.uint8] = levels[0].numpy()
    return result


def _add(total: Samples, start_ms: int, gain_db: float, sound: Samples) -> None:
    begin = start_ms * _SAMPLES_PER_MS
    piece = sound[: max(total.size - begin, 0)]
    total[begin : begin + piece.size] += piece * np.float32(10 ** (gain_db / 20))


def _noise_sound(noise: Noise, generator: np.random.Generator) -> Samples:
    samples = noise.length_ms * _SAMPLES_PER_MS
    if noise.kind == "click":
        return clicks(generator, samples, per_second=max(2000.0 / max(noise.length_ms, 1), 1.0))
    if noise.kind == "music":
        return _music(generator, samples)
    slope = float(generator.uniform(0.0, 2.0))
    return np.float32(USUAL_LEVEL) * coloured_noise(generator, samples, slope)


def _music(generator: np.random.Generator, samples: int) -> Samples:
    """Return plucked notes at random, a few a second, at the usual level."""
    total = np.zeros(samples, np.float32)
    beat = int(generator.uniform(0.15, 0.5) * INPUT_RATE_HZ)
    time_s = np.arange(4 * beat) / INPUT_RATE_HZ
    for begin in range(0, samples, beat):
        pitch = float(generator.choice(_NOTES_HZ))
        note = sum(np.sin(2 * np.pi * pitch * k * time_s) / k for k in range(1, 5)) * np.exp(-4 * time_s)
        piece = np.asarray(note, np.float32)[: samples - begin]
        total[begin : begin + piece.size] += piece
    level = float(np.sqrt(np.mean(np.square(total)))) if samples else 0.0
    return total * np.float32(USUAL_LEVEL / level) if level > 0 else total
