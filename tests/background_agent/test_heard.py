"""What the user has heard: what a model is told of it, and what is said again."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pydantic import JsonValue

from microturn.background_agent import LOCAL, ChatClient, Control, LoopEngine
from microturn.background_agent.heard import heard_note, words_sent
from microturn.background_agent.scripted_model import Say, ScriptedModel, scripted_model
from microturn.protocols import DelegationEvent, EventKind, Receipt, ReceiptState, Speech
from microturn.tools import ToolRegistry
from tests.background_agent.stand_ins import Sent, package

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

SENTENCE = "The machine costs 120 euros in the shop."


def said(seq: int, text: str, *, revision: int = 0, **speech: JsonValue) -> DelegationEvent:
    return DelegationEvent(
        task_id="t",
        attempt=1,
        seq=seq,
        kind="partial",
        revision=revision,
        speech=Speech.model_validate({"text": text, **speech}),
    )


def receipt(seq: int, state: ReceiptState, words_heard: int = 0) -> Receipt:
    return Receipt(task_id="t", seq=seq, state=state, words_heard=words_heard, session_ms=0)


@pytest.mark.parametrize(
    ("state", "words", "revision", "told", "is_coming"),
    [
        (None, 0, 0, "", True),
        (None, 0, 1, "", False),
        ("queued", 0, 0, "", True),
        ("queued", 0, 1, "", False),
        ("woven", 2, 0, "one two", True),
        ("woven", 2, 1, "one two", True),
        ("interrupted", 2, 0, "one two", True),
        ("interrupted", 2, 1, "one two", False),
        ("heard", 4, 0, "one two three four", False),
        ("heard", 0, 1, "one two three four", False),
        ("superseded", 0, 0, "", False),
        ("expired", 1, 0, "one", False),
        ("dropped", 3, 0, "one two three", False),
        ("dropped", 99, 0, "one two three four", False),
        ("dropped", -5, 0, "", False),
    ],
)
def test_each_state_says_what_was_told_and_what_is_coming(
    state: ReceiptState | None, words: int, revision: int, told: str, is_coming: bool
) -> None:
    receipts = {} if state is None else {1: receipt(1, state, words)}
    (sent,) = words_sent([said(1, "one two three four")], receipts, revision)
    assert (sent.told, sent.is_coming) == (told, is_coming)
    assert f"{sent.told} {sent.rest}".strip() == "one two three four"
    assert sent.counted == ("one two three four" if is_coming else told)


def test_waits_reminders_and_silent_words_are_no_answer() -> None:
    events = [
        said(1, "Let me look.", priority=-1),
        said(2, "Time is up.", not_before_ms=9000),
        said(3, "Gone.", mode="silent"),
        said(4, "It is blue."),
    ]
    assert [one.text for one in words_sent(events, {}, 0)] == ["It is blue."]


def test_a_settled_receipt_stays_and_words_are_not_unheard() -> None:
    first = receipt(1, "interrupted", 3)
    again = first.followed_by(receipt(1, "woven", 1))
    assert (again.state, again.words_heard) == ("woven", 3)
    settled = again.followed_by(receipt(1, "heard", 5))
    assert settled.followed_by(receipt(1, "queued", 0)) == settled


def test_a_model_is_told_each_fate_in_a_line_of_its_own() -> None:
    events = [
        said(1, "One is told."),
        said(2, "Two is cut off."),
        said(3, "Three waits."),
        said(4, "Four is gone."),
    ]
    receipts = {
        1: receipt(1, "heard", 3),
        2: receipt(2, "interrupted", 2),
        4: receipt(4, "superseded"),
    }
    assert heard_note(words_sent(events, receipts, 0), 500).splitlines() == [
        "The user was already told: One is told.",
        "The user was cut off after: Two is",
        "The user has not heard this yet, but will, so do not repeat it: cut off. Three waits.",
        "The user was not told this, so say it if it still holds: Four is gone.",
    ]
    assert heard_note([], 500) == ""


def test_a_long_note_is_cut() -> None:
    events = [said(1, "word " * 5000)]
    assert len(heard_note(words_sent(events, {}, 0), 500)) < 700


async def run(control: Control, *answers: str) -> tuple[list[tuple[EventKind, str]], ScriptedModel]:
    """Run the loop on answers of the model; returns the kinds and the words of its events."""
    sent = Sent()
    script = [Say(json.dumps({"final": answer})) for answer in answers]
    with TemporaryDirectory() as folder:
        async with (
            scripted_model(*script) as model,
            LoopEngine(ChatClient(model.url, "m"), LOCAL, data_dir=Path(folder)) as engine,
        ):
            await engine.run(package(), ToolRegistry(), sent, control)
    return [(event.kind, event.speech.text if event.speech else "") for event in sent.events], model


@pytest.mark.parametrize(
    ("state", "words", "is_said_again"),
    [
        (None, 0, False),
        ("queued", 0, False),
        ("woven", 3, False),
        ("heard", 8, False),
        ("interrupted", 3, False),
        ("superseded", 0, True),
        ("expired", 0, True),
        ("dropped", 2, True),
    ],
)
async def test_a_second_attempt_says_again_only_what_will_not_be_heard(
    state: ReceiptState | None, words: int, is_said_again: bool
) -> None:
    receipts = {} if state is None else {1: receipt(1, state, words)}
    events, _ = await run(Control(2, [said(1, SENTENCE)], receipts=receipts), SENTENCE)
    assert events == [("final", SENTENCE if is_said_again else "")]


async def test_a_corrected_run_says_again_what_the_correction_kept_from_being_said() -> None:
    control = Control(1, [said(1, SENTENCE), said(2, "It is blue.")], ["in euros please"])
    control.receipts[2] = receipt(2, "heard", 3)
    events, model = await run(control, f"{SENTENCE} It is blue.")
    assert events == [("partial", SENTENCE), ("final", "")]
    shown = model.messages()[-1][1]
    assert "The user was already told: It is blue." in shown
    assert f"The user was not told this, so say it if it still holds: {SENTENCE}" in shown
    assert shown.endswith("The user now says: in euros please")
