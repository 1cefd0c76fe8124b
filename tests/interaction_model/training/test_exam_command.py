"""The command that examines, with tones for voices and a network that has learned nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from microturn.interaction_model.native.checkpoint import save
from microturn.interaction_model.native.voice_file import save_mouth
from microturn.interaction_model.training import exam_sitting
from microturn.interaction_model.training._errors import BadTrainConfigError, SpeechDataMissingError
from microturn.interaction_model.training.exam_figures import PEOPLE, READINGS
from microturn.interaction_model.training.exam_markdown import markdown
from microturn.interaction_model.training.exam_scenes import (
    REHEARSALS_FROM,
    ExamPlan,
    ExamScenes,
    RenderedScene,
    SceneRenderer,
)
from microturn.interaction_model.training.forced_alignment import AlignedWord
from microturn.interaction_model.training.real_speech import VARIABLE
from microturn.interaction_model.training.scene import Scene, Split
from microturn.interaction_model.training.speakers import Speaker
from microturn.interaction_model.training.speakers import Split as Speakers
from microturn.interaction_model.training.transcripts import Transcript, TranscriptFile
from microturn.protocols import INPUT_SAMPLES
from tests.interaction_model.native.small_models import small_mouth, small_network
from tests.interaction_model.training.command_line import call
from tests.interaction_model.training.conftest import ToneSynthesizer

pytestmark = pytest.mark.unit

exam = partial(call, "exam")


@pytest.fixture
def mouth(tmp_path: Path) -> Path:
    save_mouth(small_mouth(), tmp_path / "mouth.safetensors")
    return tmp_path / "mouth.safetensors"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """It ends every micro-turn at once, so that the test is quick."""
    quiet = small_network()
    torch.nn.init.zeros_(quiet.lm_head.weight)
    save(quiet, tmp_path / "network.safetensors")
    return tmp_path / "network.safetensors"


@pytest.fixture(autouse=True)
def scenes_of_tones(monkeypatch: pytest.MonkeyPatch, tones: ToneSynthesizer) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(
        exam_sitting,
        "ExamScenes",
        lambda plan, load, readings: ExamScenes(
            plan, lambda each: SceneRenderer(each, lambda _: tones), readings
        ),
    )


def test_the_network_and_its_baselines_are_examined_on_the_same_scenes(
    network: Path, mouth: Path, tmp_path: Path
) -> None:
    tasks = ("--task", "conversation", "--task", "cue", "--task", "conversation")
    beside = [part for name in ("silence", "targets", "served", "okay") for part in ("--baseline", name)]
    out, card = tmp_path / "figures.jsonl", tmp_path / "card.md"
    output = exam(
        network, "--mouth", mouth, "--scenes", "2", *tasks, *beside, "--json", out, "--markdown", card
    )
    assert "cue: said in time" in output and "targets" in output
    assert card.read_text() == markdown(out.read_text().splitlines())
    about, *found = map(json.loads, out.read_text().splitlines())
    assert about["exam"]["scenes_of_each_task"] == 2 and about["exam"]["engines"] == ["flite"]
    assert about["exam"]["tasks"] == ["conversation", "cue"] and about["exam"]["readings_sha256"] is None

    def of(examinee: str, figure: str) -> dict[str, Any]:
        return next(
            each
            for each in found
            if (each["examinee"], each["figure"], each["scope"], each["tasks"])
            == (examinee, figure, "exam", [])
        )

    assert of("targets", "cue_hit")["value"] == 1.0 and of("targets", "cue_hit")["is_met"] is True
    assert of("targets", "reply_hit")["value"] == 1.0
    assert of("network", "cue_hit") == {**of("silence", "cue_hit"), "examinee": "network"}
    assert of("served", "word_error_rate")["value"] == 1.0
    assert of("okay", "answered")["value"] > 0 and of("okay", "reply_hit")["value"] < 1
    assert {each["scenes"] for each in found if each["figure"] == "cue_hit"} == {2}


def test_scenes_are_of_the_test_split_and_follow_from_seed_and_number(
    mouth: Path, tones: ToneSynthesizer
) -> None:
    def drawn(seed: int) -> ExamScenes:
        plan = ExamPlan(mouth, tasks=("cue",), scenes=3, seed=seed)
        return ExamScenes(plan, lambda each: SceneRenderer(each, lambda _: tones))

    (first, second), (third,) = drawn(1).batches("cue", 2)
    again = drawn(1).rendered("cue", 2)
    assert third.scene.targets == again.scene.targets and (third.sound == again.sound).all()
    assert first.scene.split == "test" and first.scene.targets != second.scene.targets
    assert drawn(2).rendered("cue", 2).scene.targets != third.scene.targets
    assert third.sound.shape == (third.scene.micro_turns * INPUT_SAMPLES,)
    assert len(third.stored().packed.levels) == 4 * third.scene.micro_turns


def test_digits_of_people_are_left_out_aloud_and_missing_ones_are_an_error(
    network: Path, mouth: Path
) -> None:
    with pytest.raises(SpeechDataMissingError):
        exam(network, "--mouth", mouth, "--scenes", "1", "--task", PEOPLE)
    with pytest.raises(BadTrainConfigError, match="task"):
        exam(network, "--mouth", mouth, "--task", "dancing")
    assert VARIABLE not in exam(network, "--mouth", mouth, "--scenes", "1", "--task", "quiet")


def test_the_network_sits_beside_itself_with_another_choice_of_tokens(mouth: Path, tmp_path: Path) -> None:
    """Where END is one of 500 tokens, all about as likely, a low limit for it ends every micro-turn at once."""
    torch.manual_seed(0)
    save(small_network(), tmp_path / "network.safetensors")
    out = tmp_path / "figures.jsonl"
    options = ("--scenes", "1", "--task", "quiet", "--end-below", "0.0001", "--json", out)
    exam(tmp_path / "network.safetensors", "--mouth", mouth, *options)
    _, *found = map(json.loads, out.read_text().splitlines())
    vain = {
        each["examinee"]: each["value"]
        for each in found
        if each["figure"] == "heard_in_vain_per_minute" and each["scope"] == "exam"
    }
    assert vain["network"] > 0 and vain["END below 0.0001"] == 0.0
    with pytest.raises(BadTrainConfigError, match="limit of END"):
        exam(tmp_path / "network.safetensors", "--mouth", mouth, "--end-below", "0")


def test_a_rehearsal_has_scenes_of_the_train_split_that_no_training_has(
    mouth: Path, tones: ToneSynthesizer
) -> None:
    def drawn(split: Split) -> Scene:
        plan = ExamPlan(mouth, tasks=("conversation",), scenes=1, split=split)
        scenes = ExamScenes(plan, lambda each: SceneRenderer(each, lambda _: tones))
        return scenes.rendered("conversation", 0).scene

    rehearsed, examined = drawn("train"), drawn("test")
    assert (rehearsed.split, examined.split) == ("train", "test")
    assert rehearsed.seed >= REHEARSALS_FROM > examined.seed
    assert Speaker.named(rehearsed.talks[0].phrase.clip.partition("/")[0]).split is Speakers.TRAIN
    with pytest.raises(BadTrainConfigError, match="rehearsal"):
        ExamPlan(mouth, split="train", people=mouth.parent)


class Recordings:
    """Five scenes, told apart by their numbers."""

    def __init__(self, scene: RenderedScene) -> None:
        self._scene = scene

    def __len__(self) -> int:
        return 5

    def rendered(self, number: int) -> RenderedScene:
        return replace(self._scene, scene=replace(self._scene.scene, seed=number))


@pytest.mark.parametrize(("scenes", "read"), [(2, [0, 2]), (5, [0, 1, 2, 3, 4]), (40, [0, 1, 2, 3, 4])])
def test_of_many_readings_some_of_everybody_are_taken(
    mouth: Path, tones: ToneSynthesizer, scenes: int, read: list[int]
) -> None:
    plan = ExamPlan(mouth, tasks=("quiet",), scenes=scenes, readings=mouth)
    load = partial(SceneRenderer, load=lambda _: tones)
    some = ExamScenes(plan, load).rendered("quiet", 0)
    found = ExamScenes(plan, load, Recordings(some))
    assert plan.all_tasks == ("quiet", READINGS) and found.count("quiet") == scenes
    assert [each.scene.seed for batch in found.batches(READINGS, 2) for each in batch] == read


def test_what_people_read_is_a_figure_of_its_own(
    network: Path, mouth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = tmp_path / "librispeech" / "dev"
    dev.mkdir(parents=True)
    sound = 0.1 * np.sin(np.arange(72_000) / 5).astype(np.float32)
    soundfile.write(dev / "7-1-0000.flac", sound, 16_000)
    (dev / "transcripts.tsv").write_text("7-1-0000.flac\tONE RED WAGON\n")
    words = tuple(
        AlignedWord(word, 1500 * n, 1500 * n + 1200, 0.1) for n, word in enumerate(("one", "red", "wagon"))
    )
    file = TranscriptFile(
        Speakers.HELD_OUT, "a text", {"7-1-0000.flac": Transcript(words, ("one", "red", "wagon"))}
    )
    file.save(tmp_path / "dev.json")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    out = tmp_path / "figures.jsonl"
    tasks = ("--task", "conversation", "--task", READINGS)
    exam(
        network, "--mouth", mouth, "--scenes", "1", *tasks, "--readings", tmp_path / "dev.json", "--json", out
    )
    about, *found = map(json.loads, out.read_text().splitlines())
    assert len(about["exam"]["readings_sha256"]) == 64
    errors = [each for each in found if each["figure"] == "word_error_rate" and each["scope"] == "exam"]
    drawn, read = errors
    assert read["tasks"] == [READINGS] and read["title"] == "words of people reading: errors"
    assert (read["value"], read["scenes"]) == (1.0, 1) and drawn["tasks"] == [] and drawn["scenes"] == 1
    with pytest.raises(BadTrainConfigError, match="readings"):
        exam(network, "--mouth", mouth, "--task", READINGS)
