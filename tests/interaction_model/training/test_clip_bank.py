"""A bank of clips, made of tones."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import typer

from microturn.interaction_model.native.vocabulary import WORDS
from microturn.interaction_model.training import clip_bank
from microturn.interaction_model.training._errors import BankMismatchError, SpeechDataMissingError
from microturn.interaction_model.training.clip_bank import (
    MARGIN_SAMPLES,
    ClipBank,
    build,
    main,
    render_shard,
)
from microturn.interaction_model.training.clip_plan import (
    PHRASES_PER_SPEAKER,
    SPEAKERS_PER_WORD_SHARD,
    ClipPlan,
    Line,
)
from microturn.interaction_model.training.shard_folder import ShardFolder
from microturn.interaction_model.training.speakers import Engine, Speaker, Split
from microturn.interaction_model.training.utterances import trimmed
from tests.interaction_model.training.conftest import ToneSynthesizer

pytestmark = pytest.mark.unit

PLAN = ClipPlan(phrase_minutes=15, word_speakers=5, seed=1)
SMALL_PLAN = ClipPlan(phrase_minutes=1, word_speakers=0, seed=1)


@pytest.fixture
def spoken_by_tones(monkeypatch: pytest.MonkeyPatch, tones: ToneSynthesizer) -> ToneSynthesizer:
    """Let `build` speak in tones, and files be full after a second."""
    monkeypatch.setattr(clip_bank, "_synthesis", lambda engines: tones)
    monkeypatch.setattr(clip_bank, "SHARD_SAMPLES", 16_000)
    return tones


def test_a_plan_names_whole_files() -> None:
    assert PLAN.names() == ["words-0000", "words-0001", "phrases-0000", "phrases-0001"]


def test_a_file_of_words_has_every_word_by_each_of_its_speakers() -> None:
    lines = list(PLAN.lines("words-0001"))
    assert Counter(line.words for line in lines) == {(word,): SPEAKERS_PER_WORD_SHARD for word in WORDS}
    speakers = Counter(line.speaker.name for line in lines)
    assert set(speakers.values()) == {len(WORDS)} and len(speakers) == SPEAKERS_PER_WORD_SHARD


def test_speakers_of_phrases_take_turns() -> None:
    lines = list(islice(PLAN.lines("phrases-0000"), 5 * PHRASES_PER_SPEAKER))
    assert len({line.speaker.name for line in lines}) == 5
    assert len({line.seed for line in lines}) == len(lines)


def test_files_follow_from_the_plan_and_their_name_alone() -> None:
    longer = ClipPlan(phrase_minutes=100, word_speakers=9, seed=1)
    assert list(islice(longer.lines("phrases-0001"), 30)) == list(islice(PLAN.lines("phrases-0001"), 30))
    others = ClipPlan(15, 5, seed=2), ClipPlan(15, 5, seed=1, split=Split.HELD_OUT)
    for other in others:
        assert list(islice(other.lines("phrases-0001"), 30)) != list(islice(PLAN.lines("phrases-0001"), 30))
    assert list(islice(PLAN.lines("phrases-0000"), 30)) != list(islice(PLAN.lines("phrases-0001"), 30))


def test_a_bank_of_held_out_voices_has_no_others() -> None:
    plan = ClipPlan(10, 0, seed=1, split=Split.HELD_OUT, engines=(Engine.FLITE, Engine.HIBARI))
    lines = list(islice(plan.lines("phrases-0000"), 40 * PHRASES_PER_SPEAKER))
    assert {line.speaker.split for line in lines} == {Split.HELD_OUT}
    assert {line.speaker.engine for line in lines} == {Engine.FLITE, Engine.HIBARI}


def test_clips_are_read_as_they_were_said(tmp_path: Path, tones: ToneSynthesizer) -> None:
    speakers = Speaker(Engine.HIBARI, 1), Speaker(Engine.FLITE, 2)
    lines = [
        Line(("red", "ball"), speakers[0], 3),
        Line(("stop",), speakers[1], 4),
        Line(("the", "red", "cup"), speakers[0], 5),
    ]
    arrays, note = render_shard(lines, tones)
    ShardFolder(tmp_path, {}).write("words-0000", arrays, note)
    bank = ClipBank(tmp_path)
    assert len(bank) == 3 and list(bank.phrases) == [0, 2] and list(bank.alone("stop")) == [1]
    for clip, line in enumerate(lines):
        said = trimmed(tones.say(line.words, line.speaker, line.seed), MARGIN_SAMPLES)
        read = bank.clip(clip)
        assert read.words == said.words and bank.words(clip) == line.words
        assert read.speaker == bank.speaker(clip) == line.speaker.name
        assert read.audio.dtype == np.float32 and np.allclose(read.audio, said.audio, atol=1 / 32767)


def test_indices_run_over_all_files(tmp_path: Path, spoken_by_tones: ToneSynthesizer) -> None:
    build(ClipPlan(30, 0, seed=1), tmp_path)
    bank = ClipBank(tmp_path)
    lengths = [bank.clip(clip).audio.size for clip in range(len(bank))]
    assert sum(lengths) / 16_000 / 3600 == pytest.approx(bank.hours)
    assert 3 <= sum(lengths) / 16_000 < 7
    with pytest.raises(IndexError):
        bank.clip(len(bank))


def test_two_builds_give_the_same_bytes(tmp_path: Path, spoken_by_tones: ToneSynthesizer) -> None:
    for name in ("a", "b"):
        build(SMALL_PLAN, tmp_path / name)
    first, second = ((tmp_path / name / "phrases-0000.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second


def test_a_killed_build_goes_on_where_it_was(
    tmp_path: Path, spoken_by_tones: ToneSynthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ClipPlan(30, 0, seed=1)
    build(plan, tmp_path / "whole")
    written = ShardFolder.write

    def killed_at_the_second(self: ShardFolder, name: str, *rest: object) -> None:
        if name.endswith("1"):
            raise KeyboardInterrupt
        written(self, name, *rest)  # type: ignore[arg-type]  # passed on as they came

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ShardFolder, "write", killed_at_the_second)
        build(plan, tmp_path / "killed")
    assert len(ClipBank(tmp_path / "killed").phrases) > 0
    before = spoken_by_tones.calls
    build(plan, tmp_path / "killed")
    files = [
        sorted(file.read_bytes() for file in (tmp_path / name).iterdir()) for name in ("whole", "killed")
    ]
    assert files[0] == files[1] and len(files[0]) == 4
    after = spoken_by_tones.calls
    build(plan, tmp_path / "killed")
    assert spoken_by_tones.calls == after > before


def test_a_longer_build_keeps_what_is_there(tmp_path: Path, spoken_by_tones: ToneSynthesizer) -> None:
    build(ClipPlan(10, 0, seed=1), tmp_path)
    first = (tmp_path / "phrases-0000.safetensors").stat().st_mtime_ns
    build(ClipPlan(20, 0, seed=1), tmp_path)
    assert (tmp_path / "phrases-0000.safetensors").stat().st_mtime_ns == first
    assert (tmp_path / "phrases-0001.safetensors").exists()


def test_a_bank_of_another_seed_is_not_added_to(tmp_path: Path, spoken_by_tones: ToneSynthesizer) -> None:
    build(SMALL_PLAN, tmp_path)
    with pytest.raises(BankMismatchError, match="seed"):
        build(ClipPlan(1, 0, seed=2), tmp_path)


def test_an_empty_folder_is_no_bank(tmp_path: Path) -> None:
    with pytest.raises(SpeechDataMissingError, match="bank of clips"):
        ClipBank(tmp_path)


def test_the_command_makes_a_bank_and_says_what_is_in_it(
    tmp_path: Path, spoken_by_tones: ToneSynthesizer, capsys: pytest.CaptureFixture[str]
) -> None:
    main(tmp_path, minutes=1, word_speakers=0, seed=1)
    bank = ClipBank(tmp_path)
    assert f"{len(bank)} clips" in capsys.readouterr().out
    with pytest.raises(typer.Exit):
        main(tmp_path, minutes=1, word_speakers=0, seed=2)
    assert '"seed": 1' in capsys.readouterr().err
