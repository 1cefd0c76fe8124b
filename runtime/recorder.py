"""Records a conversation in stereo: the person on the left, the assistant on the right.

A `Tap`. Encoding and the disk have a thread of their own; the beat only puts sound into a bounded queue.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeAlias

import numpy as np

from microturn.protocols import INPUT_RATE_HZ, OUTPUT_RATE_HZ, OUTPUT_SAMPLES, SILENCE, Samples
from microturn.runtime._errors import AudioFileError
from microturn.runtime.audio_file import SoundFile, SoundFormat, open_sound_file
from microturn.runtime.resampler import Resampler

QUEUE_BLOCKS = 512
"""Blocks that may wait to be written: some half a minute of conversation."""
_FORMATS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}

_Side: TypeAlias = Literal["heard", "played"]


class StereoRecorder:
    """Writes both sides of a conversation to a file at 24 kHz; a context manager, entered before the beat begins.

    Both channels begin at session time 0 and stay aligned to the sample. Overflow policy: where the disk is slower
    than the conversation for half a minute, new sound is recorded as silence of the same length and counted, so
    that the beat never waits; with `wait_when_full` the caller waits instead, for a virtual clock, on which a
    conversation is over before its recording can be written. `comment` stands in the file's own field of that name.
    Leaving the context in any way, an error or Ctrl-C among them, writes what was recorded so far and leaves a valid
    file.
    """

    def __init__(self, path: str | Path, *, wait_when_full: bool = False, comment: str = "") -> None:
        self.path = Path(path)
        self._comment = comment
        if self.path.suffix.lower() not in _FORMATS:
            raise AudioFileError(
                f"cannot record to {str(path)!r}: its name ends in {self.path.suffix!r}, expected one of "
                f"{', '.join(_FORMATS)}; give it such an ending"
            )
        self._wait = wait_when_full
        self._queue: queue.Queue[tuple[_Side, int, Samples] | None] = queue.Queue(QUEUE_BLOCKS)
        self._owed: dict[_Side, int] = {"heard": 0, "played": 0}
        """Samples that found the queue full, to be made up by silence."""
        self._thread = threading.Thread(target=self._write_all, name="recorder", daemon=True)
        self._open = False
        self.dropped_samples = 0
        """Samples of both sides that were replaced by silence because the disk was too slow."""
        self.problem: str | None = None
        """Why nothing more is written, once writing has failed."""

    def __enter__(self) -> Self:
        """Open the file.

        Raises:
            AudioFileError: it cannot be written there.
            MissingExtraError: the sound-file library is not installed.
        """
        if not self.path.parent.is_dir():
            raise AudioFileError(
                f"cannot record to {str(self.path)!r}: there is no folder {str(self.path.parent)!r}; create it, or "
                "choose another place"
            )
        container, encoding = _FORMATS[self.path.suffix.lower()]
        self._file, self._write_error = open_sound_file(
            self.path, SoundFormat(OUTPUT_RATE_HZ, 2, container, encoding)
        )
        if self._comment:
            self._file.comment = self._comment
        self._open = True
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what waits and close the file.

        Raises:
            AudioFileError: something could not be written; not raised over another error that is under way.
        """
        self._open = False
        self._queue.put(None)
        self._thread.join()
        if self.problem is not None and error is None:
            raise AudioFileError(
                f"the recording {str(self.path)!r} is incomplete: {self.problem}; make room there, or choose another "
                "place"
            )

    def heard(self, audio: Samples) -> None:
        """Record what the person's side sounded like, at 16 kHz."""
        self._put("heard", audio)

    def played(self, audio: Samples) -> None:
        """Record what the assistant's side sounded like, at 24 kHz, from the end of micro-turn 0."""
        self._put("played", audio)

    def _put(self, side: _Side, audio: Samples) -> None:
        if not self._open:
            return
        try:
            self._queue.put((side, self._owed[side], audio), block=self._wait)
            self._owed[side] = 0
        except queue.Full:
            self._owed[side] += len(audio)
            self.dropped_samples += len(audio)

    def _write_all(self) -> None:
        """Write until told to stop; after a failure only empty the queue."""
        mixer = _Mixer(self._file)
        while (item := self._queue.get()) is not None:
            self._attempt(partial(mixer.add, *item))
        for side, owed in self._owed.items():
            self._attempt(partial(mixer.add, side, owed, SILENCE))
        self._attempt(mixer.finish)
        self._file.close()

    def _attempt(self, write: Callable[[], None]) -> None:
        """Write something, unless writing has failed before."""
        if self.problem is not None:
            return
        try:
            write()
        except (OSError, self._write_error) as error:
            self.problem = str(error) or type(error).__name__


class _Mixer:
    """Brings the two sides to one rate and writes as far as both have come. Owned by the writer's thread."""

    def __init__(self, file: SoundFile) -> None:
        self._file = file
        self._upsampler = Resampler(INPUT_RATE_HZ, OUTPUT_RATE_HZ)
        self._left = _Fifo()
        self._right = _Fifo()
        self._right.push(np.zeros(OUTPUT_SAMPLES, np.float32))  # what is played begins with micro-turn 1

    def add(self, side: _Side, silence: int, audio: Samples) -> None:
        """Append `silence` samples of silence and then `audio` to a side, at the side's own rate."""
        block = np.concatenate([np.zeros(silence, np.float32), audio])
        if side == "heard":
            self._left.push(self._upsampler.push(block))
        else:
            self._right.push(block)
        self._write(min(self._left.size, self._right.size))

    def finish(self) -> None:
        """Write what is left; the shorter side ends in silence."""
        self._left.push(self._upsampler.finish())
        if self._left.size or self._right.size > OUTPUT_SAMPLES:
            self._write(max(self._left.size, self._right.size))

    def _write(self, frames: int) -> None:
        if frames:
            self._file.write(
                np.stack([self._left.pull(frames), self._right.pull(frames)], axis=1).clip(-1, 1)
            )


class _Fifo:
    """Samples that wait for their counterpart."""

    def __init__(self) -> None:
        self._blocks: deque[Samples] = deque()
        self.size = 0

    def push(self, audio: Samples) -> None:
        """Append samples."""
        self._blocks.append(audio)
        self.size += len(audio)

    def pull(self, samples: int) -> Samples:
        """Remove the oldest samples; silence where there are too few."""
        out = np.zeros(samples, np.float32)
        filled = 0
        while filled < samples and self._blocks:
            block = self._blocks.popleft()
            part = block[: samples - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            if len(part) < len(block):
                self._blocks.appendleft(block[len(part) :])
        self.size -= filled
        return out
