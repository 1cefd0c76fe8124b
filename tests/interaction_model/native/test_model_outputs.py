"""What the emissions of the native model become: speech, transcripts, actions and the floor."""

from __future__ import annotations

import numpy as np
import pytest

from microturn.interaction_model.native.vocabulary import Token
from microturn.protocols import (
    INPUT_SAMPLES,
    OUTPUT_LEAD_SAMPLES,
    OUTPUT_SAMPLES,
    Answer,
    Cancel,
    Delegate,
    Floor,
    MicroTurnInput,
    OpenQuestion,
    WovenText,
)
from tests.interaction_model.native.small_models import (
    ScriptedEmitter,
    hear,
    heard,
    opened,
    say,
    scripted,
    small_model,
)

pytestmark = pytest.mark.unit


def test_a_task_carries_its_words_and_the_time_of_the_turn() -> None:
    task = [Token.CANCEL, Token.DELEGATE, *hear("weather", "paris"), Token.END_DELEGATE]
    outputs = scripted({3: hear("weather", "in"), 4: [*hear("paris"), *task]}, {}, 6)
    assert outputs[4].actions == (
        Cancel(None, "the user called it off"),
        Delegate("weather paris", said_start_ms=200, said_end_ms=800),
    )
    texts = [(each.turn, each.text, each.final) for output in outputs for each in output.transcripts]
    assert texts == [(0, "weather in", False), (0, "weather in paris", True)]
    assert all(not output.actions for n, output in enumerate(outputs) if n != 4)


def test_a_broken_emission_is_repaired_and_counted() -> None:
    model = small_model()
    broken = [Token.DELEGATE, *hear("news"), Token.END_DELEGATE, Token.END_DELEGATE, Token.DELEGATE]
    model._emitter = ScriptedEmitter(model, {0: broken})
    session = opened(model)
    output = model.step([(session, heard(0))])[0]
    assert [action.intent for action in output.actions if isinstance(action, Delegate)] == ["news"]
    assert session.place.faults == 3


def test_a_turn_ends_after_a_second_without_a_word() -> None:
    outputs = scripted({2: hear("tell"), 6: hear("me"), 13: hear("now")}, {}, 20)
    texts = [(n, each.turn, each.text, each.final) for n, o in enumerate(outputs) for each in o.transcripts]
    assert texts == [
        (2, 0, "tell", False),
        (6, 0, "tell me", False),
        (11, 0, "tell me", True),
        (13, 1, "now", False),
        (18, 1, "now", True),
    ]
    assert [output.floor.user_finished for output in outputs[1:13]] == [True] + [False] * 9 + [True] * 2


def test_the_floor_goes_to_who_speaks() -> None:
    outputs = scripted({3: hear("hello"), 8: [*say("hello"), *hear("yes")]}, {}, 20)
    holders = [output.floor.holder for output in outputs]
    assert holders[2] is Floor.NOBODY
    assert holders[3:6] == [Floor.USER] * 3
    assert holders[6:8] == [Floor.NOBODY] * 2
    assert holders[8] is Floor.BOTH
    assert holders[-1] is Floor.NOBODY
    assert outputs[5].floor.since_ms == 800


def test_what_is_said_is_sound_with_words_at_their_times() -> None:
    outputs = scripted({2: say("it's", "seven"), 3: say("degrees")}, {}, 14)
    assert all(not output.audio.size for output in outputs[:2])
    assert len(outputs[2].audio) == OUTPUT_LEAD_SAMPLES + OUTPUT_SAMPLES
    assert not outputs[2].audio[:OUTPUT_LEAD_SAMPLES].any()
    assert all(len(output.audio) in (0, OUTPUT_SAMPLES) for output in outputs[3:])
    assert not outputs[-1].audio.size
    told = [(each.text, each.source) for output in outputs for each in output.utterances]
    assert told == [("it's seven", "reply"), ("degrees", "reply")]
    words = [(word.utterance_id, word.index, word.last) for output in outputs for word in output.words]
    assert words == [("utterance-0", 0, False), ("utterance-0", 1, True), ("utterance-1", 0, True)]
    starts = np.cumsum([0, *(len(output.audio) for output in outputs)])
    ends = [starts[n] + word.end_sample for n, output in enumerate(outputs) for word in output.words]
    assert ends == sorted(ends)
    begins = [starts[n] + each.start_sample for n, output in enumerate(outputs) for each in output.utterances]
    assert begins[1] == ends[1]


