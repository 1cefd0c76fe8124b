"""What is done about the words of a turn."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest

from microturn.interaction_model.cascade.dialogue import HOLD_MS, Dialogue
from microturn.interaction_model.cascade.router import Replies
from microturn.protocols import Cancel, Delegate, Dismiss, Resume, Update

pytestmark = pytest.mark.unit


@dataclass(frozen=True)
class Routed:
    intent: str
    is_certain: bool = True


class ByName:
    """Routes a text to the intent that it names."""

    def route(self, text: str) -> Routed:
        return Routed(text)


def dialogue(seed: int = 0) -> Dialogue:
    return Dialogue(ByName(), Replies(), seed)


def test_a_request_is_handed_over_and_opened_with_a_short_phrase() -> None:
    reaction = dialogue().react("delegate", 100, 900)
    assert reaction.actions == (Delegate("delegate", 100, 900),)
    assert reaction.source == "filler"
    assert 0 < len(reaction.say.split()) <= 8


def test_small_talk_is_answered_without_the_background() -> None:
    reaction = dialogue().react("thanks", 0, 1)
    assert reaction.say
    assert reaction.actions == ()


def test_the_same_reply_does_not_come_twice_running() -> None:
    said = dialogue()
    replies = [said.react("delegate", 0, 1).say for _ in range(20)]
    assert all(a != b for a, b in pairwise(replies))


def test_two_sessions_with_the_same_seed_say_the_same() -> None:
    first, second = dialogue(3), dialogue(3)
    for intent in ("greeting", "delegate", "greeting", "small_remark", "delegate"):
        assert first.react(intent, 0, 1) == second.react(intent, 0, 1)


def test_a_backchannel_takes_no_floor_and_gets_no_answer() -> None:
    reaction = dialogue().react("backchannel", 0, 1)
    assert not reaction.takes_floor
    assert reaction.say == ""


def test_asking_for_a_moment_holds_results_back() -> None:
    assert dialogue().react("wait", 0, 1).hold_ms == HOLD_MS


def test_stopping_drops_the_rest_and_cancelling_the_tasks_too() -> None:
    assert dialogue().react("stop", 0, 1).actions == (Dismiss(),)
    assert [type(a) for a in dialogue().react("cancel_task", 0, 1).actions] == [Cancel, Dismiss]


def test_going_on_is_left_to_the_weaver() -> None:
    reaction = dialogue().react("resume", 0, 1)
    assert reaction.actions == (Resume(),)
    assert reaction.say == ""


def test_a_correction_changes_the_newest_task() -> None:
    assert dialogue().react("correction", 5, 6).actions == (Update(None, "correction", 5, 6),)


def test_repeating_says_the_last_words_again() -> None:
    assert dialogue().react("repeat", 0, 1, last_said="It is raining.").say == "It is raining."


def test_the_completed_words_of_a_request_replace_it() -> None:
    (action,) = dialogue().complete("what is six times seven", 0, 10).actions
    assert isinstance(action, Delegate)
    assert action.completes_last


class ByTable:
    """Routes each text to an intent, or doubts."""

    def __init__(self, intent: str, *, is_certain: bool = True) -> None:
        self._routed = Routed(intent, is_certain)

    def route(self, text: str) -> Routed:
        return self._routed


def answered(text: str, intent: str, *, is_certain: bool = True) -> str:
    """What a text becomes while a question is open."""
    reaction = Dialogue(ByTable(intent, is_certain=is_certain), Replies()).answer("item", text, 5, 9)
    return reaction.intent


def test_whatever_is_not_plainly_something_else_answers_an_open_question() -> None:
    assert answered("to Anna", "delegate", is_certain=False) == "answer"
    assert answered("mm-hmm", "backchannel") == "answer"
    assert answered("thanks", "thanks") == "answer"
    assert answered("book it for five", "delegate") == "answer"
    assert answered("what time is it", "delegate") == "delegate"
    assert answered("what time is it", "delegate", is_certain=False) == "answer"


def test_a_yes_or_a_no_answers_whatever_follows_it() -> None:
    for intent in ("stop", "cancel_task", "wait", "correction", "delegate", "backchannel"):
        assert answered("No, something else", intent) == "answer"
        assert answered("yes - what is it", intent) == "answer"


def test_stops_moments_and_corrections_are_no_answers() -> None:
    for intent in ("stop", "cancel_task", "wait", "repeat", "correction"):
        assert answered("the other instead", intent) == intent
    assert answered("the other instead", "correction", is_certain=False) == "answer"
    assert answered("the blue one", "correction") == "answer"


@pytest.mark.parametrize(
    ("text", "agent"),
    [
        ("Think hard about why the sky is blue.", "deep"),
        ("What should I cook? Think it through carefully.", "deep"),
        ("please think very deeply: is it true", "deep"),
        ("Quickly, what's the capital of Portugal?", "fast"),
        ("Can you quickly look that up?", "fast"),
        ("tell me the time quickly please", "fast"),
        ("How quickly does light travel?", "default"),
        ("Which animal runs most quickly?", "default"),
        ("What do you think of hard rock?", "default"),
        ("I think it is hardly true", "default"),
        ("What time is it?", "default"),
    ],
)
def test_a_request_says_how_much_thought_it_wants(text: str, agent: str) -> None:
    reaction = Dialogue(ByTable("delegate"), Replies()).react(text, 0, 1)
    (action,) = reaction.actions
    assert isinstance(action, Delegate)
    assert action.agent == agent
