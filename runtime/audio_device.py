"""The microphone and the loudspeaker of this machine.

The only module that knows the device library. Both devices run on threads of the library: the microphone pushes
into an `Ingress`, the loudspeaker pulls from a `Playout`. There is no echo canceller: without headphones the
assistant hears itself and takes it for an interruption.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Literal, Protocol, TypeAlias

import numpy as np

from microturn.protocols import INPUT_RATE_HZ, MICRO_TURN_MS, OUTPUT_RATE_HZ, Samples
from microturn.runtime._errors import AudioDeviceError, MissingExtraError
from microturn.runtime.ingress import Ingress
from microturn.runtime.player import Tap
from microturn.runtime.playout import Playout, samples_to_ms

PERIOD_MS = 20
"""How much sound a device takes or gives at a time. Shorter ones are missed by a busy machine; our choice."""
DRIFT_MS = 60.0
"""How far the loudspeaker's clock may be from the beat's before it is set right in the next silence: three periods."""
STALLED_S = 2.0
"""Silence of a device's thread after which the device is taken for lost."""
_HANDED_OVER_BLOCKS = 500
_OTHERWISE = "use `--input FILE` to play a recording or `--text` to type instead"

CaptureGenerator: TypeAlias = Generator[None, bytes, None]
PlaybackGenerator: TypeAlias = Generator[bytes, int, None]


class Device(Protocol):
    """What is used of the library's devices."""

    def start(self, callback_generator: CaptureGenerator | PlaybackGenerator) -> None:
        """Begin to exchange sound with a generator that has been advanced to its first yield."""

    def close(self) -> None:
        """Stop; no callback is under way afterwards."""


DeviceFactory: TypeAlias = Callable[[Literal["capture", "playback"], int], Device]
"""Makes a stopped device of float32 mono sound at the given rate."""


@dataclass(frozen=True, slots=True)
class DeviceNames:
    """What sound devices this machine has."""

    microphones: tuple[str, ...]
    speakers: tuple[str, ...]


class Microphone:
    """Pushes what it hears, 16 kHz mono, into an ingress from the device's thread."""

    def __init__(self, ingress: Ingress) -> None:
        self._ingress = ingress
        self.heard_blocks = 0
        """Blocks that have arrived."""

    def receive(self) -> CaptureGenerator:
        """Return the device's callback, ready to be started."""
        callback = self._received()
        next(callback)
        return callback

    def _received(self) -> CaptureGenerator:
        while True:
            data = yield
            self.heard_blocks += 1
            self._ingress.push(np.frombuffer(bytes(data), np.float32))


class SpeakerPlayer:
    """A `Player` whose pace is the loudspeaker's: its thread pulls, the beat passes what was played to the taps.

    Two clocks never agree for long. A loudspeaker that is more than `DRIFT_MS` late or early is set right where no
    speech waits: silence is left out or put in, and no word is cut. What was played waits for the beat in a bounded
    queue; overflow policy: the oldest block becomes silence of the same length, so that the taps stay aligned.
    """

    def __init__(
        self, playout: Playout, taps: Sequence[Tap] = (), now: Callable[[], float] = time.monotonic
    ) -> None:
        self._playout = playout
        self._taps = tuple(taps)
        self._now = now
        self._lock = threading.Lock()
        self._played: deque[Samples] = deque()
        self._lost_samples = 0
        self._live = False
        self._skip_samples = 0
        self._pulled_s = now()
        self.corrections = 0
        """How often the loudspeaker's clock was set right."""

    def advance(self, session_ms: float) -> None:
        """Account for what was played, and keep the loudspeaker near the beat.

        Raises:
            AudioDeviceError: the loudspeaker has stopped taking sound.
        """
        if session_ms < MICRO_TURN_MS:
            return
        if not self._live:
            self._begin(session_ms)
        self._set_right(session_ms)
        self._pass_on()
        if self._now() - self._pulled_s > STALLED_S:
            raise AudioDeviceError(
                f"the loudspeaker has taken no sound for {STALLED_S:g} s: it was unplugged or is held by another "
                f"program; connect it and begin anew, or {_OTHERWISE}"
            )

    def send(self) -> PlaybackGenerator:
        """Return the device's callback, ready to be started."""
        callback = self._sent()
        next(callback)
        return callback

    def _sent(self) -> PlaybackGenerator:
        audio = np.zeros(0, np.float32)
        while True:
            frames = yield audio.tobytes()
            audio = self._next(frames)

    def _next(self, frames: int) -> Samples:
        """What the loudspeaker gets now; silence before the session began or while it is early."""
        with self._lock:
            self._pulled_s = self._now()
            skipped = min(self._skip_samples, frames) if self._live else frames
            self._skip_samples -= skipped if self._live else 0
            out = np.zeros(frames, np.float32)
            if skipped < frames:
                audio = self._playout.play(frames - skipped)
                out[skipped:] = audio
                self._hand_over(audio)
            return out

    def _begin(self, session_ms: float) -> None:
        """Let the playout's time begin at the end of micro-turn 0, however late the beat is."""
        with self._lock:
            self._hand_over(self._playout.play(_samples(session_ms - MICRO_TURN_MS)))
            self._pulled_s = self._now()
            self._live = True

    def _set_right(self, session_ms: float) -> None:
        with self._lock:
            late_ms = session_ms - MICRO_TURN_MS - samples_to_ms(self._playout.clock_samples)
            if self._playout.backlog_samples or self._skip_samples or abs(late_ms) < DRIFT_MS:
                return
            self.corrections += 1
            if late_ms > 0:
                self._hand_over(self._playout.play(_samples(late_ms)))
            else:
                self._skip_samples = _samples(-late_ms)

    def _hand_over(self, audio: Samples) -> None:
        self._played.append(audio)
        if len(self._played) > _HANDED_OVER_BLOCKS:
            self._lost_samples += len(self._played.popleft())

    def _pass_on(self) -> None:
        with self._lock:
            blocks = [np.zeros(self._lost_samples, np.float32), *self._played]
            self._played.clear()
            self._lost_samples = 0
        audio = np.concatenate(blocks)
        if len(audio):
            for tap in self._taps:
                tap.played(audio)


