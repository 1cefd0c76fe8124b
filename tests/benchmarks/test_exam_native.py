"""The native model's exam in voices of others: who speaks, when words end, and under which name it is reported."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from exam_native_voice import (
    NAME,
    SPEEDS,
    VOICES,
    KokoroSynthesizer,
    named_after_kokoro,
    speed_of_speaker,
    voice_of_speaker,
)
from kokoro_voice import SAMPLE_RATE_HZ, Rendering, WordTiming

from microturn.interaction_model.training.cast import Cast, estimated_word_ms
from microturn.interaction_model.training.hearing_marks import voice_of
from microturn.interaction_model.training.mixing import Mixture
from microturn.interaction_model.training.scene_voices import SceneVoices
from microturn.interaction_model.training.speakers import Engine, Speaker, SpeakerPool, Split
from microturn.interaction_model.training.utterances import USUAL_LEVEL, speech_level

pytestmark = pytest.mark.unit

WORD, GAP, SILENCE = SAMPLE_RATE_HZ // 4, SAMPLE_RATE_HZ // 10, SAMPLE_RATE_HZ


class Tones:
    """Speaks every word as 250 ms of a tone, with 100 ms of silence around each and a second behind, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, float]] = []

    def render(self, text: str, voice: str, speed: float = 1.0) -> Rendering:
        self.asked.append((text, voice, speed))
        tone = 0.5 * np.sin(np.arange(WORD) / 9).astype(np.float32)
        rest, silence = np.zeros(GAP, np.float32), np.zeros(SILENCE, np.float32)
        words = text.split()
        audio = np.concatenate([rest, *(piece for _ in words for piece in (tone, rest)), silence])
        # Words' times are wider than their sound, as those of a predictor are, the last one's by far.
        begins = [GAP + place * (WORD + GAP) for place in range(len(words))]
        timings = (
            WordTiming(word, at - GAP // 4, at + WORD + (SILENCE if at == begins[-1] else GAP // 4))
            for word, at in zip(words, begins, strict=True)
        )
        return Rendering(audio, tuple(timings))


def test_words_are_said_as_a_sentence_and_lie_where_they_sound() -> None:
    tones = Tones()
    speaker = Speaker(Engine.FLITE, 42)
    said = KokoroSynthesizer(tones).say(("seven", "degrees"), speaker, 4)
    assert tones.asked == [("seven degrees.", voice_of_speaker(speaker), speed_of_speaker(speaker))]
    assert said.text == ("seven", "degrees") and said.audio.size == pytest.approx(1.8 * 16_000, abs=2)
    for word, begin_ms in zip(said.words, (100, 450), strict=True):
        assert word.start_sample / 16 == pytest.approx(begin_ms, abs=11)
        assert word.end_sample / 16 == pytest.approx(begin_ms + 250, abs=11)
    assert speech_level(said.audio) == pytest.approx(USUAL_LEVEL, rel=0.01)


def test_the_seed_decides_how_a_sentence_ends() -> None:
    tones = Tones()
    for seed in range(8):
        KokoroSynthesizer(tones).say(("yes",), Speaker(Engine.FLITE, 1), seed)
    assert {text for text, _, _ in tones.asked} == {"yes.", "yes?", "yes!", "yes,"}


def test_held_out_speakers_have_all_voices_and_the_one_that_training_hears_is_none_of_them() -> None:
    assert "af_heart" not in VOICES and len(set(VOICES)) == len(VOICES)
    assert {voice[:2] for voice in VOICES} == {"af", "am", "bf", "bm"}
    pool, generator = SpeakerPool((Engine.FLITE,), Split.HELD_OUT), np.random.default_rng(0)
    drawn = [pool.draw(generator) for _ in range(600)]
    counts = Counter(map(voice_of_speaker, drawn))
    assert set(counts) == set(VOICES) and max(counts.values()) < 60
    assert {speed_of_speaker(speaker) for speaker in drawn} == set(SPEEDS)


def test_scenes_are_named_after_who_speaks_and_otherwise_the_same() -> None:
    voices = SceneVoices(KokoroSynthesizer(Tones()), SpeakerPool((Engine.FLITE,), Split.HELD_OUT))
    scene = Mixture(Cast(voices, estimated_word_ms), "test").scene_of("conversation", 3)
    named = named_after_kokoro(scene)
    assert voice_of(scene) == "flite" and voice_of(named) == NAME
    assert named.targets == scene.targets and named.due == scene.due
    assert [replace(talk.phrase, clip="") for talk in named.talks] == [
        replace(talk.phrase, clip="") for talk in scene.talks
    ]
