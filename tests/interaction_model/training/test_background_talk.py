"""Other people of scenes who are recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from microturn.interaction_model.native.emission import read_emission
from microturn.interaction_model.training.background_talk import LENGTH_MS, TalkingOthers
from microturn.interaction_model.training.cast import Cast, EstimatedVoices, estimated_word_ms
from microturn.interaction_model.training.mixing import Mixture
from microturn.interaction_model.training.scene import USER

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("talk")
    generator = np.random.default_rng(0)
    made = [folder / f"{talker}-1-0000.flac" for talker in range(3)]
    for place, file in enumerate(made):
        soundfile.write(file, 0.05 * generator.standard_normal(16_000 * (1 + 4 * place)), 16_000)
    return made


def test_others_are_recordings_in_a_share_of_scenes_and_the_user_never_is(files: list[Path]) -> None:
    voices = TalkingOthers(EstimatedVoices(), files, 0.5)
    mixture = Mixture(Cast(voices, estimated_word_ms), "train")
    recorded: list[bool] = []
    for seed in range(40):
        scene = mixture.scene_of("bystanders", seed)
        others = {talk.phrase.clip.startswith("talk:") for talk in scene.talks if talk.speaker != USER}
        assert len(others) <= 1
        recorded += others
        heard = [word for tokens in scene.targets for word in read_emission(tokens).heard]
        assert heard == [word for talk in scene.talks if talk.speaker == USER for word in talk.phrase.words]
    assert 0.3 < np.mean(recorded) < 0.7


def test_talk_is_a_piece_of_one_file_at_the_usual_level_without_clicks(files: list[Path]) -> None:
    voices = TalkingOthers(EstimatedVoices(), files, 1.0)
    lengths = set()
    for seed in range(30):
        phrase, again = (voices.phrase(("red",), scene_seed=seed, speaker=1, take=0) for _ in range(2))
        assert phrase == again and phrase.words == ()
        sound = voices.sound(phrase)
        assert sound.size == 16 * phrase.length_ms
        assert phrase.length_ms <= LENGTH_MS[1]
        assert abs(sound[0]) < 1e-3 and abs(sound[-1]) < 1e-3
        assert float(np.sqrt(np.mean(sound[400:-400] ** 2))) == pytest.approx(0.1, rel=0.1)
        lengths.add(phrase.length_ms)
    assert len(lengths) > 10


def test_there_must_be_talk() -> None:
    with pytest.raises(ValueError):
        TalkingOthers(EstimatedVoices(), [], 1.0)
