"""Recordings as a source of sound: any common format, rate and channel count, read in blocks.

The only module that knows the sound-file library; the recorder writes through `open_sound_file`. A recording of
hours takes as much memory as one of seconds. Knows nothing of what is done with the sound.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from microturn.protocols import INPUT_RATE_HZ, SILENCE, Samples
from microturn.runtime._errors import AudioFileError, MissingExtraError
from microturn.runtime.resampler import Resampler

BLOCK_S = 1.0
"""How much is read from disk at a time."""
LOOK_AHEAD_BLOCKS = 16
"""Blocks that the reader may be ahead; then it waits."""
FULL_SCALE = 0.999
"""Absolute value from which a sample counts as clipped; 16-bit full scale is above it."""
CLIPPED_SHARE = 0.001
SILENT_PEAK = 10 ** (-60 / 20)
"""Peak below which a recording counts as silent: -60 dBFS, our choice."""
LONG_S = 2 * 3600.0
_ENDS_SOON = 65_536
"""Bytes at the end of an Ogg file in which its last page begins; the largest page is a little smaller."""
_NAMES = "wav, flac, ogg (vorbis or opus), mp3"


class SoundFile(Protocol):
    """What is used of the library's open file."""

    samplerate: int
    channels: int
    frames: int
    format: str
    extra_info: str
    comment: str

    seekable: Callable[[], bool]

    def read(self, frames: int, dtype: str, always_2d: bool) -> npt.NDArray[np.float32]:
        """Read up to `frames` frames, shape `(frames, channels)`."""

    def write(self, data: npt.NDArray[np.float32]) -> None:
        """Append frames."""

    def close(self) -> None:
        """Write what is buffered and close."""


@dataclass(frozen=True, slots=True)
class RecordingInfo:
    """What a whole recording is like."""

    duration_s: float
    rate_hz: int
    channels: int
    peak: float
    """Largest absolute sample, all channels mixed; 1 is full scale."""
    rms_dbfs: float
    """Mean level in dB of full scale; -inf for digital silence."""
    clipped_share: float
    """Share of samples at full scale, 0 to 1."""
    truncated: bool = False
    """Whether the file ends before the sound that it announces."""

    @property
    def warnings(self) -> list[str]:
        """Sentences on what may spoil a conversation with it; empty for a good recording."""
        found = []
        if self.truncated:
            found.append(
                f"The recording breaks off after {self.duration_s:.1f} s; the rest of it is missing."
            )
        if self.duration_s > LONG_S:
            found.append(f"The recording is very long: {self.duration_s / 3600:.1f} hours.")
        if self.peak < SILENT_PEAK:
            found.append("The recording is silent; check that the right microphone was recorded.")
        if self.clipped_share > CLIPPED_SHARE:
            found.append(
                f"The recording is clipped: {self.clipped_share:.1%} of it is at full scale, which may be "
                "misunderstood; record it at a lower level."
            )
        return found


@dataclass(slots=True)
class _Reader:
    """Decodes one file block by block and measures it on the way. Used by one thread at a time."""

    path: Path
    file: SoundFile
    read_error: type[Exception]
    frames: int = 0
    peak: float = 0.0
    squares: float = 0.0
    clipped: int = 0
    broke_off: bool = False

    def blocks(self) -> Iterator[Samples]:
        """Yield mono blocks at the file's own rate, up to its end or to where it cannot be read."""
        size = max(1, int(BLOCK_S * self.file.samplerate))
        while True:
            try:
                block = self.file.read(size, dtype="float32", always_2d=True)
            except self.read_error:
                self.broke_off = True
                return
            if not len(block):
                self.broke_off = self._ends_early()
                return
            clean = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
            self._measure(clean)
            yield clean.mean(axis=1, dtype=np.float32)

    def resampled(self) -> Iterator[Samples]:
        """Yield the blocks at 16 kHz, each within -1 to 1 and none empty."""
        resampler = Resampler(self.file.samplerate, INPUT_RATE_HZ)
        for block in self.blocks():
            out = resampler.push(block)
            if len(out):
                yield np.clip(out, -1, 1)
        out = resampler.finish()
        if len(out):
            yield np.clip(out, -1, 1)

    def info(self) -> RecordingInfo:
        """What was read so far."""
        mean_square = self.squares / max(1, self.frames * self.file.channels)
        return RecordingInfo(
            duration_s=self.frames / self.file.samplerate,
            rate_hz=self.file.samplerate,
            channels=self.file.channels,
            peak=self.peak,
            rms_dbfs=float(10 * np.log10(mean_square)) if mean_square else -np.inf,
            clipped_share=self.clipped / max(1, self.frames * self.file.channels),
            truncated=self.broke_off,
        )

    def _measure(self, block: npt.NDArray[np.float32]) -> None:
        self.frames += len(block)
        level = np.abs(block)
        self.peak = max(self.peak, float(level.max(initial=0.0)))
        self.squares += float(np.square(block, dtype=np.float64).sum())
        self.clipped += int(np.count_nonzero(level >= FULL_SCALE))

    def _ends_early(self) -> bool:
        """Whether a file that was read to its end announces more than it has."""
        missing = self.file.frames - self.frames
        # An MP3 without a length in its header only estimates it, from the size of the file.
        tolerated = self.file.frames * 0.05 if self.file.format == "MP3" else self.file.samplerate * 0.1
        return missing > tolerated or _announces_more(self.path, self.file)


