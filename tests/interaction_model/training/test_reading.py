"""Scenes of people who read aloud, with made-up transcripts and tones for words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from microturn.interaction_model.native.emission import read_emission
from microturn.interaction_model.native.vocabulary import WORDS
from microturn.interaction_model.training._errors import BadTrainConfigError
from microturn.interaction_model.training.cast import estimated_cast
from microturn.interaction_model.training.digit_people import SPEEDS
from microturn.interaction_model.training.forced_alignment import AlignedWord
from microturn.interaction_model.training.hearing_marks import PEOPLE_VOICE, voice_of
from microturn.interaction_model.training.reading_exam import ExamReadings
from microturn.interaction_model.training.reading_task import (
    PAUSE_MS,
    PREFIX,
    STRETCH_MS,
    TASK,
    Readers,
    Stretch,
    stretches,
)
from microturn.interaction_model.training.scene import Scene
from microturn.interaction_model.training.speakers import Split
from microturn.interaction_model.training.stage import Stage, turn_of
from microturn.interaction_model.training.transcripts import Transcript, TranscriptFile

pytestmark = pytest.mark.unit

WORD_MS = 300
TEXT = "the captain saw that it was a stone castle and not the small garden of my dear old friend peter"
SHORT_GAP, LONG_GAP = 20, 200


def said(text: str, gaps: dict[int, int], begin: int = 500) -> tuple[AlignedWord, ...]:
    """Words of equal length; a long gap stands before those places that are named."""
    words = []
    for place, word in enumerate(text.split()):
        begin += gaps.get(place, SHORT_GAP)
        words.append(AlignedWord(word, begin, begin + WORD_MS, 0.1))
        begin += WORD_MS
    return tuple(words)


def transcript(doubt: str = "") -> Transcript:
    words = said(TEXT, {5: LONG_GAP, 14: LONG_GAP})
    return Transcript(words, tuple("every" if each.word == doubt else each.word for each in words))


@pytest.fixture
def readers(tmp_path: Path) -> Readers:
    """Two recordings: a tone for each word, high if the word is of the vocabulary; one has no transcript."""
    words = transcript().words
    sound = np.zeros(16 * (words[-1].end_ms + 400), np.float32)
    for place, word in enumerate(words):
        time = np.arange(16 * WORD_MS) / 16_000
        sound[16 * word.begin_ms : 16 * word.end_ms] = 0.3 * np.sin(2 * np.pi * (400 + 20 * place) * time)
    for name in ("1-1-0000.flac", "2-1-0000.flac", "3-1-0000.flac"):
        soundfile.write(tmp_path / name, sound, 16_000)
    files = {"1-1-0000.flac": transcript(), "3-1-0000.flac": transcript(doubt="not")}
    return Readers(sorted(tmp_path.glob("*.flac")), files)


def scene_of(readers: Readers, seed: int) -> Scene:
    stage = Stage(TASK, "train", seed, estimated_cast())
    readers.read(stage)
    return stage.finish()


def test_a_stretch_goes_from_pause_to_pause_and_is_neither_short_nor_long() -> None:
    words = transcript().words
    found = stretches("x", transcript())
    assert {(each.first, each.end) for each in found} == {(0, 14), (0, 20), (5, 20)}
    for each in found:
        assert STRETCH_MS[0] <= words[each.end - 1].end_ms - words[each.first].begin_ms <= STRETCH_MS[1]
    assert SHORT_GAP < PAUSE_MS <= LONG_GAP


def test_a_stretch_holds_no_word_that_is_in_doubt() -> None:
    found = stretches("x", transcript(doubt="saw"))  # no word of the vocabulary, but heard as one
    assert {(each.first, each.end) for each in found} == {(5, 20)}
    assert not stretches("x", transcript(doubt="not"))


def test_a_stretch_without_a_word_of_the_vocabulary_is_of_no_use() -> None:
    text = "captain castle stone peter friend dear brother sister village horse"
    assert not stretches("x", Transcript(said(text + " wagon" * 6, {}), tuple((text + " wagon" * 6).split())))


def test_recordings_without_a_stretch_or_a_transcript_are_left_out(readers: Readers, tmp_path: Path) -> None:
    assert {each.recording for some in readers.stretches for each in some} == {"1-1-0000.flac"}
    with pytest.raises(ValueError, match="without doubt"):
        Readers([tmp_path / "3-1-0000.flac"], {"3-1-0000.flac": transcript(doubt="not")})
    with pytest.raises(ValueError, match="without doubt"):
        Readers([tmp_path / "2-1-0000.flac"], {"1-1-0000.flac": transcript()})


def test_only_words_of_the_vocabulary_are_written_down_a_micro_turn_after_their_end(readers: Readers) -> None:
    known = {"the", "that", "it", "was", "a", "and", "not", "small", "garden", "of", "my", "old"}
    for seed in range(6):
        scene = scene_of(readers, seed)
        assert scene.talks and not scene.speech and not scene.due
        (turn,) = scene.arrivals
        assert "hear" in scene.arrivals[turn].text and 200 * turn < scene.talks[0].start_ms
        expected: list[tuple[int, str]] = []
        for talk in scene.talks:
            _, _, speed, first, end = talk.phrase.clip.split(":")
            assert talk.phrase.words == tuple(w for w in TEXT.split()[int(first) : int(end)] if w in known)
            ends = (talk.start_ms + end_ms for _, end_ms in talk.phrase.spans_ms)
            expected += zip(map(turn_of, (end - 1 for end in ends)), talk.phrase.words, strict=True)
            assert int(speed) in SPEEDS
        heard = [(at - 1, w) for at, tokens in enumerate(scene.targets) for w in read_emission(tokens).heard]
        assert heard == expected
        assert voice_of(scene) == PEOPLE_VOICE and scene.talks[0].phrase.clip.startswith(f"{PREFIX}:")


@pytest.mark.parametrize("speed", [88, 100, 112])
def test_the_sound_of_a_word_lies_where_its_span_does_at_any_speed(readers: Readers, speed: int) -> None:
    phrase = readers.phrase(Stretch("1-1-0000.flac", 5, 20), speed)
    sound = readers.sound(phrase)
    places = [place for place, word in enumerate(TEXT.split()) if word in phrase.words and place >= 5]
    assert phrase.words == tuple(TEXT.split()[place] for place in places)
    for place, (begin, end) in zip(places, phrase.spans_ms, strict=True):
        assert end - begin == pytest.approx(WORD_MS * 100 / speed, abs=2)
        spectrum = np.abs(np.fft.rfft(sound[16 * begin : 16 * end] * np.hanning(16 * (end - begin))))
        pitch = np.argmax(spectrum) * 16_000 / (16 * (end - begin))
        assert pitch == pytest.approx((400 + 20 * place) * speed / 100, abs=8)


def test_words_that_are_not_written_down_are_part_of_the_talk_and_its_sound(readers: Readers) -> None:
    phrase = readers.phrase(Stretch("1-1-0000.flac", 5, 20), 100)
    assert phrase.words[-1] == "old" and phrase.tail_ms == 2 * (WORD_MS + SHORT_GAP)
    sound = readers.sound(phrase)
    assert phrase.length_ms <= sound.size / 16 <= phrase.length_ms + 100
    last = sound[16 * (phrase.length_ms - WORD_MS) : 16 * phrase.length_ms]
    assert np.sqrt(np.mean(np.square(last))) > 0.05


def test_recordings_to_examine_with_are_heard_whole_and_as_they_are(tmp_path: Path, readers: Readers) -> None:
    dev = tmp_path / "librispeech" / "dev"
    dev.mkdir(parents=True)
    names = ("1-1-0000.flac", "2-1-0000.flac", "3-1-0000.flac")
    for name in names:
        (tmp_path / name).rename(dev / name)
    (dev / "transcripts.tsv").write_text("".join(f"{name}\t{TEXT}\n" for name in names))
    nothing = Transcript(said("castle friend", {}), ("castle", "friend"))
    files = {names[0]: transcript(), names[1]: nothing, names[2]: transcript(doubt="not")}
    TranscriptFile(Split.HELD_OUT, "a text", files).save(tmp_path / "dev.json")
    readings = ExamReadings(tmp_path / "dev.json", tmp_path)
    scenes = [readings.rendered(number) for number in range(len(readings))]
    assert [each.scene.talks[0].phrase.clip for each in scenes] == [
        f"{PREFIX}:{name}:100:0:20" for name in (names[0], names[2])
    ]
    known = tuple(word for word in TEXT.split() if word in WORDS)
    for each in scenes:
        (talk,) = each.scene.talks
        assert talk.phrase.words == known and each.scene.split == "test"
        assert each.sound.size == 3200 * each.scene.micro_turns
        assert np.abs(each.sound[: 16 * (talk.start_ms - 10)]).max() < 1e-3
        assert np.abs(each.sound[16 * talk.start_ms : 16 * talk.end_ms]).max() > 0.05
    TranscriptFile(Split.TRAIN, "an ear", files).save(tmp_path / "train.json")
    with pytest.raises(BadTrainConfigError, match="held-out"):
        ExamReadings(tmp_path / "train.json", tmp_path)
    TranscriptFile(Split.HELD_OUT, "a text", {"9-9-0000.flac": transcript()}).save(tmp_path / "others.json")
    with pytest.raises(BadTrainConfigError, match="of the recordings that are there"):
        ExamReadings(tmp_path / "others.json", tmp_path)
