"""Where the words of a known text lie in a recording: the text is said by a synthetic voice, whose word times are known,
and the recording is laid along it (forced alignment by dynamic time warping).

Both are compared by what the encoder of the recogniser makes of them, which depends on what is said far more than on who
says it. Between any two words, and at both ends, the recording may pause. Knows nothing of where the text comes from.

Measured with 12 to 20 digits of real people in a row, with pauses of 20 to 300 ms: begins are off by 18 ms and ends by 25 ms
on average, 4 in 100 by more than 100 ms, without a bias that would be worth a correction (-6 and -12 ms).

Source: dynamic time warping (Sakoe and Chiba, 1978). Weights, slopes and the threshold of a pause are our choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from microturn.interaction_model.cascade.onnx_session import Array, OnnxSession
from microturn.interaction_model.training.hibari_engine import HibariSynthesizer
from microturn.interaction_model.training.speakers import Engine, Speaker
from microturn.interaction_model.training.utterances import LEVEL_FRAME, SpokenWord, Synthesizer
from microturn.protocols import INPUT_RATE_HZ, Samples
from microturn.weights import locate

Floats = npt.NDArray[np.float32]
Encode = Callable[[Samples], Floats]
"""What is heard of sound `(S,)`: `(S / FRAME_SAMPLES, C)`, about, one row for each frame."""

FRAME_SAMPLES = 384
"""The recogniser's encoder makes one frame of so many samples: its convolutions step by 64, 3 and 2."""
READER = Speaker(Engine.HIBARI, 0)
"""Who says the text; others do as well."""
_PAUSE_ABOVE = 0.25
"""A frame is a pause if its level in decibels lies below this share of the way from the quietest to the loudest."""
_QUIETEST, _LOUDEST = 5, 95
"""Percentiles of levels."""
_LEAST_RANGE_DB = 15.0
"""Sound whose levels lie closer together has no pauses that could be told from speech."""
_PAUSE_COST, _NO_PAUSE_COST = 0.05, 1.5
"""Of a frame between words that is silent, and of one that is not; frames of a word cost 0 to 2, often 0.1."""
_SKIP_COST = 0.1
"""Of leaving out a frame of the voice."""
_LEAST_FRAMES = 2
"""Of a word in the voice, so that no word can be left out."""
_PAUSE = -1
"""Stands for a pause where the number of a word could stand."""
_NEVER = np.float32(1e9)


@dataclass(frozen=True, slots=True)
class AlignedWord:
    """Where a word was found."""

    word: str
    begin_ms: int
    end_ms: int
    misfit: float
    """Mean distance between what is heard here and how the voice says it, 0 to 2; words that were said give 0.1 or so."""


class ForcedAligner:
    """Finds words in recordings; blocks, one thread at a time."""

    def __init__(self, encode: Encode, voice: Synthesizer) -> None:
        self._encode = encode
        self._voice = voice

    @classmethod
    def shipped(cls) -> ForcedAligner:
        """Load the recogniser's encoder and hibari.

        Raises:
            WeightMissingError: the encoder has not been fetched.
            SpeechExtraMissingError: a package of the extra `speech` is not installed.
        """
        return cls(ShippedEncoder(), HibariSynthesizer())

    def align(self, audio: Samples, words: Sequence[str]) -> list[AlignedWord]:
        """Return where each word lies in the sound, `(S,)` at 16 kHz; a few hundredths of its length.

        Nothing is returned if there are no words, or too many of them for so short a sound.
        """
        if not words:
            return []
        said = self._voice.say(words, READER, 0)
        heard = _directions(self._encode(audio))
        track = _track(_directions(self._encode(said.audio)), said.words)
        costs = track.costs(heard, pauses(audio, len(heard)))
        path = _cheapest_path(costs, track.is_pause)
        if path is None:
            return []
        places = [np.flatnonzero(track.owners[path] == word) for word in range(len(words))]
        misfits = costs[path, np.arange(len(path))]
        return [
            AlignedWord(word, _ms(at[0]), _ms(at[-1] + 1), round(float(misfits[at].mean()), 3))
            for word, at in zip(words, places, strict=True)
        ]


