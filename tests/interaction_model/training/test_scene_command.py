"""The command that makes scenes, with tones for voices."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from microturn.interaction_model.native.emission import read_emission
from microturn.interaction_model.native.flow_head import FlowHeadConfig
from microturn.interaction_model.native.grammar import unpack
from microturn.interaction_model.native.mouth import Mouth
from microturn.interaction_model.native.voice_file import save_mouth
from microturn.interaction_model.training import clip_bank, scene_command, scene_maker
from microturn.interaction_model.training._errors import BadTrainConfigError, BankMismatchError
from microturn.interaction_model.training.clip_plan import ClipPlan
from microturn.interaction_model.training.forced_alignment import AlignedWord
from microturn.interaction_model.training.mixing import DEFAULT_WEIGHTS
from microturn.interaction_model.training.real_speech import VARIABLE, talk_files
from microturn.interaction_model.training.scene_maker import SceneMaker
from microturn.interaction_model.training.scene_plan import ScenePlan
from microturn.interaction_model.training.scene_shards import open_shards
from microturn.interaction_model.training.scene_statistics import count_scenes
from microturn.interaction_model.training.speakers import Split
from microturn.interaction_model.training.transcripts import Transcript, TranscriptFile
from tests.interaction_model.training.command_line import call
from tests.interaction_model.training.conftest import ToneSynthesizer

pytestmark = pytest.mark.unit

make = partial(call, "scenes", "--no-mouth-frames")
TURNS = 200


@pytest.fixture
def mouth(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    sizes = FlowHeadConfig(condition=8, width=32, inner=32, blocks=1, symbol=8, time=16)
    save_mouth(Mouth(sizes), tmp_path / "mouth.safetensors")
    return tmp_path / "mouth.safetensors"


@pytest.fixture(autouse=True)
def small_shards_of_tones(monkeypatch: pytest.MonkeyPatch, tones: ToneSynthesizer) -> None:
    """Let shards be full after 40 s."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(scene_maker, "_SHARD_TURNS", TURNS)
    monkeypatch.setattr(scene_command, "_maker", lambda plan: SceneMaker(plan, lambda _: tones))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.bin")}


def test_more_hours_are_added_and_a_shard_follows_from_its_number(mouth: Path, tmp_path: Path) -> None:
    output = make(tmp_path / "a", "--hours", "0.3", "--mouth", mouth)
    assert len(open_shards(tmp_path / "a" / "train")) == 1 and "MB an hour" in output
    make(tmp_path / "a", "--hours", "0.6", "--mouth", mouth)
    make(tmp_path / "b", "--hours", "0.6", "--mouth", mouth)
    first, second = (bytes_of(tmp_path / name) for name in "ab")
    assert len(first) == 2 and first == second
    assert len(set(first.values())) == 2
    with pytest.raises(BankMismatchError):
        make(tmp_path / "a", "--hours", "0.6", "--mouth", mouth, "--seed", "1")


def test_only_tasks_with_a_weight_come_up(mouth: Path, tmp_path: Path) -> None:
    plan = ScenePlan(mouth)
    others = [argument for task in plan.all_tasks for argument in ("--weight", f"{task}=0")]
    make(tmp_path, "--hours", "0.1", "--mouth", mouth, *others, "--weight", "digits=2", "--split", "test")
    counts = count_scenes(tmp_path / "test")
    assert list(counts) == ["digits"]
    (shard,) = open_shards(tmp_path / "test")
    assert counts["digits"].scenes == len(shard) and TURNS <= counts["digits"].micro_turns < 2 * TURNS
    emissions = [
        read_emission(tokens)
        for number in range(len(shard))
        for tokens in unpack(shard.scene(number).packed)[1]
    ]
    assert counts["digits"].heard == sum(len(each.heard) for each in emissions) > 0
    assert counts["digits"].said == sum(len(each.said) for each in emissions)


@pytest.mark.parametrize("share", ["0", "1"])
@pytest.mark.parametrize("task", ["clock_every", "conversation", "errand"])
def test_requests_are_typed_as_often_as_is_asked_for(
    mouth: Path, tmp_path: Path, share: str, task: str
) -> None:
    others = [f"--weight={name}=0" for name in DEFAULT_WEIGHTS if name != task]
    make(tmp_path, "--hours", "0.3", "--mouth", mouth, "--written-share", share, *others)
    [shard] = open_shards(tmp_path / "train")
    inputs = [unpack(shard.scene(number).packed)[0] for number in range(len(shard))]
    assert {any(turn.text for turn in scene) for scene in inputs} == {share == "1"}


def test_a_task_that_is_not_known_is_refused(mouth: Path, tmp_path: Path) -> None:
    for weight in ("dancing=1", "hearing=1", "digits=-1"):
        with pytest.raises(BadTrainConfigError):
            make(tmp_path, "--hours", "0.1", "--mouth", mouth, "--weight", weight)


