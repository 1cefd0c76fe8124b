"""Engines as they are, on the few words that show whether times are right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from microturn.interaction_model.cascade.voice_model import VoiceModel
from microturn.interaction_model.training import synthesis
from microturn.interaction_model.training._errors import SpeechProgramMissingError, WordTimesError
from microturn.interaction_model.training.espeak_engine import PROGRAM as ESPEAK
from microturn.interaction_model.training.flite_engine import PROGRAM as FLITE
from microturn.interaction_model.training.hibari_engine import HibariSynthesizer
from microturn.interaction_model.training.speakers import Engine, Speaker
from microturn.interaction_model.training.speech_program import SpeechProgram
from microturn.interaction_model.training.synthesis import Synthesis, installed_engines
from microturn.interaction_model.training.utterances import USUAL_LEVEL, Utterance, speech_level
from tests.interaction_model.training.conftest import ToneSynthesizer

pytestmark = pytest.mark.model

WORDS = ("put", "the", "red", "ball", "in", "the", "box")


@pytest.fixture(scope="module")
def hibari() -> HibariSynthesizer:
    return HibariSynthesizer(VoiceModel())


@pytest.fixture(scope="module", params=list(Engine), ids=str)
def engine(request: pytest.FixtureRequest, hibari: HibariSynthesizer) -> tuple[Engine, Synthesis]:
    name: Engine = request.param
    if name not in installed_engines():
        pytest.skip(f"{name} is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthesis, "_LOADERS", {**synthesis._LOADERS, Engine.HIBARI: lambda: hibari})
        return name, Synthesis([name])


def outside(utterance: Utterance) -> float:
    """Share of the sound's energy that lies in no word."""
    is_word = np.zeros(utterance.audio.size, np.bool_)
    for word in utterance.words:
        is_word[word.start_sample : word.end_sample] = True
    energy = np.square(utterance.audio, dtype=np.float64)
    return float(energy[~is_word].sum() / energy.sum())


def test_words_are_in_order_and_hold_the_sound(engine: tuple[Engine, Synthesis]) -> None:
    name, synthesizer = engine
    for number in range(5):
        utterance = synthesizer.say(WORDS, Speaker(name, number), seed=number)
        assert utterance.text == WORDS and utterance.speaker == Speaker(name, number).name
        edges = [at for word in utterance.words for at in (word.start_sample, word.end_sample)]
        assert edges == sorted(edges) and edges[0] >= 0 and edges[-1] <= utterance.audio.size
        assert outside(utterance) < 0.02
        lengths_s = [(word.end_sample - word.start_sample) / 16_000 for word in utterance.words]
        assert min(lengths_s) > 0.03 and max(lengths_s) < 1.0


def test_equal_arguments_give_equal_samples(engine: tuple[Engine, Synthesis]) -> None:
    name, synthesizer = engine
    first, second = (synthesizer.say(WORDS, Speaker(name, 7), seed=3) for _ in range(2))
    assert np.array_equal(first.audio, second.audio) and first.words == second.words


def test_speakers_sound_different_and_equally_loud(engine: tuple[Engine, Synthesis]) -> None:
    name, synthesizer = engine
    said = [synthesizer.say(("seven",), Speaker(name, number), seed=0) for number in range(4)]
    assert len({utterance.audio.size for utterance in said}) >= 3
    for utterance in said:
        assert 0.3 * USUAL_LEVEL < speech_level(utterance.audio) <= 1.001 * USUAL_LEVEL


def test_a_word_in_a_phrase_ends_before_the_next_one_sounds(engine: tuple[Engine, Synthesis]) -> None:
    name, synthesizer = engine
    # The noise of an s holds far more high frequencies than the vowels beside it.
    for number in range(4):
        utterance = synthesizer.say(("no", "six", "no"), Speaker(name, number), seed=0)
        shares = []
        for word in utterance.words:
            spectrum = np.abs(np.fft.rfft(utterance.audio[word.start_sample : word.end_sample])) ** 2
            shares.append(float(spectrum[int(len(spectrum) * 0.45) :].sum() / spectrum.sum()))
        assert shares[1] > 3 * shares[0] and shares[1] > 3 * shares[2]


class NoTimes(ToneSynthesizer):
    """An engine that can tell where words lie only if there is one."""

    def say(self, words: Sequence[str], speaker: Speaker, seed: int) -> Utterance:
        if len(words) > 1 or words == ("hat",):
            raise WordTimesError("nobody", expected="7 words", got="6")
        return super().say(words, speaker, seed)


def test_words_are_said_one_by_one_where_a_phrase_has_no_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "_LOADERS", {Engine.FLITE: NoTimes})
    utterance = Synthesis([Engine.FLITE]).say(WORDS, Speaker(Engine.FLITE, 1), seed=2)
    assert utterance.text == WORDS and outside(utterance) < 1e-6
    gaps = [b.start_sample - a.end_sample for a, b in zip(utterance.words, utterance.words[1:], strict=False)]
    assert min(gaps) >= 320 and max(gaps) <= 2000 and len(set(gaps)) > 1
    with pytest.raises(WordTimesError):
        Synthesis([Engine.FLITE]).say(("hat",), Speaker(Engine.FLITE, 1), seed=2)


def test_a_speaker_of_an_engine_that_was_not_loaded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "_LOADERS", {Engine.FLITE: ToneSynthesizer})
    with pytest.raises(KeyError):
        Synthesis([Engine.FLITE]).say(("red",), Speaker(Engine.HIBARI, 1), seed=2)


def test_a_missing_program_is_named_and_not_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert installed_engines() == (Engine.HIBARI,)
    for program in (FLITE, ESPEAK):
        with pytest.raises(SpeechProgramMissingError, match=program):
            SpeechProgram(program)