class FileSource:
    """A recording as a session's `Source`: 16 kHz mono, then silence.

    With `ahead` a thread of its own reads up to 16 s ahead and waits there, so that `take` never waits; where the
    disk is slower than the beat `take` gives silence and counts it. Without, `take` reads the disk itself: for a
    virtual clock, which would run away from any thread. A context manager; `close` ends the thread.
    """

    def __init__(self, reader: _Reader, *, ahead: bool = True) -> None:
        self._reader = reader
        self._blocks = reader.resampled()
        self._queue: queue.Queue[Samples | None] | None = None
        self._stop = threading.Event()
        self._left: Samples = next(self._blocks, SILENCE)
        self._exhausted = False
        self._heard_out = False
        """Whether the end of the file was reached, rather than the source closed before."""
        self.missing_samples = 0
        """Samples of silence given because the disk was too slow."""
        if ahead:
            self._queue = queue.Queue(LOOK_AHEAD_BLOCKS)
            self._thread = threading.Thread(target=self._read_ahead, name="audio file", daemon=True)
            self._thread.start()

    @property
    def duration_s(self) -> float:
        """How long the recording says that it is; an estimate for some MP3 files."""
        return self._reader.file.frames / self._reader.file.samplerate

    @property
    def ended(self) -> bool:
        """Whether nothing but silence will come."""
        if not len(self._left) and not self._exhausted:
            self._left = self._next_block()
        return self._exhausted and not len(self._left)

    @property
    def warnings(self) -> list[str]:
        """Sentences on what was read: before the end only its length, then all of `RecordingInfo.warnings`."""
        if self.ended and self._heard_out:
            return self._reader.info().warnings
        hours = self.duration_s / 3600
        return [f"The recording is very long: {hours:.1f} hours."] if self.duration_s > LONG_S else []

    def take(self, samples: int) -> Samples:
        """Return exactly `samples` samples, silence after the end."""
        out = np.zeros(samples, np.float32)
        filled = 0
        while filled < samples:
            if not len(self._left):
                self._left = self._next_block()
            if not len(self._left):
                break
            part = self._left[: samples - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            self._left = self._left[len(part) :]
        if not self._exhausted:
            self.missing_samples += samples - filled
        return out

    def close(self) -> None:
        """End the reading thread and close the file."""
        self._stop.set()
        if self._queue is not None:
            self._thread.join()
        self._exhausted, self._left = True, SILENCE
        self._reader.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next_block(self) -> Samples:
        """The next block, or nothing: at the end, or where the reader is behind."""
        if self._exhausted:
            return SILENCE
        if self._queue is None:
            block = next(self._blocks, None)
        else:
            try:
                block = self._queue.get_nowait()
            except queue.Empty:
                return SILENCE
        self._exhausted = self._heard_out = block is None
        return SILENCE if block is None else block

    def _read_ahead(self) -> None:
        for block in self._blocks:
            if not self._hand_over(block):
                return
        self._hand_over(None)

    def _hand_over(self, block: Samples | None) -> bool:
        """Wait for room; false when the source was closed meanwhile."""
        assert self._queue is not None
        while not self._stop.is_set():
            try:
                self._queue.put(block, timeout=0.05)
                return True
            except queue.Full:
                continue
        return False


def open_recording(path: str | Path, *, ahead: bool = True) -> FileSource:
    """Open a recording and read its first second. Blocks for that long.

    Raises:
        AudioFileError: it is not there, empty, no sound, or of a kind that cannot be read.
        MissingExtraError: the sound-file library is not installed.
    """
    return FileSource(_open(Path(path)), ahead=ahead)


def inspect(path: str | Path) -> RecordingInfo:
    """Read a whole recording and say what it is like. Blocks; some 100 times faster than listening.

    Raises:
        AudioFileError: it is not there, empty, no sound, or of a kind that cannot be read.
        MissingExtraError: the sound-file library is not installed.
    """
    reader = _open(Path(path))
    try:
        for _ in reader.blocks():
            pass
        return reader.info()
    finally:
        reader.file.close()


@dataclass(frozen=True, slots=True)
class SoundFormat:
    """How a file is written."""

    rate_hz: int
    channels: int
    container: str
    encoding: str


def open_sound_file(path: Path, sound_format: SoundFormat) -> tuple[SoundFile, type[Exception]]:
    """Open a file for writing; return it with the type of error that a failing write raises.

    Raises:
        AudioFileError: it cannot be written there.
        MissingExtraError: the sound-file library is not installed.
    """
    library = _library("writing a recording")
    try:
        # Python's own open says why it fails, which the library does not.
        with path.open("ab"):
            pass
        file: SoundFile = library.SoundFile(
            str(path),
            "w",
            samplerate=sound_format.rate_hz,
            channels=sound_format.channels,
            format=sound_format.container,
            subtype=sound_format.encoding,
        )
    except OSError as error:
        raise AudioFileError(
            f"cannot write a recording to {str(path)!r}: {error.strerror or error}; choose another place"
        ) from None
    except library.LibsndfileError as error:
        raise AudioFileError(
            f"cannot write a recording to {str(path)!r}: {_reason(error)}; choose another place or format"
        ) from None
    return file, library.LibsndfileError


def _open(path: Path) -> _Reader:
    library = _library("reading a recording")
    try:
        if path.is_dir():
            raise AudioFileError(f"cannot play {str(path)!r}: it is a folder; name one recording in it")
        with path.open("rb") as raw:
            if not raw.read(1):
                raise AudioFileError(f"cannot play {str(path)!r}: the file is empty; record it again")
        if path.suffix.lower() == ".raw":
            raise AudioFileError(
                f"cannot play {str(path)!r}: raw samples do not say their rate; expected {_NAMES}; convert it"
            )
        file: SoundFile = library.SoundFile(str(path))
    except FileNotFoundError:
        raise AudioFileError(
            f"cannot play {str(path)!r}: there is no such file; check the path, which is relative to {str(Path.cwd())!r}"
        ) from None
    except OSError as error:
        raise AudioFileError(f"cannot play {str(path)!r}: {error.strerror}; check its permissions") from None
    except library.LibsndfileError as error:
        raise AudioFileError(
            f"cannot play {str(path)!r}: {_reason(error)}; expected {_NAMES}; convert it, for example with "
            f"`ffmpeg -i {path.name} {path.stem}.wav`"
        ) from None
    if file.frames == 0:
        file.close()
        raise AudioFileError(f"cannot play {str(path)!r}: it holds 0 samples of sound; record it again")
    # The library seeks to where it is after every read, which loses MP3 its decoder state: a click in every block.
    file.seekable = _never
    return _Reader(path, file, library.LibsndfileError)


def _never() -> bool:
    return False


def _reason(error: Exception) -> str:
    """The library's own words, without the path that it puts before them."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".").lower()


def _announces_more(path: Path, file: SoundFile) -> bool:
    """Whether the container shows that its end was lost.

    For a WAV file the library notes a chunk that is longer than the file; an Ogg stream marks its last page in
    bit 2 of the header type. Source: RFC 3533, section 6.
    """
    if file.format in {"WAV", "WAVEX", "RF64"}:
        return any("data :" in line and "should be" in line for line in file.extra_info.splitlines())
    if file.format == "OGG":
        with path.open("rb") as raw:
            raw.seek(max(0, path.stat().st_size - _ENDS_SOON))
            tail = raw.read()
        page = tail.rfind(b"OggS")
        return page < 0 or len(tail) < page + 6 or not tail[page + 5] & 0x04
    return False


def _library(purpose: str) -> ModuleType:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package is there, the library that it needs is not
        raise MissingExtraError("soundfile", "speech", purpose) from error
    module: ModuleType = soundfile
    return module