def test_phrases_of_a_bank_are_heard_back_to_back(
    mouth: Path, tmp_path: Path, tones: ToneSynthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_bank, "_synthesis", lambda engines: tones)
    monkeypatch.setattr(clip_bank, "SHARD_SAMPLES", 160_000)
    clip_bank.build(ClipPlan(1, 0, seed=1), tmp_path / "bank")
    bank = clip_bank.ClipBank(tmp_path / "bank")
    known = {bank.words(clip) for clip in range(len(bank))}
    scene = SceneMaker(ScenePlan(mouth, bank=tmp_path / "bank", has_frames=False), lambda _: tones).scene_of(
        "hearing", 3
    )
    assert len(scene.talks) >= 4 and all(talk.phrase.words in known for talk in scene.talks)
    assert not scene.speech and not scene.due
    (turn,) = scene.arrivals
    assert "hear" in scene.arrivals[turn].text and turn * 200 < scene.talks[0].start_ms
    heard = [word for tokens in scene.targets for word in read_emission(tokens).heard]
    assert heard == [word for talk in scene.talks for word in talk.phrase.words]


def test_a_bank_of_the_other_split_is_refused(
    mouth: Path, tmp_path: Path, tones: ToneSynthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_bank, "_synthesis", lambda engines: tones)
    monkeypatch.setattr(clip_bank, "SHARD_SAMPLES", 16_000)
    clip_bank.build(ClipPlan(1, 0, seed=1, split=Split.HELD_OUT), tmp_path / "bank")
    with pytest.raises(BadTrainConfigError, match="bank"):
        SceneMaker(ScenePlan(mouth, bank=tmp_path / "bank", has_frames=False), lambda _: tones)


@pytest.fixture
def readers(tmp_path: Path) -> Path:
    """Recordings of ten digits of two people, one held out, and of talk of 30 people, with transcripts of those to train on."""
    folder = tmp_path / "people"
    (folder / "spoken-digits").mkdir(parents=True)
    (folder / "librispeech" / "speakers").mkdir(parents=True)
    tone = 0.2 * np.sin(np.arange(16 * 5500) * 0.3)
    for digit in range(10):
        for speaker in ("george", "lucas"):
            soundfile.write(folder / "spoken-digits" / f"{digit}_{speaker}_20.wav", tone[:4000], 8000)
    for talker in range(30):
        soundfile.write(folder / "librispeech" / "speakers" / f"{talker}-1-0000.flac", tone, 16_000)
    text = ("the", "castle", "was", "of", "stone")
    words = tuple(AlignedWord(word, 100 + 1000 * at, 1050 + 1000 * at, 0.1) for at, word in enumerate(text))
    files = {path.name: Transcript(words, text) for path in talk_files(Split.TRAIN, folder)}
    TranscriptFile(Split.TRAIN, "an ear", files).save(folder / "transcripts.json")
    return folder


def test_people_read_aloud_where_there_are_transcripts(
    mouth: Path, tmp_path: Path, readers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(readers))
    file = readers / "transcripts.json"
    tasks = ScenePlan(mouth, people=readers, transcripts=file).all_tasks
    only = [argument for task in tasks if task != "reading" for argument in ("--weight", f"{task}=0")]
    make(tmp_path / "out", "--hours", "0.1", "--mouth", mouth, "--transcripts", file, *only)
    counts = count_scenes(tmp_path / "out" / "train")
    assert list(counts) == ["reading"] and counts["reading"].said == 0
    (shard,) = open_shards(tmp_path / "out" / "train")
    for number in range(len(shard)):
        tokens = unpack(shard.scene(number).packed)[1]
        heard = tuple(word for turn in tokens for word in read_emission(turn).heard)
        assert heard and heard == ("the", "was", "of") * (len(heard) // 3)


def test_a_folder_without_transcripts_has_the_plan_that_it_had_before_there_were_any(
    mouth: Path, readers: Path
) -> None:
    without = ScenePlan(mouth, people=readers)
    beside = ScenePlan(mouth, people=readers, transcripts=readers / "transcripts.json")
    assert "transcripts" not in without.as_written and "reading" not in without.all_tasks
    assert beside.as_written["transcripts"] and beside.all_weights["reading"] > 0


def test_transcripts_of_the_other_split_or_without_recordings_are_refused(
    mouth: Path, readers: Path, tones: ToneSynthesizer
) -> None:
    file = readers / "transcripts.json"
    with pytest.raises(BadTrainConfigError, match="recordings"):
        ScenePlan(mouth, transcripts=file)
    plan = ScenePlan(mouth, split="test", people=readers, transcripts=file, has_frames=False)
    with pytest.raises(BadTrainConfigError, match="held-out people"):
        SceneMaker(plan, lambda _: tones)
