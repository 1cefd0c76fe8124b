"""The exam: what should be said earns full marks, silence and chatter earn what they are worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from microturn.interaction_model.native.vocabulary import Token, said_token
from microturn.interaction_model.training.cast import estimated_cast, estimated_word_ms
from microturn.interaction_model.training.conduct import Conduct, conduct_of, spoken_words
from microturn.interaction_model.training.exam import examine
from microturn.interaction_model.training.exam_figures import GOALS, OTHERS, Figure
from microturn.interaction_model.training.marks import estimate
from microturn.interaction_model.training.mixing import TASKS, Mixture
from microturn.interaction_model.training.scene import Due, Moment, Phrase, Scene, Talk
from microturn.interaction_model.training.scorers import SpokenWord
from tests.interaction_model.training.bare_scenes import scene_of

pytestmark = pytest.mark.unit

Figures = dict[str, float]
FULL = {
    "reply_hit",
    "clock_hit",
    "cue_hit",
    "result_hit",
    "count_hit",
    "span_hit",
    "count_obo",
    "backchannel_held",
    "decided_rightly",
    "delegated",
    "delegated_exactly",
    "answered",
    "cancelled",
    "sign_hit",
}
NONE = {
    "pause_taken",
    "turn_cut_off",
    "others_taken",
    "result_over_user",
    "count_mae",
    "cue_false_alarms_per_minute",
    "stray_words_per_minute",
    "false_delegations_per_minute",
    "false_cancels_per_minute",
    "false_signs_per_minute",
    "heard_in_vain_per_minute",
    "word_error_rate",
}
MEASURED = {"reply_latency_s", "stop_latency_s", "watch_pauc", "span_tiou", "heard_latency_turns"}


@cache
def scenes() -> list[Scene]:
    mixture = Mixture(estimated_cast(), "test")
    return [mixture.scene_of(task, seed) for task in TASKS for seed in range(8)]


def figures(behave: Callable[[Scene], Conduct]) -> Figures:
    """The figures of all scenes, whatever tasks they are taken from in a report."""
    marks = [examine(scene, behave(scene)) for scene in scenes()]
    found: Figures = {}
    for figure in (*GOALS, *OTHERS):
        if (value := estimate(figure.key, figure.statistic, marks)) is not None:
            found[figure.key] = value.value
    return found


def targets(scene: Scene) -> Conduct:
    return conduct_of(scene.targets, estimated_word_ms)


def delayed(conduct: Conduct, seconds: float) -> Conduct:
    later = tuple(replace(word, begin=word.begin + seconds, end=word.end + seconds) for word in conduct.said)
    return replace(conduct, said=later)


def saying(*words: tuple[str, float, float]) -> Conduct:
    return Conduct(tuple(SpokenWord(*word) for word in words))


def test_the_scenes_own_targets_earn_full_marks() -> None:
    found = figures(targets)
    assert {figure: found[figure] for figure in FULL} == dict.fromkeys(FULL, 1.0)
    assert {figure: found[figure] for figure in NONE} == dict.fromkeys(NONE, 0.0)
    assert 0.2 <= found["reply_latency_s"] <= 0.4 and 0.2 <= found["stop_latency_s"] <= 0.4
    assert found["watch_pauc"] > 0.9 and found["span_tiou"] > 0.8 and found["heard_latency_turns"] == 1
    assert set(found) == FULL | NONE | MEASURED


def test_silence_earns_what_the_suites_say_it_is_worth() -> None:
    found = figures(lambda scene: Conduct())
    assert {found[figure] for figure in FULL} == {0.0}
    assert found["watch_pauc"] == 0.25 and found["span_tiou"] == 0.0
    assert found["count_mae"] == found["word_error_rate"] == 1.0
    assert {found[figure] for figure in NONE - {"count_mae", "word_error_rate", "result_over_user"}} == {0.0}
    # What never happened has no time and no share.
    assert not {"reply_latency_s", "stop_latency_s", "heard_latency_turns", "result_over_user"} & set(found)


def test_chatter_earns_no_answers_and_takes_every_pause() -> None:
    def chatter(scene: Scene) -> Conduct:
        return saying(*(("tick", 0.2 * turn, 0.2 * turn + 0.2) for turn in range(scene.micro_turns)))

    found = figures(chatter)
    assert found["reply_hit"] == found["clock_hit"] == found["count_obo"] == found["delegated"] == 0.0
    assert found["pause_taken"] > 0.9 and found["turn_cut_off"] > 0.9 and found["watch_pauc"] < 0.1
    assert found["stray_words_per_minute"] > 200 and found["cue_false_alarms_per_minute"] > 200
    # Something is said after every request, which is all that this figure asks.
    assert found["answered"] == 1.0


def test_what_is_said_a_second_and_a_half_late_loses_clocks_cues_and_replies() -> None:
    found = figures(lambda scene: delayed(targets(scene), 1.5))
    assert found["clock_hit"] < 0.1 and found["reply_hit"] < 0.1 and found["count_hit"] < 0.5
    assert found["cue_hit"] < 0.1 and found["cue_false_alarms_per_minute"] > 1
    assert found["watch_pauc"] < 0.85
    # Hearing and handing over do not depend on when things are said.
    assert found["word_error_rate"] == 0.0 and found["delegated"] == 1.0


def test_delegating_everything_answers_nothing() -> None:
    def hand_over(scene: Scene) -> Conduct:
        return replace(targets(scene), tasks=tuple((turn, ("search",)) for turn in range(scene.micro_turns)))

    found = figures(hand_over)
    assert found["delegated"] == 1.0 and found["delegated_exactly"] == 0.0 and found["answered"] == 0.0
    assert found["decided_rightly"] < 0.2 and found["false_delegations_per_minute"] > 100


def test_words_of_tokens_are_heard_when_the_scene_says() -> None:
    for scene in scenes():
        heard = spoken_words(scene.targets, estimated_word_ms)
        assert [(word.word, word.begin) for word in heard] == [
            (word.word, word.start_ms / 1000) for word in scene.speech
        ]


def test_the_length_of_a_word_depends_on_the_one_that_it_follows_without_a_gap() -> None:
    asked: list[tuple[str, str | None]] = []

    def length(word: str, before: str | None) -> int:
        asked.append((word, before))
        return 300

    say = [(said_token(word),) for word in ("one", "two")]
    spoken_words([say[0], say[1], (), (), say[0], (Token.HUSH, *say[1])], length)
    assert asked == [("one", None), ("two", "one"), ("one", None), ("two", None)]


def test_words_that_are_broken_off_end_there_or_are_never_heard() -> None:
    say = [said_token(word) for word in ("seventeen", "degrees", "today")]
    outputs = [(), tuple(say), (), (Token.HUSH, said_token("sorry")), ()]
    heard = spoken_words(outputs, lambda word, before: 500)
    assert [(word.word, word.begin, word.end) for word in heard] == [
        ("seventeen", 0.4, 0.8),
        ("sorry", 0.8, 1.3),
    ]


def test_one_answer_is_not_counted_for_two_reminders() -> None:
    scene = Mixture(estimated_cast(), "test").scene_of("clock_every", 2)
    reminders = [due for due in scene.due if due.kind == "clock"]
    said = tuple(word for word in targets(scene).said if word.begin <= reminders[0].window_ms[1] / 1000)
    hits = [mark.value for mark in examine(scene, Conduct(said))["clock_hit"]]
    assert sum(hits) == 1 and len(hits) == len(reminders) > 1


def test_a_number_that_goes_on_to_a_longer_one_is_not_the_number() -> None:
    scene = scene_of(due=(Due("reply", (("twenty",),), (1000, 2000)),))
    assert examine(scene, saying(("twenty", 1.5, 1.8)))["reply_hit"] == [(1.0, 1.0)]
    assert examine(scene, saying(("twenty", 1.5, 1.8), ("one", 1.8, 2.0)))["reply_hit"] == [(0.0, 1.0)]
    assert examine(scene, saying(("twenty", 1.5, 1.8), ("one", 3.0, 3.2)))["reply_hit"] == [(1.0, 1.0)]
    counting = scene_of(due=(Due("reply", (("one",),), (1000, 2000)),))
    assert examine(counting, saying(("one", 1.5, 1.8), ("two", 1.8, 2.0)))["reply_hit"] == [(1.0, 1.0)]


def test_a_wrong_word_in_the_window_of_a_cue_is_a_false_alarm() -> None:
    scene = scene_of(due=(Due("cue", (("seven",),), (1000, 2200)),))
    for word, hits, alarms in (("seven", 1.0, 0.0), ("six", 0.0, 6.0)):
        marks = examine(scene, saying((word, 1.4, 1.7)))
        assert marks["cue_hit"][0].value == hits
        assert marks["cue_false_alarms_per_minute"][0].value == pytest.approx(alarms)


@pytest.mark.parametrize(("begin", "taken"), [(0.9, 0.0), (1.2, 1.0), (1.9, 1.0), (2.7, 0.0)])
def test_an_answer_to_a_pause_cuts_off_even_if_it_comes_when_the_user_goes_on(
    begin: float, taken: float
) -> None:
    moments = Moment("pause", 1000, 1400), Moment("turn", 0, 2500)
    marks = examine(scene_of(moments=moments), saying(("okay", begin, begin + 0.3)))
    assert [mark.value for mark in marks["pause_taken"]] == [taken]


def test_a_result_that_is_said_while_the_user_talks_is_over_them() -> None:
    talk = Talk(1000, 0, Phrase(("red",), ((0, 800),), "flite-000001/1/red"))
    scene = scene_of(talk, due=(Due("result", (("it", "is", "late"),), (500, 4000)),))
    for begin, over in ((1.5, 1.0), (2.0, 0.0)):
        words = (
            (word, begin + 0.2 * n, begin + 0.2 * n + 0.2) for n, word in enumerate(("it", "is", "late"))
        )
        marks = examine(scene, saying(*words))
        assert marks["result_hit"][0].value == 1.0 and marks["result_over_user"][0].value == over


def test_goals_are_met_from_their_side() -> None:
    low = estimate(
        "a", Figure("a", "a").statistic, [{"a": examine(scene_of(), Conduct())["stray_words_per_minute"]}]
    )
    assert low is not None and low.value == 0.0
    assert Figure("a", "a", at_most=0.1).is_met(low) is True
    assert Figure("a", "a", at_least=0.1).is_met(low) is False
    assert Figure("a", "a").is_met(low) is None
