"""The teacher of the mouth: the assistant's one voice, as coded frames with the length of every symbol.

The teacher is hibari's voice. Words are said by the pronunciations that the mouth itself looks up. Knows nothing of
networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from microturn.interaction_model.cascade.voice_model import DURATION_SAMPLES, VoiceModel
from microturn.interaction_model.native.pronunciation import PAUSE, PRONUNCIATIONS, symbols
from microturn.interaction_model.native.renderer import DELAY_SAMPLES, Renderer
from microturn.interaction_model.native.speech_track import UNIT_FRAMES, SpeechTrack
from microturn.interaction_model.native.vocoder_frames import (
    FRAME_SAMPLES,
    TURN_FRAMES,
    Codes,
    encode,
    louder,
    silence,
)
from microturn.protocols import Samples

TARGET_RMS = 0.1
"""Root mean square of the sounding parts of every phrase (-20 dBFS), as in the cascade's voice."""
EARLY_FRAMES = 6
"""Frames by which the teacher's sound begins before its durations say so: 3 to 7 in 36 words, measured."""
TAIL_FRAMES = 16
"""Frames that are kept behind the last sound."""
_SOUNDING = 0.004
_FRAMES_OF_UNIT = DURATION_SAMPLES // FRAME_SAMPLES

Spectrum = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SpokenPhrase:
    """A phrase as the teacher says it."""

    words: tuple[str, ...]
    units: tuple[tuple[int, ...], ...]
    """For each word the length of its symbols, in units of 25 ms, the pause behind it last."""
    frames: Codes
    """`(F, 48)`; the first belongs to the first symbol, and silence follows the last."""

    def track(self) -> SpeechTrack:
        """What is said in each frame, ready to be advanced."""
        track = SpeechTrack()
        for word, units in zip(self.words, self.units, strict=True):
            track = track.adding(symbols(word), units)
        return track


class OwnVoice(VoiceModel):
    """The teacher; blocks while it computes, about 40 ms for a phrase, one thread at a time."""

    def spectra(self, text: str) -> tuple[Spectrum, Spectrum, Spectrum, npt.NDArray[np.int64]]:
        """Return harmonic and noise log magnitudes `(601, F)`, pitch in Hz `(F,)` and units `(symbols + 2,)`.

        The free branch and the noise are one noise: what the free branch adds are mostly random phases.
        """
        ids = [0, *(self._vocabulary[symbol] for symbol in text), 0]
        outputs = self._session.run({"ids": np.array([ids]), "speed": np.ones(1, np.float32)})
        harmonic, _, breath, free, _, pitch, units = (output.squeeze() for output in outputs)
        noise = np.logaddexp(2 * breath, 2 * free) / 2
        return harmonic, noise, pitch, np.rint(units).astype(np.int64)

    def say(self, words: Sequence[str]) -> SpokenPhrase:
        """Return the phrase, said as a statement, at the common loudness."""
        text = PAUSE.join(PRONUNCIATIONS[word] for word in words)
        harmonic, noise, pitch, units = self.spectra(text + ".")
        frames = encode(harmonic, noise, pitch)
        level = _levels(draw(frames))
        frames = louder(
            frames, TARGET_RMS / max(float(np.sqrt(np.mean(level[level > _SOUNDING] ** 2))), 1e-3)
        )
        begin = max(int(units[0]) * _FRAMES_OF_UNIT - EARLY_FRAMES, 0)
        end = int(np.flatnonzero(level > _SOUNDING)[-1]) + 1 - DELAY_SAMPLES // FRAME_SAMPLES
        said = _until(units[1:-2].tolist(), (end - begin) / UNIT_FRAMES)
        return SpokenPhrase(tuple(words), _by_word(words, said), frames[begin : end + TAIL_FRAMES])


def draw(frames: Codes, seed: int = 0) -> Samples:
    """Return frames as sound at 24 kHz, in one piece, with silence behind them."""
    blocks = -(-(len(frames) + 4) // TURN_FRAMES)
    padded = np.concatenate([frames, silence(blocks * TURN_FRAMES - len(frames))])
    renderer = Renderer(seed)
    return np.concatenate([renderer.render(block) for block in padded.reshape(blocks, TURN_FRAMES, -1)])


def _levels(audio: Samples) -> npt.NDArray[np.float32]:
    """Root mean square of each frame's samples."""
    return np.asarray(np.sqrt(np.square(audio.reshape(-1, FRAME_SAMPLES)).mean(1)))


def _until(units: list[int], end: float) -> list[int]:
    """Let the last symbol end with the sound: the teacher counts silence behind it as its own."""
    rest = round(end - sum(units[:-1]))
    return [*units[:-1], max(1, min(units[-1], rest))]


def _by_word(words: Sequence[str], units: list[int]) -> tuple[tuple[int, ...], ...]:
    """Cut the lengths into words; the last word's pause has none."""
    rest = [*units, 0]
    parts = []
    for word in words:
        size = len(PRONUNCIATIONS[word]) + 1
        parts.append(tuple(rest[:size]))
        rest = rest[size:]
    return tuple(parts)
