"""Recognition on its own thread, with a recogniser that follows a script."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from microturn.interaction_model.cascade.recognition_service import RecognitionService
from microturn.interaction_model.cascade.recognizer import Recognition
from microturn.interaction_model.cascade.segmenter import Gap
from microturn.interaction_model.cascade.utterance import Utterance
from microturn.protocols import INPUT_RATE_HZ, INPUT_SAMPLES, Samples

pytestmark = pytest.mark.unit


class CountingRecognizer:
    """Hears one word for every second, and counts the seconds it was given."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def transcribe(self, audio: Samples) -> Recognition:
        """Name every whole second by its first sample."""
        self.seconds += audio.size / INPUT_RATE_HZ
        names = [str(int(value)) for value in audio if value]
        return Recognition(" ".join(names), -0.25, len(names))


def marked(seconds: int) -> Samples:
    """Sound with one mark in the middle of each second: its number, counted from 1."""
    sound = np.zeros(seconds * INPUT_RATE_HZ, np.float32)
    sound[INPUT_RATE_HZ // 2 :: INPUT_RATE_HZ] = np.arange(1, seconds + 1)
    return sound


@pytest.fixture
def recognizer() -> CountingRecognizer:
    return CountingRecognizer()


@pytest.fixture
def service(recognizer: CountingRecognizer) -> Iterator[RecognitionService]:
    service = RecognitionService(recognizer)
    yield service
    service.close()


def test_a_partial_says_what_was_heard_and_until_where(service: RecognitionService) -> None:
    service.submit("s", Utterance(3, 1_000).heard(marked(2)).job())
    service.settle()
    partial = service.poll("s")
    assert partial is not None
    assert (partial.turn, partial.text, partial.end_sample) == (3, "1 2", 1_000 + 2 * INPUT_RATE_HZ)
    assert partial.mean_logprob == -0.25
    assert service.poll("s") is None


def test_a_turn_without_sound_has_no_text(service: RecognitionService) -> None:
    service.submit("s", Utterance(0, 0).job())
    service.settle()
    partial = service.poll("s")
    assert partial is not None
    assert partial.text == ""


def test_a_long_turn_is_heard_whole_at_a_bounded_cost(
    service: RecognitionService, recognizer: CountingRecognizer
) -> None:
    seconds = 60
    sound, utterance, partials, text = marked(seconds), Utterance(0, 0), 0, ""
    for at in range(0, sound.size, INPUT_SAMPLES):
        whole = at // INPUT_RATE_HZ * INPUT_RATE_HZ
        gaps = (Gap(whole - 1_600, whole + 1_600),) if at == whole and at else ()
        utterance = utterance.heard(sound[at : at + INPUT_SAMPLES], gaps)
        service.submit("s", utterance.job())
        service.settle()
        partials += 1
        partial = service.poll("s")
        assert partial is not None
        utterance, text = utterance.read(partial), partial.text
    assert text == " ".join(str(second) for second in range(1, seconds + 1))
    assert recognizer.seconds / partials < 11


def test_sessions_do_not_mix(service: RecognitionService) -> None:
    for name, seconds in (("a", 1), ("b", 2)):
        service.submit(name, Utterance(0, 0).heard(marked(seconds)).job())
    service.settle()
    texts = [partial.text for name in "ab" if (partial := service.poll(name)) is not None]
    assert texts == ["1", "1 2"]


def test_a_forgotten_session_gets_nothing(service: RecognitionService) -> None:
    service.submit("a", Utterance(0, 0).heard(marked(1)).job())
    service.settle()
    service.forget("a")
    assert service.poll("a") is None
    assert not service.is_busy("a")
