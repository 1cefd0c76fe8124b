"""Devices without hardware: the library's null devices, and fakes whose callbacks the test itself calls."""

from __future__ import annotations

import time
from typing import Literal

import numpy as np
import pytest

from microturn.protocols import MicroTurnOutput, Samples, SpokenWord, Utterance
from microturn.runtime import audio_device
from microturn.runtime._errors import AudioDeviceError
from microturn.runtime.audio_device import (
    CaptureGenerator,
    Device,
    Microphone,
    PlaybackGenerator,
    SpeakerPlayer,
    device_names,
    make_device,
    make_null_device,
    open_devices,
)
from microturn.runtime.ingress import Ingress
from microturn.runtime.playout import Playout

pytestmark = pytest.mark.unit


class Kept:
    """A tap that keeps what was played."""

    def __init__(self) -> None:
        self.audio: Samples = np.zeros(0, np.float32)

    def heard(self, audio: Samples) -> None:
        """Not of interest."""

    def played(self, audio: Samples) -> None:
        self.audio = np.concatenate([self.audio, audio])


class FakeDevice:
    def __init__(self) -> None:
        self.callback: CaptureGenerator | PlaybackGenerator | None = None
        self.closed = False

    def start(self, callback_generator: CaptureGenerator | PlaybackGenerator) -> None:
        self.callback = callback_generator

    def close(self) -> None:
        self.closed = True


class Time:
    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> float:
        return self.now_s


class Speaker:
    """A loudspeaker whose callback the test calls."""

    def __init__(self) -> None:
        self.time = Time()
        self.playout = Playout()
        self.tap = Kept()
        self.player = SpeakerPlayer(self.playout, [self.tap], self.time.now)
        self.callback = self.player.send()

    def pull(self, duration_ms: float) -> Samples:
        self.time.now_s += duration_ms / 1000
        return np.frombuffer(self.callback.send(int(duration_ms * 24)), np.float32)

    def say(self, duration_ms: int, level: float = 0.5) -> None:
        self.playout.push(
            MicroTurnOutput(
                index=0,
                audio=np.full(duration_ms * 24, level, np.float32),
                utterances=(Utterance("u", "hello", "reply"),),
                words=(SpokenWord("u", 0, duration_ms * 24, last=True),),
            )
        )


def test_the_microphone_fills_the_ingress() -> None:
    ingress = Ingress()
    callback = Microphone(ingress).receive()
    callback.send(np.full(320, 0.25, np.float32).tobytes())
    callback.send(np.full(320, np.nan, np.float32).tobytes())
    got = ingress.take(640)
    assert np.all(got[:320] == 0.25)
    assert np.all(got[320:] == 0)


def test_the_speaker_is_silent_and_its_time_stands_before_the_session_begins() -> None:
    speaker = Speaker()
    speaker.say(100)
    assert not np.any(speaker.pull(20))
    speaker.player.advance(100)
    assert not np.any(speaker.pull(20))
    assert speaker.playout.clock_samples == 0


def test_what_the_device_pulled_reaches_the_taps_unchanged() -> None:
    speaker = Speaker()
    speaker.player.advance(200)
    speaker.say(60)
    pulled = np.concatenate([speaker.pull(20) for _ in range(10)])
    speaker.player.advance(400)
    assert np.array_equal(speaker.tap.audio, pulled)
    assert np.count_nonzero(pulled) == 60 * 24
    (report,) = speaker.playout.take_heard()
    assert (report.words, report.finished) == (1, True)


def test_a_late_beat_does_not_shift_the_playouts_time() -> None:
    speaker = Speaker()
    speaker.player.advance(230)
    assert speaker.playout.clock_samples == 30 * 24
    assert len(speaker.tap.audio) == 30 * 24


def test_a_slow_loudspeaker_is_set_right_in_silence_only() -> None:
    speaker = Speaker()
    speaker.player.advance(200)
    speaker.say(300)
    speaker.pull(100)
    speaker.player.advance(400)
    assert speaker.player.corrections == 0
    speaker.pull(200)
    speaker.player.advance(600)
    assert speaker.player.corrections == 1
    assert speaker.playout.clock_samples == 400 * 24
    assert len(speaker.tap.audio) == 400 * 24


