"""The judge of turn ends on evidence that can be read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from microturn.interaction_model._errors import WeightsMismatchError
from microturn.interaction_model.cascade.turn_end import (
    OVERSHOOT_MS,
    TurnEndJudge,
    TurnEndWeights,
    TurnEvidence,
    describe,
)

pytestmark = pytest.mark.unit

FINISHED = TurnEvidence("What's the weather in Rome today?", -0.1, 0.98, 50.0)


@pytest.fixture(scope="module")
def judge() -> TurnEndJudge:
    return TurnEndJudge()


@pytest.mark.parametrize(
    "text", ["What's the weather in Rome today?", "Set a timer for ten minutes.", "Stop."]
)
def test_what_sounds_finished_is_answered_at_once(judge: TurnEndJudge, text: str) -> None:
    verdict = judge.judge(replace(FINISHED, text=text))
    assert verdict.finished > 0.7
    assert verdict.wait_ms <= 300


@pytest.mark.parametrize(
    "text",
    ["What's the weather in", "Set a timer for um", "When I get home,", "I would like to book a", "Call my"],
)
def test_what_goes_on_is_waited_for(judge: TurnEndJudge, text: str) -> None:
    verdict = judge.judge(TurnEvidence(text, -0.3, 0.1, 50.0))
    assert verdict.finished < 0.3
    assert verdict.wait_ms >= 900


def test_the_sound_counts(judge: TurnEndJudge) -> None:
    chances = [judge.judge(replace(FINISHED, sound=sound)).finished for sound in (0.01, 0.3, 0.7, 0.99)]
    assert chances == sorted(chances)
    assert chances[0] < chances[-1] - 0.1


def test_without_the_sound_the_words_decide(judge: TurnEndJudge) -> None:
    done = judge.judge(replace(FINISHED, sound=None)).finished
    open_ = judge.judge(replace(FINISHED, text="What's the weather in the", sound=None)).finished
    assert done > open_ + 0.3


def test_a_wait_grows_as_the_chance_falls() -> None:
    waits = TurnEndWeights.read().waits
    assert [least for least, _ in waits] == sorted((least for least, _ in waits), reverse=True)
    assert [wait for _, wait in waits] == sorted(wait for _, wait in waits)
    assert waits[-1][0] == 0


def test_evidence_that_missed_the_last_words_is_not_whole() -> None:
    assert FINISHED.is_whole
    assert replace(FINISHED, age_ms=-OVERSHOOT_MS).is_whole
    assert not replace(FINISHED, age_ms=-OVERSHOOT_MS - 1).is_whole


def test_extreme_numbers_stay_in_bounds(judge: TurnEndJudge) -> None:
    for evidence in (TurnEvidence("", 0.0, 0.0, -1e9), TurnEvidence("a", -1e9, 1.0, 1e9)):
        assert all(abs(value) < 10 for value in describe(evidence).values())
        assert 0 < judge.judge(evidence).finished < 1


def test_weights_of_other_observations_are_refused(tmp_path: Path) -> None:
    read = json.loads(TurnEndWeights.read().model_dump_json())
    del read["weights"]["ends in an article"]
    path = tmp_path / "turn_end.json"
    path.write_text(json.dumps(read))
    with pytest.raises(WeightsMismatchError, match="ends in an article"):
        TurnEndWeights.read(path)
    path.write_text("{}")
    with pytest.raises(WeightsMismatchError, match="turn judge"):
        TurnEndWeights.read(path)