def test_a_sign_of_listening_is_given_only_where_nothing_is_said() -> None:
    alone = scripted({1: [Token.BACKCHANNEL]}, {}, 3)
    assert [(each.text, each.source) for each in alone[1].utterances] == [("hmm", "backchannel")]
    beside = scripted({1: say("it's", "seven", "degrees"), 2: [Token.BACKCHANNEL]}, {}, 14)
    assert all(each.source == "reply" for output in beside for each in output.utterances)


def test_what_is_being_said_is_broken_off_within_a_word() -> None:
    script = {1: say("it's", "seventeen", "degrees"), 3: [int(Token.HUSH)], 4: say("sorry")}
    outputs = scripted(script, {}, 16)
    assert [n for n, output in enumerate(outputs) if output.playout == "stop"] == [3]
    told = [each.text for output in outputs for each in output.utterances]
    assert told == ["it's seventeen degrees", "sorry"]
    ended = [(word.utterance_id, word.index) for output in outputs for word in output.words]
    assert ended[-1] == ("utterance-1", 0)
    assert ("utterance-0", 2) not in ended
    # What was ahead of the beat is discarded with the rest; it dies away ahead of the beat again.
    assert [len(output.audio) for output in outputs[3:5]] == [
        OUTPUT_SAMPLES + OUTPUT_LEAD_SAMPLES,
        OUTPUT_SAMPLES,
    ]


def test_what_is_said_beside_a_break_is_said_after_it() -> None:
    outputs = scripted({1: say("it's", "seventeen"), 2: [int(Token.HUSH), *say("okay")]}, {}, 12)
    told = [each.text for output in outputs for each in output.utterances]
    assert told == ["it's seventeen", "okay"]
    assert [word.utterance_id for output in outputs[2:] for word in output.words] == ["utterance-1"]


def test_nothing_to_break_off_is_no_harm() -> None:
    outputs = scripted({2: [int(Token.HUSH)]}, {}, 6)
    assert not any(output.audio.size or output.words for output in outputs)


def given_result(turn: int, text: str) -> dict[int, MicroTurnInput]:
    quiet = np.zeros(INPUT_SAMPLES, np.float32)
    return {turn: MicroTurnInput(turn, quiet, woven=(WovenText("item", text),))}


def test_after_missed_steps_speech_is_ahead_of_the_beat_again() -> None:
    late = MicroTurnInput(3, np.zeros(2 * INPUT_SAMPLES, np.float32))
    model = small_model()
    model._emitter = ScriptedEmitter(model, {1: say("it's", "seven", "degrees")})
    session = opened(model)
    quiet = np.zeros(INPUT_SAMPLES, np.float32)
    given = [MicroTurnInput(0, quiet), MicroTurnInput(1, quiet), late, MicroTurnInput(4, quiet)]
    lengths = [len(model.step([(session, each)])[0].audio) for each in given]
    with_lead = OUTPUT_SAMPLES + OUTPUT_LEAD_SAMPLES
    assert lengths == [0, with_lead, with_lead, OUTPUT_SAMPLES]


def test_a_result_that_is_never_begun_is_given_back() -> None:
    known = scripted({}, given_result(1, "it is sunny"), 40)
    assert [n for n, output in enumerate(known) if output.playout == "stop"] == [26]
    unknown = scripted({}, given_result(1, "xylophones abound"), 10)
    assert [n for n, output in enumerate(unknown) if output.playout == "stop"] == [2]


def test_what_the_user_says_after_a_question_answers_it() -> None:
    quiet = np.zeros(INPUT_SAMPLES, np.float32)
    asked = {n: MicroTurnInput(n, quiet, question=OpenQuestion("item", since_ms=1000)) for n in range(4, 30)}
    early = scripted({5: hear("yes")}, asked, 30)
    assert not any(output.actions for output in early)
    answered = scripted({8: hear("no"), 9: hear("thanks")}, asked, 30)
    assert [a for output in answered for a in output.actions] == [Answer("item", "no thanks", 1200, 1800)]
    asked[8] = MicroTurnInput(8, quiet, text=("Yes, please!",), question=OpenQuestion("item", 1000))
    typed = scripted({}, asked, 30)
    assert [a for output in typed for a in output.actions] == [Answer("item", "Yes, please!", 1800, 1800)]


def test_typed_lines_are_transcripts_of_their_own() -> None:
    quiet = np.zeros(INPUT_SAMPLES, np.float32)
    outputs = scripted({}, {1: MicroTurnInput(1, quiet, text=("hello", "Stop."))}, 3)
    told = [(each.turn, each.text, each.typed, each.final) for each in outputs[1].transcripts]
    assert told == [(1_000_000, "hello", True, True), (1_000_001, "Stop.", True, True)]
