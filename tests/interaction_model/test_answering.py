"""What counts as the answer to an open question, judged by the shipped router, and heard by the whole cascade."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from microturn.interaction_model import SessionConfig
from microturn.interaction_model.cascade import load_cascade
from microturn.interaction_model.cascade.dialogue import Dialogue
from microturn.interaction_model.cascade.model import CascadeModel
from microturn.interaction_model.cascade.router import IntentRouter, Replies
from microturn.interaction_model.cascade.sentence_embedding import SentenceEmbedder
from microturn.protocols import (
    INPUT_SAMPLES,
    Action,
    Answer,
    Cancel,
    Delegate,
    Dismiss,
    MicroTurnInput,
    OpenQuestion,
    Update,
)
from microturn.weights import locate

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def dialogue() -> Dialogue:
    return Dialogue(IntentRouter(SentenceEmbedder(locate("minilm"), locate("minilm-tokenizer"))), Replies())


@pytest.mark.parametrize(
    "text",
    [
        *("Yes.", "yes please", "No.", "No, don't.", "Okay.", "Mm-hmm.", "Sure.", "Go ahead.", "Right."),
        *("Not now.", "Anna.", "To Anna Smith.", "Four.", "For five people.", "The blue one."),
        *("No, I meant Paris.", "Yeah, but to Bob instead.", "Tomorrow at noon.", "the one from work"),
        *("No, stop.", "Yes, wait, no.", "do it", "I don't know."),
    ],
)
def test_what_follows_a_question_is_its_answer(dialogue: Dialogue, text: str) -> None:
    assert dialogue.answer("item", text, 5, 9).actions == (Answer("item", text, 5, 9),)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("What's the weather in Rome?", Delegate),
        ("Set a timer for ten minutes.", Delegate),
        ("Can you tell me what time it is in Tokyo?", Delegate),
        ("Stop.", Dismiss),
        ("Cancel everything.", Cancel),
        ("Never mind.", Cancel),
        ("Actually, I meant Paris.", Update),
    ],
)
def test_what_is_plainly_something_else_is_none(dialogue: Dialogue, text: str, kind: type[Action]) -> None:
    assert isinstance(dialogue.answer("item", text, 5, 9).actions[0], kind)


@pytest.mark.parametrize("text", ["Hang on a second.", "Can you repeat that?", "What did you say?"])
def test_a_moment_and_the_question_once_more_leave_it_open(dialogue: Dialogue, text: str) -> None:
    reaction = dialogue.answer("item", text, 5, 9, last_said="Shall I?")
    assert reaction.actions == ()
    assert reaction.hold_ms or reaction.say == "Shall I?"


@pytest.fixture(scope="module")
def model() -> Iterator[CascadeModel]:
    loaded = load_cascade()
    yield loaded
    loaded.close()


@pytest.mark.parametrize(("since_ms", "answers"), [(0, True), (10_000, False)])
def test_a_line_is_the_answer_only_after_the_question_was_understood(
    model: CascadeModel, since_ms: int, answers: bool
) -> None:
    session = model.open(SessionConfig(f"since {since_ms}"))
    question = OpenQuestion("item", since_ms)
    given = MicroTurnInput(0, np.zeros(INPUT_SAMPLES, np.float32), text=("yes",), question=question)
    (output,) = model.step([(session, given)])
    assert [type(action) for action in output.actions if isinstance(action, Answer)] == [Answer] * answers
