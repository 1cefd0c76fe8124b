"""What is heard of scenes: everybody at the time that the scene says."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from microturn.interaction_model.training.cast import Cast, estimated_word_ms
from microturn.interaction_model.training.conditions import Condition
from microturn.interaction_model.training.mixing import Mixture
from microturn.interaction_model.training.phrase_sounds import KEPT_CLIPS
from microturn.interaction_model.training.rooms import Microphone, Room
from microturn.interaction_model.training.scene import Noise, Phrase, Talk
from microturn.interaction_model.training.scene_sound import SceneSound, dmel_of
from microturn.interaction_model.training.scene_voices import SceneVoices
from microturn.interaction_model.training.speakers import Speaker, Split
from microturn.protocols import Samples
from tests.interaction_model.training.bare_scenes import scene_of
from tests.interaction_model.training.conftest import ToneSynthesizer

pytestmark = pytest.mark.unit

four_seconds = partial(scene_of, micro_turns=20)
PLAIN = Condition(Room(0, 0, 0), Microphone(20.0, 8000.0), (), 0.0, False, seed=1)


def level(audio: Samples, begin_ms: int, end_ms: int) -> float:
    return float(np.sqrt(np.mean(np.square(audio[begin_ms * 16 : end_ms * 16], dtype=np.float64))))


def test_a_phrase_begins_with_its_first_word_and_is_the_same_again(voices: SceneVoices) -> None:
    first, second = (voices.phrase(("red", "ball"), scene_seed=1, speaker=0, take=0) for _ in range(2))
    assert first == second and first.words == ("red", "ball")
    assert first.spans_ms[0][0] == 0
    assert voices.sound(first).size == pytest.approx(16 * first.length_ms, abs=16)


def test_a_speaker_slot_of_a_scene_is_one_voice(voices: SceneVoices) -> None:
    def who(**place: int) -> Speaker:
        return Speaker.named(voices.phrase(("red",), **place).clip.split("/")[0])

    user = who(scene_seed=1, speaker=0, take=0)
    assert user == who(scene_seed=1, speaker=0, take=5)
    assert len({user, who(scene_seed=1, speaker=1, take=0), who(scene_seed=2, speaker=0, take=0)}) == 3
    assert user.split is Split.TRAIN


def test_sound_that_was_dropped_is_made_again(voices: SceneVoices, tones: ToneSynthesizer) -> None:
    phrases = [voices.phrase(("red",), scene_seed=seed, speaker=0, take=0) for seed in range(KEPT_CLIPS + 1)]
    assert tones.calls == KEPT_CLIPS + 1
    assert voices.sound(phrases[0]).size > 0
    assert tones.calls == KEPT_CLIPS + 2


def test_talk_is_heard_when_the_scene_says(voices: SceneVoices) -> None:
    phrase = voices.phrase(("red", "ball"), scene_seed=1, speaker=0, take=0)
    audio = SceneSound(voices).render(four_seconds(Talk(1000, 0, phrase)), PLAIN)
    assert audio.shape == (20 * 3200,) and audio.dtype == np.float32
    for begin, end in phrase.spans_ms:
        assert level(audio, 1000 + begin, 1000 + end) > 0.15
    assert level(audio, 0, 980) < 1e-3 and level(audio, 1020 + phrase.length_ms, 4000) < 1e-3


def test_others_are_further_away_than_the_user(voices: SceneVoices) -> None:
    phrase = voices.phrase(("red", "ball"), scene_seed=1, speaker=0, take=0)
    sound = SceneSound(voices)
    near = sound.render(four_seconds(Talk(1000, 0, phrase, -12.0)), PLAIN)
    far = sound.render(four_seconds(Talk(1000, 1, phrase, -12.0)), PLAIN)
    begin, end = 1000, 1000 + phrase.length_ms
    # The user's sound ends with the phrase; that of somebody across the room goes on in the room.
    assert level(near, end + 30, end + 130) < 0.01 * level(near, begin, end)
    assert level(far, end + 30, end + 130) > 0.03 * level(far, begin, end)


def test_two_talks_at_once_add_up_and_what_lies_beyond_the_end_is_cut(voices: SceneVoices) -> None:
    phrase = voices.phrase(("red", "ball"), scene_seed=1, speaker=0, take=0)
    sound = SceneSound(voices)
    once = sound.render(four_seconds(Talk(3900, 0, phrase)), PLAIN)
    twice = sound.render(four_seconds(Talk(3900, 0, phrase), Talk(3900, 0, phrase)), PLAIN)
    assert once.any() and np.allclose(twice, 2 * once, atol=1e-5)


@pytest.mark.parametrize("kind", ["noise", "music", "click"])
def test_noise_is_heard_when_and_as_loud_as_the_scene_says(voices: SceneVoices, kind: str) -> None:
    def render(gain_db: float) -> Samples:
        noise = Noise(kind, 1000, 2000, gain_db)  # type: ignore[arg-type]  # one of the parameters above
        return SceneSound(voices).render(four_seconds(noises=(noise,)), PLAIN)

    loud, quiet = render(-6.0), render(-26.0)
    assert level(loud, 0, 980) < 1e-3 and level(loud, 3020, 4000) < 1e-3
    assert level(loud, 1000, 3000) == pytest.approx(10 * level(quiet, 1000, 3000), rel=0.01)
    if kind != "click":
        assert level(loud, 1000, 3000) == pytest.approx(0.05, rel=0.3)


def test_a_scene_sounds_the_same_again_and_in_its_own_condition(voices: SceneVoices) -> None:
    phrase = voices.phrase(("red", "ball"), scene_seed=1, speaker=0, take=0)
    scene = four_seconds(Talk(1000, 0, phrase), noises=(Noise("noise", 0, 4000, -20.0),))
    first, second = (SceneSound(voices).render(scene) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, SceneSound(voices).render(scene, PLAIN))


def test_levels_are_four_a_micro_turn_and_follow_the_sound(voices: SceneVoices) -> None:
    phrase = voices.phrase(("red", "ball"), scene_seed=1, speaker=0, take=0)
    levels = dmel_of(SceneSound(voices).render(four_seconds(Talk(1000, 0, phrase)), PLAIN))
    assert levels.shape == (80, 80) and levels.dtype == np.uint8 and levels.max() <= 15
    assert levels[21:23].max() > levels[:19].max() + 3


def test_a_drawn_scene_is_heard_where_its_talk_lies(voices: SceneVoices) -> None:
    scene = Mixture(Cast(voices, estimated_word_ms), "train").scene_of("memory", 5)
    user = [talk for talk in scene.talks if talk.speaker == 0]
    audio = SceneSound(voices).render(replace(scene, noises=()), PLAIN)
    assert len(user) >= 2
    for talk in user:
        for begin, end in talk.phrase.spans_ms:
            assert level(audio, talk.start_ms + begin, talk.start_ms + end) > 0.1
    assert level(audio, user[0].end_ms + 20, min(user[0].end_ms + 200, user[1].start_ms - 20)) < 1e-3
    assert len(dmel_of(audio)) == 4 * scene.micro_turns


def test_a_phrase_of_another_maker_is_refused(voices: SceneVoices) -> None:
    with pytest.raises(ValueError):
        voices.sound(Phrase(("red",), ((0, 100),), "estimated-1-2-3"))
