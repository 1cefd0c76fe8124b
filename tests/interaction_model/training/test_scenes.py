"""Scenes of every task: their targets keep the rules of the stage, and their truth comes from the events."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest

from microturn.interaction_model.native.emission import Words, read_emission
from microturn.interaction_model.native.grammar import AUDIO_TOKENS, MEL_BINS, pack, unpack
from microturn.interaction_model.native.vocabulary import THEMES
from microturn.interaction_model.training.cast import estimated_cast
from microturn.interaction_model.training.feature_shards import scene_sights
from microturn.interaction_model.training.mixing import DEFAULT_WEIGHTS, TASKS, Mixture
from microturn.interaction_model.training.scene import MICRO_TURN_MS, USER, OwnWord, Scene, Split, Talk
from microturn.interaction_model.training.stage import Stage, belongs_to

pytestmark = pytest.mark.unit

SEEDS = range(12)
SPLITS: tuple[Split, ...] = ("train", "test")
every_task = pytest.mark.parametrize("task", sorted(TASKS))


def drawn(task: str) -> list[Scene]:
    return [Mixture(estimated_cast(), split).scene_of(task, seed) for split in SPLITS for seed in SEEDS]


@cache
def scenes_of(task: str) -> list[Scene]:
    return drawn(task)


def ends_of(talk: Talk) -> list[tuple[int, str]]:
    spans = zip(talk.phrase.words, talk.phrase.spans_ms, strict=True)
    return [(talk.start_ms + end, word) for word, (_, end) in spans]


def is_met(scene: Scene, answers: tuple[Words, ...], window: tuple[int, int]) -> bool:
    said = [word.word for word in scene.speech]
    begins = [place for place, word in enumerate(scene.speech) if window[0] <= word.start_ms <= window[1]]
    return any(tuple(said[place : place + len(each)]) == each for place in begins for each in answers)


@every_task
def test_every_word_of_the_user_is_written_down_within_two_micro_turns_of_its_end(task: str) -> None:
    for scene in scenes_of(task):
        ended = sorted(pair for talk in scene.talks if talk.speaker == USER for pair in ends_of(talk))
        heard = [
            (turn, word) for turn, tokens in enumerate(scene.targets) for word in read_emission(tokens).heard
        ]
        assert [word for _, word in heard] == [word for _, word in ended]
        for (turn, _), (end, _) in zip(heard, ended, strict=True):
            assert 0 < (turn + 1) * MICRO_TURN_MS - end <= 2 * MICRO_TURN_MS


@every_task
def test_the_words_said_are_the_targets_and_do_not_overlap(task: str) -> None:
    for scene in scenes_of(task):
        said = [
            (turn, word) for turn, tokens in enumerate(scene.targets) for word in read_emission(tokens).said
        ]
        assert said == [(word.micro_turn, word.word) for word in scene.speech]
        for word in scene.speech:
            assert word.end_ms > word.start_ms
            assert MICRO_TURN_MS <= word.start_ms - word.micro_turn * MICRO_TURN_MS < 2 * MICRO_TURN_MS
        for one, following in zip(scene.speech[:-1], scene.speech[1:], strict=True):
            assert one.end_ms <= following.start_ms


@every_task
def test_what_is_due_is_said_in_its_window(task: str) -> None:
    for scene in scenes_of(task):
        for due in scene.due:
            assert is_met(scene, due.answers, due.window_ms), (scene.seed, due)


@every_task
def test_every_scene_packs_and_comes_back(task: str) -> None:
    for scene in scenes_of(task):
        levels = np.zeros((AUDIO_TOKENS * scene.micro_turns, MEL_BINS), dtype=np.uint8)
        assert unpack(pack(scene.inputs(), scene.targets, levels)) == (scene.inputs(), list(scene.targets))


@every_task
def test_a_seed_gives_the_same_scene_again_and_another_seed_another(task: str) -> None:
    for first, again in zip(drawn(task), drawn(task), strict=True):
        assert first.talks == again.talks
        assert first.targets == again.targets
        assert first.noises == again.noises
        assert first.film == again.film
    assert len({(scene.talks, scene.noises, scene.targets) for scene in scenes_of(task)}) > len(SEEDS)


@every_task
def test_nobody_talks_beyond_the_end_of_a_scene(task: str) -> None:
    for scene in scenes_of(task):
        end = scene.micro_turns * MICRO_TURN_MS
        assert all(talk.end_ms < end for talk in scene.talks)
        assert all(word.end_ms < end for word in scene.speech)
        assert all(0 < noise.length_ms <= end - noise.start_ms for noise in scene.noises)
        assert all(0 <= turn < scene.micro_turns for turn in scene.arrivals)


@pytest.mark.parametrize("task", ["thinking_pause", "story", "bystanders"])
def test_nothing_is_said_in_a_pause_or_to_other_people(task: str) -> None:
    for scene in scenes_of(task):
        for moment in scene.moments:
            if moment.kind in ("pause", "others"):
                assert not any(moment.start_ms < word.start_ms < moment.end_ms for word in scene.speech)


def test_an_interruption_ends_speech_by_the_micro_turn_after_the_one_it_begins_in() -> None:
    cut = 0
    for scene in scenes_of("interruption"):
        begin, end = next((m.start_ms, m.end_ms) for m in scene.moments if m.kind == "interruption")
        # What micro-turn k + 1 decides is heard from its end on, and is silence.
        silent_from = (begin // MICRO_TURN_MS + 2) * MICRO_TURN_MS
        going_on = [word for word in scene.speech if word.start_ms <= end]
        cut += any(word.end_ms == silent_from for word in going_on)
        assert any(word.end_ms > begin for word in going_on)
        assert all(word.end_ms <= silent_from for word in going_on)
    assert cut


def test_the_assistant_speaks_on_through_backchannels() -> None:
    count = 0
    for scene in scenes_of("user_backchannel"):
        for moment in scene.moments:
            if moment.kind == "backchannel":
                count += 1
                assert any(word.start_ms > moment.end_ms for word in scene.speech)
    assert count


def test_backchannels_are_given_in_silence_after_a_sentence_only() -> None:
    given = 0
    for scene in scenes_of("story"):
        for turn, tokens in enumerate(scene.targets):
            if read_emission(tokens).backchannel:
                given += 1
                begin, end = turn * MICRO_TURN_MS, (turn + 1) * MICRO_TURN_MS
                assert not any(
                    talk.start_ms < end and talk.end_ms > begin - MICRO_TURN_MS for talk in scene.talks
                )
    assert given


def test_nothing_is_said_or_written_down_when_nobody_talks() -> None:
    for scene in scenes_of("quiet"):
        assert scene.noises
        assert not any(scene.targets)


def test_cues_are_answered_while_the_user_goes_on() -> None:
    answered = 0
    for scene in scenes_of("cue"):
        last_end = max(talk.end_ms for talk in scene.talks)
        for due in scene.due:
            if due.kind == "cue":
                answered += 1
                assert due.window_ms[0] < last_end
    assert answered > len(SEEDS)


def test_words_of_the_clock_are_heard_within_half_a_micro_turn_of_their_time() -> None:
    for task in ("clock_once", "clock_every"):
        for scene in scenes_of(task):
            for due in scene.due:
                if due.kind == "clock":
                    target = sum(due.window_ms) // 2
                    assert min(abs(word.start_ms - target) for word in scene.speech) <= MICRO_TURN_MS // 2


def test_results_are_said_after_they_arrive_and_never_over_the_user() -> None:
    told = 0
    for scene in scenes_of("errand") + scenes_of("corrected_errand"):
        (arrived, inputs), *others = (
            (turn, each) for turn, each in scene.arrivals.items() if each.background
        )
        assert not others
        start = _begin_of(scene.speech, inputs.background[0])
        told += 1
        assert start >= (arrived + 1) * MICRO_TURN_MS
        assert not any(talk.start_ms <= start < talk.end_ms for talk in scene.talks)
        assert not any(talk.start_ms > start for talk in scene.talks)
    assert told == 2 * len(SPLITS) * len(SEEDS)


def _begin_of(speech: tuple[OwnWord, ...], words: Words) -> int:
    said = [word.word for word in speech]
    places = [place for place in range(len(said)) if tuple(said[place : place + len(words)]) == words]
    return speech[places[-1]].start_ms


def test_tasks_and_cancellations_stand_in_the_targets() -> None:
    for scene in scenes_of("corrected_errand") + scenes_of("cancelled_errand") + scenes_of("errand"):
        read = [read_emission(tokens) for tokens in scene.targets]
        assert scene.tasks == tuple((turn, task) for turn, each in enumerate(read) for task in each.tasks)
        assert scene.cancels == tuple(turn for turn, each in enumerate(read) if each.cancels)
        assert scene.tasks and (scene.task == "errand") == (not scene.cancels)


def test_the_splits_share_no_whole_turn_but_greetings_and_single_digits() -> None:
    turns: dict[Split, set[Words]] = {}
    for split in SPLITS:
        mixture = Mixture(estimated_cast(), split)
        scenes = (mixture.scene_of(task, seed) for task in TASKS for seed in range(25))
        turns[split] = {words for scene in scenes for words in _whole_turns(scene)}
    shared = turns["train"] & turns["test"]
    greetings = {("hello",), ("goodbye",), ("thanks",), ("good", "morning"), ("good", "evening")}
    assert shared <= greetings | {(digit,) for digit in THEMES["units"]}


def _whole_turns(scene: Scene) -> list[Words]:
    talks = [talk for talk in scene.talks if talk.speaker == USER]
    return [
        tuple(word for talk in talks if m.start_ms <= talk.start_ms < m.end_ms for word in talk.phrase.words)
        for m in scene.moments
        if m.kind == "turn"
    ]


def test_a_content_belongs_to_one_split() -> None:
    contents = [("red", str(number)) for number in range(500)]
    held_out = [belongs_to("test", content) for content in contents]
    assert [belongs_to("train", content) for content in contents] == [not each for each in held_out]
    assert 60 < sum(held_out) < 140


def test_contents_too_few_to_split_are_an_error_and_not_an_endless_search() -> None:
    content = next(("red", str(n)) for n in range(50) if belongs_to("test", ("red", str(n))))
    stage = Stage("echo", "train", 0, estimated_cast())
    with pytest.raises(ValueError, match="none was of the split 'train'"):
        stage.own_content(lambda: content)


def test_the_mixture_follows_its_weights_and_its_seeds() -> None:
    mixture = Mixture(estimated_cast(), "train", {"quiet": 3.0, "memory": 1.0, "story": 0.0})
    counted = Counter(mixture.scene(seed).task for seed in range(300))
    assert set(counted) == {"quiet", "memory"}
    assert 190 < counted["quiet"] < 260
    following = mixture.scenes(first=7)
    assert [next(following).targets for _ in range(3)] == [mixture.scene(seed).targets for seed in (7, 8, 9)]


def test_every_task_is_in_the_default_mixture() -> None:
    assert set(DEFAULT_WEIGHTS) == set(TASKS)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"singing": 1.0}, r"unknown tasks \['singing'\]"),
        ({"quiet": -1.0}, "must be 0 or more"),
        ({"quiet": 0.0}, "not all 0"),
        ({}, "not all 0"),
    ],
)
def test_impossible_weights_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture(estimated_cast(), "train", weights)


@pytest.mark.parametrize(
    ("split", "share", "fewest", "most"),
    [("train", None, 40, 80), ("test", None, 0, 0), ("test", 1.0, 200, 200), ("train", 0.0, 0, 0)],
)
def test_what_is_asked_for_is_written_in_the_share_of_its_task_or_of_the_train_split(
    split: Split, share: float | None, fewest: int, most: int
) -> None:
    written = 0
    for seed in range(200):
        stage = Stage("once", split, seed, estimated_cast())
        stage.ask(("hello",), written_share=share)
        scene = stage.finish()
        spoken = [("turn", talk.start_ms, talk.end_ms) for talk in scene.talks]
        assert [(each.kind, each.start_ms, each.end_ms) for each in scene.moments] == spoken
        assert len(scene.arrivals) + len(spoken) == 1
        written += len(scene.arrivals)
    assert fewest <= written <= most


def test_text_and_results_of_one_micro_turn_arrive_together() -> None:
    stage = Stage("conversation", "train", 0, estimated_cast())
    stage.now_ms = 1000
    stage.text(("hello",))
    assert stage.background(("it", "is", "ready"), 1100) == 5
    scene = stage.finish()
    assert scene.inputs()[5].text == ("hello",)
    assert scene.inputs()[5].background == (("it", "is", "ready"),)


def test_a_task_waits_for_a_micro_turn_with_room() -> None:
    stage = Stage("errand", "train", 0, estimated_cast())
    stage.now_ms = 1000
    for _ in range(2):
        stage.delegate(("flight", "paris", "today", "noon"))
    assert [turn for turn, _ in stage.finish().tasks] == [5, 6]


def test_an_intent_that_never_fits_is_an_error() -> None:
    stage = Stage("errand", "train", 0, estimated_cast())
    stage.delegate(("red",) * 7)
    with pytest.raises(ValueError, match="shorten the intent"):
        stage.finish()


def test_there_is_much_to_see_in_a_film_that_nobody_asked_about() -> None:
    things, actions = set(), set()
    for scene in scenes_of("looking_on"):
        assert scene.film is not None and not scene.due and not any(scene.targets)
        for seen in scene_sights(scene).values():
            things.update(set(seen.things.tolist()) - {0})
            actions.add(seen.movement)
    assert len(things) > 12 and len(actions) > 8
