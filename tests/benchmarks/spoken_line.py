"""One line of a script as sound: pauses where the text marks them, and times measured on the result.

A thinking pause is written `{0.6}` between two words: the whole sentence is rendered without it, so that the words
before it sound unfinished, and then cut at the quietest place near the true word boundary, which the voice's own
duration predictor gives. Hesitations ("um…") are ordinary words. This module knows nothing of files or of noise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from kokoro_voice import SAMPLE_RATE_HZ as VOICE_RATE_HZ
from kokoro_voice import Rendering, Samples, WordTiming
from numpy.typing import NDArray
from scipy.signal import resample_poly

from microturn.protocols import UserError

SAMPLE_RATE_HZ = 16_000
"""Sampling rate of every recording."""

WINDOW_MS = 10
"""Step at which loudness is measured."""

QUIET_BELOW_PEAK_DB = 35.0
"""A window this far below the loudest one is no speech. Our choice: quiet final consonants stay above it."""

Levels = NDArray[np.float64]
"""Loudness per window, full scale 1.0."""

_WINDOW = SAMPLE_RATE_HZ * WINDOW_MS // 1000
_LEVEL_DBFS = -16.0
_FADE_S = 0.012
_SEARCH_S = 0.04
_MARK = re.compile(r"\s*\{(\d+(?:\.\d+)?)\}\s*")


class PersonVoice(Protocol):
    """Speaks as one of several people."""

    def render(self, text: str, voice: str, speed: float = 1.0) -> Rendering:
        """Speak `text`, words separated by spaces, as the person called `voice`."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of sound, in milliseconds from the beginning of the sound that it belongs to."""

    start_ms: int
    end_ms: int

    def shifted(self, by_ms: int) -> Span:
        """The same stretch in a sound that begins `by_ms` earlier."""
        return Span(self.start_ms + by_ms, self.end_ms + by_ms)


@dataclass(frozen=True, slots=True)
class MarkedText:
    """A text taken apart into its words and its pauses."""

    words: tuple[str, ...]
    pauses_s: dict[int, float]
    """Length of the pause after so many words."""

    @property
    def text(self) -> str:
        """The words alone."""
        return " ".join(self.words)


@dataclass(frozen=True, slots=True)
class SpokenLine:
    """A line as sound, beginning with its first audible sample and ending with its last."""

    audio: Samples
    """`(S,)` at `SAMPLE_RATE_HZ`, the loudest window at -16 dBFS."""
    words: tuple[WordTiming, ...]
    """Times from the voice's duration predictor, shifted by the pauses; samples of `audio`."""
    pauses: tuple[Span, ...]
    """The marked pauses as measured by loudness, which is never shorter than what was marked."""


def parse_marked(line: str) -> MarkedText:
    """Take `"Set a timer for {0.5} ten minutes."` apart.

    Raises:
        UserError: A pause stands before the first or after the last word.
    """
    pieces = _MARK.split(line.strip())
    if not pieces[0] or not pieces[-1]:
        raise UserError("cannot read a script line: a pause must stand between two words")
    words: list[str] = []
    pauses: dict[int, float] = {}
    for index, piece in enumerate(pieces):
        if index % 2:
            pauses[len(words)] = float(piece)
        else:
            words += piece.split()
    return MarkedText(tuple(words), pauses)


def speak_line(voice: PersonVoice, line: str, *, name: str, speed: float = 1.0) -> SpokenLine:
    """Render a marked line in the voice called `name` and put its pauses in."""
    marked = parse_marked(line)
    return with_pauses(voice.render(marked.text, name, speed), marked.pauses_s)


def with_pauses(rendering: Rendering, pauses_s: dict[int, float]) -> SpokenLine:
    """Cut a rendering at word boundaries and set the pieces apart.

    Args:
        rendering: The sentence as one breath.
        pauses_s: Seconds of silence after so many words, as in `MarkedText`. A silence that the voice itself made
            there counts towards them.
    """
    pieces: list[Samples] = []
    words: list[WordTiming] = []
    done = added = 0
    for count, word in enumerate(rendering.words, start=1):
        words.append(WordTiming(word.text, word.start_sample + added, word.end_sample + added))
        if count in pauses_s:
            cut, silent = _quiet_cut(rendering, count)
            gap = max(0, round(pauses_s[count] * VOICE_RATE_HZ) - silent)
            pieces += [_faded(rendering.audio[done:cut], done > 0, True), np.zeros(gap, np.float32)]
            done, added = cut, added + gap
    pieces.append(_faded(rendering.audio[done:], done > 0, False))
    return _finished(np.concatenate(pieces), words, pauses_s)


def speech_span(audio: Samples, below_peak_db: float = QUIET_BELOW_PEAK_DB) -> Span:
    """Return where speech begins and ends, by loudness in windows of `WINDOW_MS`.

    Args:
        audio: `(S,)` at `SAMPLE_RATE_HZ`.
        below_peak_db: How far below the loudest window speech ends; less where the room is loud.

    Raises:
        UserError: The sound is silent.
    """
    loud = np.flatnonzero(_is_loud(audio, below_peak_db))
    if not loud.size:
        raise UserError("cannot find speech in a silent sound; check the script line's text")
    return Span(int(loud[0]) * WINDOW_MS, (int(loud[-1]) + 1) * WINDOW_MS)