def test_a_fast_loudspeaker_gets_silence_until_the_beat_has_caught_up() -> None:
    speaker = Speaker()
    speaker.player.advance(200)
    speaker.pull(300)
    speaker.player.advance(400)
    assert speaker.player.corrections == 1
    speaker.pull(100)
    speaker.player.advance(500)
    assert speaker.playout.clock_samples == 300 * 24
    assert len(speaker.tap.audio) == 300 * 24


def test_speech_after_a_correction_is_whole() -> None:
    speaker = Speaker()
    speaker.player.advance(200)
    speaker.pull(300)
    speaker.player.advance(400)
    speaker.say(50)
    out = np.concatenate([speaker.pull(20) for _ in range(10)])
    assert np.count_nonzero(out) == 50 * 24


def test_a_beat_that_stands_still_costs_the_taps_sound_but_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_device, "_HANDED_OVER_BLOCKS", 4)
    speaker = Speaker()
    speaker.player.advance(200)
    speaker.say(200)
    for _ in range(10):
        speaker.pull(20)
    speaker.player.advance(400)
    assert len(speaker.tap.audio) == 200 * 24
    assert np.count_nonzero(speaker.tap.audio) == 4 * 20 * 24


def test_a_loudspeaker_that_was_unplugged_ends_the_session_with_an_error() -> None:
    speaker = Speaker()
    speaker.player.advance(200)
    speaker.time.now_s += 1.9
    speaker.player.advance(2100)
    speaker.time.now_s += 0.2
    with pytest.raises(AudioDeviceError, match="unplugged.*--input FILE.*--text"):
        speaker.player.advance(2300)


def test_devices_are_closed_and_the_ingress_ends_with_them() -> None:
    made: dict[str, FakeDevice] = {}

    def make(direction: Literal["capture", "playback"], rate_hz: int) -> Device:
        assert rate_hz == {"capture": 16_000, "playback": 24_000}[direction]
        made[direction] = FakeDevice()
        return made[direction]

    ingress = Ingress()
    with pytest.raises(ZeroDivisionError), open_devices(ingress, Playout(), make=make):
        assert all(device.callback is not None for device in made.values())
        assert not ingress.ended
        raise ZeroDivisionError
    assert all(device.closed for device in made.values())
    assert ingress.ended


def test_a_missing_microphone_closes_the_loudspeaker_again() -> None:
    speaker = FakeDevice()

    def make(direction: Literal["capture", "playback"], rate_hz: int) -> Device:
        if direction == "capture":
            raise AudioDeviceError("no microphone")
        return speaker

    with pytest.raises(AudioDeviceError), open_devices(Ingress(), Playout(), make=make):
        pytest.fail("it was entered")
    assert speaker.closed


def test_the_null_devices_of_the_library_keep_the_pace_of_real_ones() -> None:
    ingress, playout, tap = Ingress(), Playout(), Kept()
    with open_devices(ingress, playout, [tap], make=make_null_device) as player:
        player.advance(200)
        began_s = time.monotonic()
        while time.monotonic() - began_s < 3 and len(tap.audio) < 4800:
            time.sleep(0.02)
            player.advance(200 + (time.monotonic() - began_s) * 1000)
        took_s = time.monotonic() - began_s
    assert len(tap.audio) >= 4800
    assert took_s > 0.1
    assert ingress.take(1600).shape == (1600,)
    assert not ingress.ended


@pytest.mark.skipif(bool(device_names().microphones), reason="this machine has a microphone")
def test_without_hardware_the_error_says_what_can_be_used_instead(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AudioDeviceError, match="--input FILE.*--text"):
        make_device("capture", 16_000)
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(bool(device_names().speakers), reason="this machine has a loudspeaker")
def test_opening_devices_without_hardware_fails_before_a_conversation_begins() -> None:
    with pytest.raises(AudioDeviceError, match="loudspeaker"), open_devices(Ingress(), Playout()):
        pytest.fail("it was entered")
