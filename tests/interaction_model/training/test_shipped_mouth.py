"""The mouth that the package carries: what it says in the demonstration is understood."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from microturn.interaction_model.native.loader import SHIPPED
from microturn.interaction_model.native.voice_file import MOUTH_FILE, load_mouth
from microturn.interaction_model.training.mouth_exam import MouthExam, say_phrase

pytestmark = pytest.mark.model

LABELS = Path(__file__).parents[3] / "examples/conversation/native.labels.json"


def test_a_recogniser_understands_the_lines_of_the_demonstration() -> None:
    mouth = load_mouth(SHIPPED / MOUTH_FILE)
    lines = json.loads(LABELS.read_text(encoding="utf-8"))["lines"]
    answers = [line["answer"].split() for line in lines if "answer" in line]
    errors = MouthExam().errors(answers, lambda words: say_phrase(mouth, words))
    assert errors.words >= 20
    assert errors.rate <= 0.15
