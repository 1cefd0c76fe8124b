"""The exam: what should be said earns full marks, silence and chatter earn what they are worth."""

from __future__ import annotations

from functools import cache

import pytest

from microturn.interaction_model.native.vocabulary import Token, said_token
from microturn.interaction_model.training.cast import estimated_cast, estimated_word_ms
from microturn.interaction_model.training.exam import Marks, examine, joined, spoken_words
from microturn.interaction_model.training.mixing import TASKS, Mixture
from microturn.interaction_model.training.scene import Scene
from microturn.interaction_model.training.scorers import SpokenWord, mean

pytestmark = pytest.mark.unit

FULL = {
    "reply_hit",
    "clock_hit",
    "cue_hit",
    "result_hit",
    "count_hit",
    "span_hit",
    "count_obo",
    "backchannel_held",
}
NONE = {"pause_taken", "others_taken", "count_mae", "cue_false_alarms_per_minute"}


@cache
def scenes() -> list[Scene]:
    mixture = Mixture(estimated_cast(), "test")
    return [mixture.scene_of(task, seed) for task in TASKS for seed in range(8)]


def said_in(scene: Scene) -> list[SpokenWord]:
    return [SpokenWord(word.word, word.start_ms / 1000, word.end_ms / 1000) for word in scene.speech]


def means(marks: Marks) -> dict[str, float]:
    return {figure: each for figure, values in marks.items() if (each := mean(values)) is not None}


def test_what_should_be_said_earns_full_marks() -> None:
    figures = means(joined(examine(scene, said_in(scene)) for scene in scenes()))
    assert {figure: figures[figure] for figure in FULL} == dict.fromkeys(FULL, 1.0)
    assert {figure: figures[figure] for figure in NONE} == dict.fromkeys(NONE, 0.0)
    assert 0.2 <= figures["reply_latency_s"] <= 0.4
    assert 0.2 <= figures["stop_latency_s"] <= 0.4
    assert figures["watch_pauc"] > 0.9
    assert figures["span_tiou"] > 0.8
    assert set(figures) == FULL | NONE | {"reply_latency_s", "stop_latency_s", "watch_pauc", "span_tiou"}


def test_silence_earns_what_the_suites_say_it_is_worth() -> None:
    figures = means(joined(examine(scene, []) for scene in scenes()))
    assert {figures[figure] for figure in FULL} == {0.0}
    assert figures["watch_pauc"] == 0.25
    assert figures["span_tiou"] == 0.0
    assert figures["count_mae"] == 1.0
    assert figures["pause_taken"] == figures["others_taken"] == 0.0
    assert "reply_latency_s" not in figures


def test_chatter_earns_no_answers_and_takes_every_pause() -> None:
    marks = []
    for scene in scenes():
        length = scene.micro_turns
        chatter = [SpokenWord("tick", 0.2 * turn, 0.2 * turn + 0.2) for turn in range(length)]
        marks.append(examine(scene, chatter))
    figures = means(joined(marks))
    assert figures["reply_hit"] == figures["clock_hit"] == figures["count_obo"] == 0.0
    assert figures["pause_taken"] > 0.9
    assert figures["watch_pauc"] < 0.1
    assert figures["cue_false_alarms_per_minute"] > 200


def test_words_of_tokens_are_heard_when_the_scene_says() -> None:
    for scene in scenes():
        heard = spoken_words(scene.targets, estimated_word_ms)
        assert [(word.word, word.begin) for word in heard] == [
            (word.word, word.start_ms / 1000) for word in scene.speech
        ]


def test_words_that_are_broken_off_end_there_or_are_never_heard() -> None:
    say = [said_token(word) for word in ("seventeen", "degrees", "today")]
    outputs = [(), tuple(say), (), (Token.HUSH, said_token("sorry")), ()]
    heard = spoken_words(outputs, lambda word: 500)
    assert [(word.word, word.begin, word.end) for word in heard] == [
        ("seventeen", 0.4, 0.8),
        ("sorry", 0.8, 1.3),
    ]


def test_a_late_answer_is_no_hit() -> None:
    mixture = Mixture(estimated_cast(), "test", {"conversation": 1.0})
    for seed in range(5):
        scene = mixture.scene(seed)
        late = [SpokenWord(word.word, word.begin + 30, word.end + 30) for word in said_in(scene)]
        assert set(examine(scene, late)["reply_hit"]) == {0.0}


def test_one_answer_is_not_counted_for_two_reminders() -> None:
    mixture = Mixture(estimated_cast(), "test")
    scene = mixture.scene_of("clock_every", 2)
    reminders = [due for due in scene.due if due.kind == "clock"]
    first = [word for word in said_in(scene) if word.begin <= reminders[0].window_ms[1] / 1000]
    hits = examine(scene, first)["clock_hit"]
    assert sum(hits) == 1 and len(hits) == len(reminders) > 1