class ShippedEncoder:
    """The encoder of the built-in recogniser."""

    def __init__(self) -> None:
        self._session = OnnxSession(locate("moonshine-encoder"))

    def __call__(self, audio: Samples) -> Floats:
        """Return `(F, 288)` for sound `(S,)`."""
        feeds: dict[str, Array] = {
            "input_values": audio[None],
            "attention_mask": np.ones((1, audio.size), np.int64),
        }
        wanted = {name: feeds[name] for name in self._session.inputs}
        return np.asarray(self._session.run(wanted)[0][0], np.float32)


def pauses(audio: Samples, frames: int) -> npt.NDArray[np.bool_]:
    """Return which of so many frames of the sound are silent, `(frames,)`."""
    whole = audio[: audio.size // LEVEL_FRAME * LEVEL_FRAME].reshape(-1, LEVEL_FRAME)
    power = np.mean(np.square(whole, dtype=np.float64), axis=1)
    level = np.convolve(10 * np.log10(power + 1e-10), np.ones(3) / 3, "same")
    quiet, loud = np.percentile(level, (_QUIETEST, _LOUDEST))
    if loud - quiet < _LEAST_RANGE_DB:
        return np.zeros(frames, np.bool_)
    middles = (np.arange(frames) + 0.5) * (FRAME_SAMPLES / LEVEL_FRAME)
    here = level[np.minimum(middles.astype(np.intp), len(level) - 1)]
    return np.asarray(here < quiet + _PAUSE_ABOVE * (loud - quiet))


@dataclass(frozen=True, slots=True, eq=False)
class _Track:
    """The text as rows: a pause, the frames of a word, a pause, and so on to a last pause."""

    frames: Floats
    """`(R, C)` of unit length; what stands in the row of a pause is not used."""
    owners: npt.NDArray[np.intp]
    """`(R,)` the number of the word, or `_PAUSE`."""

    @property
    def is_pause(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.owners == _PAUSE)

    def costs(self, heard: Floats, silent: npt.NDArray[np.bool_]) -> Floats:
        """What each frame of the recording, `(T, C)`, costs in each row: `(R, T)`."""
        costs = np.asarray(1 - self.frames @ heard.T, np.float32)
        costs[self.is_pause] = np.where(silent, _PAUSE_COST, _NO_PAUSE_COST)
        return costs


def _track(frames: Floats, words: Sequence[SpokenWord]) -> _Track:
    places, owners = [0], [_PAUSE]
    for number, word in enumerate(words):
        first = min(round(word.start_sample / FRAME_SAMPLES), len(frames) - _LEAST_FRAMES)
        last = min(max(round(word.end_sample / FRAME_SAMPLES), first + _LEAST_FRAMES), len(frames))
        places += (*range(first, last), 0)
        owners += (*[number] * (last - first), _PAUSE)
    return _Track(frames[places], np.array(owners))


def _directions(frames: Floats) -> Floats:
    """Rows of unit length around their mean."""
    centred = frames - frames.mean(axis=0)
    return np.asarray(centred / np.linalg.norm(centred, axis=1, keepdims=True), np.float32)


def _cheapest_path(costs: Floats, is_pause: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp] | None:
    """Return the row of each column, `(T,)`; None if the columns are too few.

    From one column to the next the row stays, or goes on by one, by two at a cost, or by three at the same cost where one of
    the two that are left out is a pause.
    """
    rows, columns = costs.shape
    passes_pause = np.zeros(rows, np.bool_)
    passes_pause[3:] = is_pause[1:-2] | is_pause[2:-1]
    total = np.full(rows, _NEVER, np.float32)
    total[:2] = costs[:2, 0]
    steps = np.zeros((columns, rows), np.intp)
    for column in range(1, columns):
        ways = np.full((4, rows), _NEVER, np.float32)
        ways[0] = total
        ways[1, 1:] = total[:-1]
        ways[2, 2:] = total[:-2] + _SKIP_COST
        ways[3, 3:] = np.where(passes_pause[3:], total[:-3] + _SKIP_COST, _NEVER)
        steps[column] = ways.argmin(axis=0)
        total = ways.min(axis=0) + costs[:, column]
    row = rows - 1 if total[-1] < total[-2] else rows - 2
    if total[row] >= _NEVER:
        return None
    path = np.zeros(columns, np.intp)
    for column in range(columns - 1, -1, -1):
        path[column] = row
        row -= steps[column, row]
    return path


def _ms(frame: int) -> int:
    return int(frame) * FRAME_SAMPLES * 1000 // INPUT_RATE_HZ
