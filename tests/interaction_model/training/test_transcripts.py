"""Files of transcripts, what is in doubt in them, and how they are made; with a recogniser that is told what to hear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from microturn.interaction_model.cascade.recognizer import Recognition
from microturn.interaction_model.training._errors import BadTrainConfigError, SpeechDataMissingError
from microturn.interaction_model.training.forced_alignment import READER, AlignedWord, ForcedAligner
from microturn.interaction_model.training.real_speech import VARIABLE, talk_files
from microturn.interaction_model.training.speakers import Split
from microturn.interaction_model.training.transcribe_command import make_transcripts
from microturn.interaction_model.training.transcriber import Transcriber, spoken_words
from microturn.interaction_model.training.transcripts import MISFIT_LIMIT, Transcript, TranscriptFile
from microturn.protocols import Samples
from tests.interaction_model.training.conftest import ToneSynthesizer
from tests.interaction_model.training.test_forced_alignment import pitch_of

pytestmark = pytest.mark.unit

SAMPLES = 12_000
"""Of each recording."""


def transcript(first: str, again: str, misfit: float = 0.1) -> Transcript:
    words = (AlignedWord(word, 300 * at, 300 * at + 250, misfit) for at, word in enumerate(first.split()))
    return Transcript(tuple(words), tuple(again.split()))


@pytest.mark.parametrize(
    ("first", "again", "doubts"),
    [
        ("put the red ball here", "put the red ball here", set()),
        ("put the red ball here", "put a red ball here", {1}),
        ("old peter found it", "old pieter found it", set()),
        ("old peter found it", "old three found it", {1}),
        ("we saw it", "we saw that it", {1, 2}),
        ("saw it", "the saw it", {0}),
        ("we saw", "we saw it", {1}),
        ("this that was so", "this was so", {1}),
        ("in 1850 it was", "in 1850 it was", {1}),
        ("", "the", set()),
    ],
)
def test_words_are_in_doubt_where_words_of_the_vocabulary_were_heard_in_two_ways(
    first: str, again: str, doubts: set[int]
) -> None:
    assert transcript(first, again).doubtful() == doubts


def test_compounds_are_heard_as_the_words_that_they_are_said_with() -> None:
    assert spoken_words("Twenty-one boots\u2014to-day, re-entered -") == (
        *("twenty", "one", "boots", "today", "re", "entered"),
    )


def test_words_that_the_sound_does_not_fit_are_in_doubt() -> None:
    assert transcript("so it is", "so it is", MISFIT_LIMIT + 0.01).doubtful() == {0, 1, 2}


def test_a_file_gives_back_what_was_saved_and_equal_ones_are_equal_bytes(tmp_path: Path) -> None:
    one, two = transcript("put the red ball here", "put a ball here"), transcript("", "")
    for name, files in (("a.json", {"x": one, "y": two}), ("b.json", {"y": two, "x": one})):
        TranscriptFile(Split.TRAIN, "an ear", files).save(tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    again = TranscriptFile.load(tmp_path / "a.json")
    assert again == TranscriptFile(Split.TRAIN, "an ear", {"x": one, "y": two})


@pytest.mark.parametrize("content", ["", "[]", '{"format": 0}', '{"format": 1, "split": "train"}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(BadTrainConfigError, match="transcribe"):
        TranscriptFile.load(tmp_path / "a.json")


class PromptedEar:
    """Hears a known text, with another word in it when the sound is longer: when it is played slower."""

    def __init__(self) -> None:
        self.calls = 0

    def transcribe(self, audio: Samples) -> Recognition:
        self.calls += 1
        return Recognition("Red ball, seven." if audio.size <= SAMPLES else "Red wall, seven.", -0.1, 5)


@pytest.fixture
def folder(tmp_path: Path, tones: ToneSynthesizer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Talk of 12 people, and one recording with its text, that all sound the same."""
    said = tones.say(("red", "ball", "seven"), READER, 0).audio
    audio = np.pad(said, (0, SAMPLES - said.size))
    audio += 1e-3 * np.random.default_rng(0).normal(size=SAMPLES).astype(np.float32)
    for place in ("speakers", "dev"):
        (tmp_path / "librispeech" / place).mkdir(parents=True)
    for talker in range(12):
        soundfile.write(tmp_path / "librispeech" / "speakers" / f"{talker}-1-0000.flac", audio, 16_000)
    soundfile.write(tmp_path / "librispeech" / "dev" / "9-1-0000.flac", audio, 16_000)
    (tmp_path / "librispeech" / "dev" / "transcripts.tsv").write_text("9-1-0000.flac\tred ball seven\n")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def test_talk_to_train_on_is_heard_twice_and_a_file_that_was_begun_is_gone_on_with(
    folder: Path, tones: ToneSynthesizer
) -> None:
    ear = PromptedEar()
    out = folder / "out.json"
    made = make_transcripts(out, "train", lambda: Transcriber(ear, ForcedAligner(pitch_of, tones)))
    training = {path.name for path in talk_files(Split.TRAIN)}
    assert set(made.files) == training and 6 <= len(training) < 12
    assert ear.calls == 2 * len(training)
    for each in made.files.values():
        assert [word.word for word in each.words] == ["red", "ball", "seven"]
        assert each.again == ("red", "wall", "seven") and each.doubtful() == {1}
    whole = out.read_bytes()
    TranscriptFile(made.split, made.recognizer, dict(list(made.files.items())[:-2])).save(out)
    make_transcripts(out, "train", lambda: Transcriber(ear, ForcedAligner(pitch_of, tones)))
    assert ear.calls == 2 * len(training) + 4 and out.read_bytes() == whole
    with pytest.raises(BadTrainConfigError, match="held-out"):
        make_transcripts(out, "test")


def test_recordings_to_examine_with_are_aligned_with_their_own_text(
    folder: Path, tones: ToneSynthesizer
) -> None:
    ear = PromptedEar()
    out = folder / "out.json"
    made = make_transcripts(out, "test", lambda: Transcriber(ear, ForcedAligner(pitch_of, tones)))
    assert ear.calls == 0 and made.split is Split.HELD_OUT
    (found,) = made.files.values()
    assert found.again == ("red", "ball", "seven") and not found.doubtful()
    truth = tones.say(("red", "ball", "seven"), READER, 0).words
    for word, place in zip(found.words, truth, strict=True):
        assert word.end_ms == pytest.approx(place.end_sample / 16, abs=72)


def test_recordings_that_are_not_there_are_an_error_that_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    for split in ("train", "test"):
        with pytest.raises(SpeechDataMissingError, match="librispeech"):
            make_transcripts(tmp_path / "out.json", split)
