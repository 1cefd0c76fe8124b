"""The detector of turn ends by sound, on real weights and a real thread."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.signal import resample_poly

from microturn.interaction_model.cascade.smart_turn import SmartTurn
from microturn.interaction_model.cascade.turn_end import TurnSoundJob, TurnSoundService
from microturn.interaction_model.cascade.voice import Voice
from microturn.protocols import Samples
from microturn.weights import locate

pytestmark = pytest.mark.model

TEXT = "Could you tell me what the weather is like in Paris?"


@pytest.fixture(scope="module")
def detector() -> SmartTurn:
    return SmartTurn(locate("smart-turn"))


@pytest.fixture
def service(detector: SmartTurn) -> Iterator[TurnSoundService]:
    service = TurnSoundService(detector)
    yield service
    service.close()


def said(voice: Voice, words: int) -> Samples:
    """Return the first words of the text and 0.2 s of silence."""
    rendering = voice.render(TEXT)
    audio = resample_poly(rendering.audio[: rendering.words[words - 1].end_sample], 2, 3)
    return np.pad(audio.astype(np.float32), (1_600, 3_200))


def test_a_whole_sentence_sounds_more_finished_than_its_beginning(detector: SmartTurn, voice: Voice) -> None:
    assert detector.finished(said(voice, 11)) > 0.8
    assert detector.finished(said(voice, 7)) < 0.5


def test_only_the_last_eight_seconds_are_heard(detector: SmartTurn, voice: Voice) -> None:
    sound = np.pad(said(voice, 11), (128_000, 0))[-128_000:]
    noise = np.random.default_rng(0).standard_normal(50_000).astype(np.float32)
    assert detector.finished(np.concatenate((noise, sound))) == detector.finished(sound)


def test_silence_and_a_single_sample_are_taken(detector: SmartTurn) -> None:
    for size in (1, 16_000):
        assert 0 <= detector.finished(np.zeros(size, np.float32)) <= 1


def test_the_service_says_which_sound_it_has_heard(
    service: TurnSoundService, voice: Voice, detector: SmartTurn
) -> None:
    sound = said(voice, 11)
    service.submit("s", TurnSoundJob(4, 70_000, sound))
    service.settle()
    answer = service.poll("s")
    assert answer is not None
    assert (answer.turn, answer.end_sample, answer.finished) == (4, 70_000, detector.finished(sound))
    assert service.poll("s") is None
    assert not service.is_busy("s")


def test_a_forgotten_session_gets_no_answer(service: TurnSoundService, voice: Voice) -> None:
    service.submit("s", TurnSoundJob(0, 1, said(voice, 3)))
    service.settle()
    service.forget("s")
    assert service.poll("s") is None
