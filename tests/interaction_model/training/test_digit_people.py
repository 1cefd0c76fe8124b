"""Scenes of digits that are said with recordings of one person."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from microturn.interaction_model.native.emission import read_emission
from microturn.interaction_model.native.vocabulary import THEMES
from microturn.interaction_model.training.cast import estimated_cast
from microturn.interaction_model.training.digit_people import PREFIX, DigitPeople
from microturn.interaction_model.training.real_speech import DigitPart, spoken_digits
from microturn.interaction_model.training.scene import Scene
from microturn.interaction_model.training.stage import Stage

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> DigitPeople:
    """Two people with all digits in two takes, and one with a single digit."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "spoken-digits").mkdir()
    sound = np.zeros(6000)
    sound[1000:5000] = 0.2 * np.sin(np.arange(4000) * 0.7)
    for digit in range(10):
        for speaker in ("george", "jackson", *(("yweweler",) if digit == 7 else ())):
            for take in (12, 30):
                name = f"{digit}_{speaker}_{take}.wav"
                soundfile.write(folder / "spoken-digits" / name, sound[: 5500 + 20 * take], 8000)
    return DigitPeople(spoken_digits(folder, DigitPart.TRAIN))


def scene_of(people: DigitPeople, seed: int, share: float) -> Scene:
    stage = Stage("digits", "train", seed, estimated_cast())
    people.tell(stage, share)
    return stage.finish()


def test_who_has_not_said_every_digit_is_left_out(people: DigitPeople) -> None:
    assert people.people == ("george", "jackson")
    with pytest.raises(ValueError, match="every digit"):
        DigitPeople([])


def test_a_scene_is_said_by_one_person_and_all_of_it_is_written_down(people: DigitPeople) -> None:
    for seed in range(8):
        scene = scene_of(people, seed, 1.0)
        assert len({tuple(talk.phrase.clip.split(":")[:3]) for talk in scene.talks}) == 1
        said = [word for talk in scene.talks for word in talk.phrase.words]
        assert [word for tokens in scene.targets for word in read_emission(tokens).heard] == said
        assert set(said) <= set(THEMES["units"])
        for talk in scene.talks:
            digits = [part.split("-")[0] for part in talk.phrase.clip.split(":")[3].split(",")]
            assert tuple(THEMES["units"][int(digit)] for digit in digits) == talk.phrase.words


def test_the_sound_of_a_digit_lies_where_its_word_does(people: DigitPeople) -> None:
    for talk in scene_of(people, 3, 1.0).talks:
        sound = people.sound(talk.phrase)
        assert sound.size == pytest.approx(16 * talk.phrase.length_ms, abs=16)
        is_word = np.zeros(sound.size, bool)
        for begin, end in talk.phrase.spans_ms:
            is_word[16 * begin : 16 * end] = True
            assert np.abs(sound[16 * begin + 80 : 16 * end - 80]).max() > 0.05
        assert not sound[~is_word].any()


def test_about_a_share_of_scenes_is_said_by_people(people: DigitPeople) -> None:
    spoken = [scene_of(people, seed, 0.3).talks[0].phrase.clip.startswith(PREFIX) for seed in range(200)]
    assert 0.2 < np.mean(spoken) < 0.4
