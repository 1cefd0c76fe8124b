"""The command that examines, with tones for voices and a network that has learned nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from microturn.interaction_model.native.checkpoint import save
from microturn.interaction_model.native.voice_file import save_mouth
from microturn.interaction_model.training import exam_command
from microturn.interaction_model.training.__main__ import app
from microturn.interaction_model.training._errors import BadTrainConfigError, SpeechDataMissingError
from microturn.interaction_model.training.exam_figures import PEOPLE
from microturn.interaction_model.training.exam_scenes import ExamPlan, ExamScenes, SceneRenderer
from microturn.interaction_model.training.real_speech import VARIABLE
from microturn.protocols import INPUT_SAMPLES
from tests.interaction_model.native.small_models import small_mouth, small_network
from tests.interaction_model.training.conftest import ToneSynthesizer

pytestmark = pytest.mark.unit


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
        exam_command,
        "ExamScenes",
        lambda plan: ExamScenes(plan, lambda each: SceneRenderer(each, lambda _: tones)),
    )


def call(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["exam", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_the_network_and_its_baselines_are_examined_on_the_same_scenes(
    network: Path, mouth: Path, tmp_path: Path
) -> None:
    tasks = ("--task", "conversation", "--task", "cue", "--task", "conversation")
    beside = [part for name in ("silence", "targets", "served", "okay") for part in ("--baseline", name)]
    out = tmp_path / "figures.jsonl"
    output = call(network, "--mouth", mouth, "--scenes", "2", *tasks, *beside, "--json", out)
    assert "cue: said in time" in output and "targets" in output
    about, *found = map(json.loads, out.read_text().splitlines())
    assert about["exam"]["scenes_of_each_task"] == 2 and about["exam"]["engines"] == ["flite"]

    def of(examinee: str, figure: str) -> dict[str, Any]:
        return next(
            each
            for each in found
            if (each["examinee"], each["figure"], each["tasks"]) == (examinee, figure, [])
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
        call(network, "--mouth", mouth, "--scenes", "1", "--task", PEOPLE)
    with pytest.raises(BadTrainConfigError, match="task"):
        call(network, "--mouth", mouth, "--task", "dancing")
    assert VARIABLE not in call(network, "--mouth", mouth, "--scenes", "1", "--task", "quiet")
