"""Recordings as files: speech laid on the noise of a room, written as FLAC, and described by labels.

Samples are 16 bit. Times in labels are milliseconds from the beginning of the file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from kokoro_voice import Samples
from room_noise import room_noise
from spoken_line import SAMPLE_RATE_HZ, SpokenLine


@dataclass(frozen=True, slots=True)
class PlacedLine:
    """A spoken line at its place in a recording."""

    start_ms: int
    line: SpokenLine

    @property
    def end_ms(self) -> int:
        """When its last sound ends."""
        return self.start_ms + _ms(self.line.audio.size)

    def labels(self) -> dict[str, Any]:
        """Its times: speech from first to last sound, the pauses inside, every word. Values fit JSON."""
        pauses = [span.shifted(self.start_ms) for span in self.line.pauses]
        return {
            "speech_start_ms": self.start_ms,
            "speech_end_ms": self.end_ms,
            "pauses": [[span.start_ms, span.end_ms] for span in pauses],
            "words": [
                [word.text, self.start_ms + _ms(word.start_sample), self.start_ms + _ms(word.end_sample)]
                for word in self.line.words
            ],
        }


def mix(lines: Sequence[PlacedLine], duration_ms: int, seed: str, noise_dbfs: float) -> Samples:
    """Return the lines on the noise of a room; `seed` names the noise."""
    sound = room_noise(duration_ms * SAMPLE_RATE_HZ // 1000, seed, noise_dbfs)
    for placed in lines:
        start = placed.start_ms * SAMPLE_RATE_HZ // 1000
        sound[start : start + placed.line.audio.size] += placed.line.audio
    return sound


def write_flac(path: Path, sound: Samples) -> None:
    """Write 16 kHz mono FLAC, 16 bit; equal sound gives an equal file."""
    whole = np.clip(np.round(sound * 32767.0), -32768, 32767).astype(np.int16)
    soundfile.write(path, whole, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16", compression_level=1.0)


def write_labels(path: Path, labels: dict[str, Any]) -> None:
    """Write JSON with one innermost list a line, so that a changed time is one changed line."""
    text = json.dumps(labels, indent=1, ensure_ascii=False)
    path.write_text(_short_lists(text) + "\n", encoding="utf-8")


def _short_lists(text: str) -> str:
    """Draw lists that hold no further list or object on one line."""
    pieces: list[str] = []
    for piece in text.split("["):
        inner, bracket, rest = piece.partition("]")
        flat = bracket and "{" not in inner
        pieces.append((" ".join(inner.split()) if flat else inner) + bracket + rest)
    return "[".join(pieces)


def _ms(samples: int) -> int:
    return samples * 1000 // SAMPLE_RATE_HZ