@contextlib.contextmanager
def open_devices(
    ingress: Ingress,
    playout: Playout,
    taps: Sequence[Tap] = (),
    *,
    make: DeviceFactory | None = None,
) -> Iterator[SpeakerPlayer]:
    """Open the default microphone into `ingress` and the default loudspeaker from `playout`; yield the player.

    The ingress is closed with the devices. `make` stands in for the hardware.

    Raises:
        AudioDeviceError: there is no microphone, no loudspeaker, or it cannot be opened.
        MissingExtraError: the device library is not installed.
    """
    make = make or make_device
    microphone = Microphone(ingress)
    player = SpeakerPlayer(playout, taps)
    with contextlib.ExitStack() as stack:
        stack.callback(ingress.close)
        speaker = make("playback", OUTPUT_RATE_HZ)
        stack.callback(speaker.close)
        capture = make("capture", INPUT_RATE_HZ)
        stack.callback(capture.close)
        _start(speaker, player.send(), "loudspeaker")
        _start(capture, microphone.receive(), "microphone")
        yield player


def make_device(direction: Literal["capture", "playback"], rate_hz: int) -> Device:
    """Open this machine's default microphone or loudspeaker, stopped.

    Raises:
        AudioDeviceError: there is none, or it cannot be opened.
        MissingExtraError: the device library is not installed.
    """
    return _make(direction, rate_hz)


def make_null_device(direction: Literal["capture", "playback"], rate_hz: int) -> Device:
    """A device that hears silence and plays into nothing, at the pace of a real one; for tests and dry runs."""
    return _make(direction, rate_hz, null=True)


def device_names() -> DeviceNames:
    """List the microphones and loudspeakers. Blocks for some milliseconds.

    Raises:
        AudioDeviceError: there is no sound system.
        MissingExtraError: the device library is not installed.
    """
    library = _library()
    try:
        with _quiet():
            devices = library.Devices()
            if devices.backend == "Null":
                return DeviceNames((), ())
            return DeviceNames(
                _real(str(each["name"]) for each in devices.get_captures()),
                _real(str(each["name"]) for each in devices.get_playbacks()),
            )
    except library.MiniaudioError as error:
        raise AudioDeviceError(f"cannot list the sound devices ({error}); {_OTHERWISE}") from None


def _make(direction: Literal["capture", "playback"], rate_hz: int, *, null: bool = False) -> Device:
    library = _library()
    name = "microphone" if direction == "capture" else "loudspeaker"
    backends = [library.Backend.NULL] if null else []
    try:
        with _quiet():
            device: Device
            if direction == "capture":
                device = library.CaptureDevice(
                    library.SampleFormat.FLOAT32, 1, rate_hz, PERIOD_MS, backends=backends
                )
            else:
                device = library.PlaybackDevice(
                    library.SampleFormat.FLOAT32, 1, rate_hz, PERIOD_MS, backends=backends
                )
    except library.MiniaudioError as error:
        raise AudioDeviceError(f"cannot open a {name} ({error}); connect one, or {_OTHERWISE}") from None
    # Where it finds no sound system the library offers a device that plays into nothing without saying so.
    if not null and getattr(device, "backend", "") == "Null":
        device.close()
        raise AudioDeviceError(f"cannot open a {name}: this machine has no sound system; {_OTHERWISE}")
    return device


def _start(device: Device, callback: CaptureGenerator | PlaybackGenerator, name: str) -> None:
    library = _library()
    try:
        with _quiet():
            device.start(callback)
    except library.MiniaudioError as error:
        raise AudioDeviceError(f"cannot start the {name} ({error}); {_OTHERWISE}") from None


def _real(names: Iterable[str]) -> tuple[str, ...]:
    """Leave out ALSA's `null` plugin, which it lists on machines without any hardware."""
    return tuple(name for name in names if not name.startswith("Discard all samples"))


def _samples(duration_ms: float) -> int:
    return int(duration_ms * OUTPUT_RATE_HZ / 1000)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the sound system's C code writes to standard error off the operator's screen."""
    saved = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(nothing)
        os.close(saved)


def _library() -> ModuleType:
    try:
        import miniaudio
    except ImportError as error:
        raise MissingExtraError("miniaudio", "speech", "talking through a microphone") from error
    module: ModuleType = miniaudio
    return module