def silences(
    audio: Samples, at_least_ms: int, below_peak_db: float = QUIET_BELOW_PEAK_DB
) -> tuple[Span, ...]:
    """Return the stretches without speech between the first and the last sound; arguments as in `speech_span`."""
    loud = np.flatnonzero(_is_loud(audio, below_peak_db))
    pairs = zip(loud[:-1].tolist(), loud[1:].tolist(), strict=True)
    spans = (Span((before + 1) * WINDOW_MS, after * WINDOW_MS) for before, after in pairs)
    return tuple(span for span in spans if span.end_ms - span.start_ms >= at_least_ms)


def room_threshold_db(audio: Samples) -> float:
    """Return `below_peak_db` for a recording from a real room: 10 dB above its quietest twentieth, 35 dB at most."""
    level = levels(audio, _WINDOW)
    floor = max(float(np.percentile(level, 5)), 1e-6)
    return min(QUIET_BELOW_PEAK_DB, 20 * float(np.log10(level.max() / floor)) - 10.0)


def levels(audio: Samples, window: int) -> Levels:
    """Return the root mean square of each whole window of so many samples."""
    whole = audio[: audio.size // window * window].astype(np.float64).reshape(-1, window)
    level: Levels = np.sqrt(np.mean(whole**2, axis=1))
    return level


def _is_loud(audio: Samples, below_peak_db: float) -> NDArray[np.bool_]:
    level = levels(audio, _WINDOW)
    loud: NDArray[np.bool_] = level > max(float(level.max(initial=0.0)) * 10 ** (-below_peak_db / 20), 1e-5)
    return loud


def _quiet_cut(rendering: Rendering, count: int) -> tuple[int, int]:
    """Return the quietest sample between two words and the length of the silence around it, in samples."""
    before, after = rendering.words[count - 1], rendering.words[count]
    margin, window = round(_SEARCH_S * VOICE_RATE_HZ), VOICE_RATE_HZ * WINDOW_MS // 1000
    first = max(before.end_sample - margin, (before.start_sample + before.end_sample) // 2) // window
    last = max(
        min(after.start_sample + margin, (after.start_sample + after.end_sample) // 2) // window, first + 1
    )
    level = levels(rendering.audio, window)
    quietest = first + int(np.argmin(level[first:last]))
    loud = level > level.max() * 10 ** (-QUIET_BELOW_PEAK_DB / 20)
    left, right = quietest, quietest
    while left > 0 and not loud[left - 1]:
        left -= 1
    while right < loud.size and not loud[right]:
        right += 1
    return (left + right) // 2 * window if right > left else quietest * window + window // 2, (
        right - left
    ) * window


def _faded(piece: Samples, fade_in: bool, fade_out: bool) -> Samples:
    """Soften the edges that a cut made."""
    length = min(round(_FADE_S * VOICE_RATE_HZ), piece.size)
    ramp = np.sin(np.linspace(0.0, np.pi / 2, length, dtype=np.float32)) ** 2
    faded = piece.copy()
    if fade_in:
        faded[:length] *= ramp
    if fade_out and length:
        faded[-length:] *= ramp[::-1]
    return faded


def _finished(audio: Samples, words: list[WordTiming], pauses_s: dict[int, float]) -> SpokenLine:
    """Resample, trim, set the level and measure the pauses that were asked for."""
    factor = SAMPLE_RATE_HZ / VOICE_RATE_HZ
    sound = resample_poly(audio.astype(np.float64), 2, 3)
    span = speech_span(sound.astype(np.float32))
    start, end = (ms * SAMPLE_RATE_HZ // 1000 for ms in (span.start_ms, span.end_ms))
    sound = sound[start:end]
    sound *= 10 ** (_LEVEL_DBFS / 20) / levels(sound.astype(np.float32), _WINDOW).max()
    timed = tuple(
        WordTiming(
            word.text,
            min(max(round(word.start_sample * factor) - start, 0), sound.size),
            min(max(round(word.end_sample * factor) - start, 0), sound.size),
        )
        for word in words
    )
    trimmed = sound.astype(np.float32)
    shortest_ms = round(min(pauses_s.values(), default=9.0) * 1000) - 2 * WINDOW_MS
    middles = [(timed[n - 1].end_sample + timed[n].start_sample) * 500 // SAMPLE_RATE_HZ for n in pauses_s]
    found = (span for span in silences(trimmed, shortest_ms) if _holds_any(span, middles))
    return SpokenLine(trimmed, timed, tuple(found))


def _holds_any(span: Span, moments_ms: list[int]) -> bool:
    return any(span.start_ms <= moment <= span.end_ms for moment in moments_ms)
