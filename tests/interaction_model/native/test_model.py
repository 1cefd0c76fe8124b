"""The native model behind its interface: bits, memory, and what an emission becomes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch

from microturn.interaction_model import InteractionModel
from microturn.interaction_model._errors import BadSoundError
from microturn.interaction_model.native import (
    BadConfigError,
    BadFramesError,
    CheckpointMissingError,
    ClosedSessionError,
    CorruptCheckpointError,
    ForeignCheckpointError,
    NoShippedWeightsError,
    TooManySessionsError,
    loader,
)
from microturn.interaction_model.native import model as model_module
from microturn.interaction_model.native.checkpoint import save
from microturn.interaction_model.native.flow_head import FlowHeadConfig
from microturn.interaction_model.native.loader import MOUTH_FILE, NETWORK_FILE, load_native, ready
from microturn.interaction_model.native.model import NativeModel
from microturn.interaction_model.native.mouth import Mouth
from microturn.interaction_model.native.state_window import StateWindow
from microturn.interaction_model.native.vocabulary import Token, heard_token, said_token
from microturn.interaction_model.native.voice_file import save_mouth
from microturn.protocols import (
    INPUT_SAMPLES,
    OUTPUT_LEAD_SAMPLES,
    OUTPUT_SAMPLES,
    Answer,
    Cancel,
    Delegate,
    Floor,
    Frame,
    MicroTurnInput,
    MicroTurnOutput,
    OpenQuestion,
    WovenText,
)
from tests.interaction_model.native.small_models import (
    SMALL_WINDOW,
    ScriptedEmitter,
    assert_same,
    heard,
    hidden_now,
    opened,
    picture,
    run,
    small_model,
    small_mouth,
    small_network,
    sound,
)
from tests.interaction_model.native.small_networks import Name

pytestmark = pytest.mark.unit

TURNS = range(5)


@pytest.fixture(scope="module")
def model() -> NativeModel:
    return small_model()


@pytest.fixture(autouse=True)
def no_session_is_left(request: pytest.FixtureRequest) -> None:
    if "model" in request.fixturenames:
        request.getfixturevalue("model").close()


def scripted(
    script: Mapping[int, Sequence[int]], inputs: Mapping[int, MicroTurnInput], turns: int
) -> list[MicroTurnOutput]:
    """What a model gives out that emits a script; silence where no input is given."""
    model = small_model()
    model._emitter = ScriptedEmitter(model, script)
    session = opened(model)
    quiet = np.zeros(INPUT_SAMPLES, np.float32)
    return [
        model.step([(session, inputs.get(turn, MicroTurnInput(turn, quiet)))])[0] for turn in range(turns)
    ]


def say(*words: str) -> list[int]:
    return [said_token(word) for word in words]


def hear(*words: str) -> list[int]:
    return [heard_token(word) for word in words]


# Bits.


def test_it_is_an_interaction_model(model: NativeModel) -> None:
    served: InteractionModel = model
    served.settle()
    assert set(served.fingerprint) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")
    assert served.step([]) == []


@pytest.mark.parametrize(
    "name, dtype, temperature",
    [("dense", torch.float32, 0.0), ("sparse", torch.bfloat16, 1.0)],
)
def test_a_session_gives_the_same_bits_alone_and_in_company(
    name: Name, dtype: torch.dtype, temperature: float
) -> None:
    model = small_model(name, dtype, temperature=temperature)
    alone = {seed: run(model, opened(model, seed=seed), TURNS, seed) for seed in range(5)}
    model.close()
    assert any(output.audio.size for outputs in alone.values() for output in outputs)
    for company in (2, 5):
        sessions = [opened(model, f"{seed}", seed) for seed in range(company)]
        together: list[list[MicroTurnOutput]] = [[] for _ in sessions]
        for turn in TURNS:
            due = [(session, heard(turn, seed)) for seed, session in enumerate(sessions)]
            order = due if turn % 2 else due[::-1]
            outputs = model.step(order)
            for row, output in enumerate(outputs if turn % 2 else outputs[::-1]):
                together[row].append(output)
        for seed in range(company):
            assert_same(together[seed], alone[seed])
        model.close()


def test_a_session_that_is_replayed_gives_the_same_bits(model: NativeModel) -> None:
    first = run(model, opened(model, "first"), TURNS)
    other = small_model()
    assert other.fingerprint == model.fingerprint
    assert_same(run(other, opened(other, "again"), TURNS), first)


def test_no_bit_depends_on_the_number_of_threads(model: NativeModel) -> None:
    before = torch.get_num_threads()
    wide = small_model(threads=3)
    assert_same(run(wide, opened(wide), TURNS), run(model, opened(model), TURNS))
    assert torch.get_num_threads() == before


def test_no_bit_depends_on_how_many_tokens_are_computed_at_once(
    model: NativeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [MicroTurnInput(9, sound(1, 10), (picture(1),), ("hello there",)), heard(10)]
    whole = opened(model, "whole")
    wanted = [model.step([(whole, each)])[0] for each in given]
    for tokens in (1, 7):
        monkeypatch.setattr(model_module, "STEP_TOKENS", tokens)
        session = opened(model, f"{tokens}")
        assert_same([model.step([(session, each)])[0] for each in given], wanted)


def test_the_seed_decides_what_is_drawn() -> None:
    model = small_model(temperature=1.0)
    first, again, other = (run(model, opened(model, f"{n}", seed), TURNS) for n, seed in enumerate((1, 1, 2)))
    assert_same(first, again)
    assert [output.transcripts for output in first] != [output.transcripts for output in other]


@pytest.mark.parametrize("seed", [-1, 2**64 + 5])
def test_any_whole_number_is_a_seed(seed: int) -> None:
    model = small_model(temperature=1.0)
    assert len(run(model, opened(model, seed=seed), range(3))) == 3


def test_fingerprints_differ_where_answers_may(model: NativeModel) -> None:
    others = [
        small_model("sparse"),
        small_model(temperature=0.5),
        small_model(window=StateWindow(sessions=6, tokens=97, sinks=5, rewind_tokens=64, page_tokens=16)),
    ]
    assert len({model.fingerprint, *(other.fingerprint for other in others)}) == 4


# Memory.


def long_turns() -> int:
    """Ten hours, or two minutes that fill the window many times."""
    return 180_000 if os.environ.get("MICROTURN_LONG_TESTS") == "1" else 400


@pytest.mark.timeout(1800 if os.environ.get("MICROTURN_LONG_TESTS") == "1" else 20)
def test_memory_stays_flat_for_ten_hours() -> None:
    window = StateWindow(sessions=1, tokens=64, sinks=4, rewind_tokens=32, page_tokens=16)
    model = small_model(window=window)
    model._emitter = ScriptedEmitter(model, {n: hear("yes") for n in range(0, long_turns(), 3)})
    session = opened(model)
    free: list[tuple[int, ...]] = []
    for last in range(9, long_turns(), 10):
        model.step([(session, MicroTurnInput(last, sound(last % 50, 10)))])
        free.append(tuple(model.decoder.cache.free_pages().values()))
    full = len(free) // 3
    assert min(free[:full]) == min(free[full : 2 * full]) == min(free[2 * full :])
    assert min(min(free)) >= 0
    assert session.state.length > 5 * long_turns()


def test_a_window_sets_enough_pages_aside_for_the_longest_step() -> None:
    window = StateWindow(sessions=2, tokens=40, sinks=17, rewind_tokens=50, page_tokens=16)
    model = small_model(window=window)
    sessions = [opened(model, f"{n}") for n in range(2)]
    for last in (99, 199, 299):
        model.step([(session, MicroTurnInput(last, sound(last, 100))) for session in sessions])
    assert all(session.state.length >= 1500 for session in sessions)


def test_a_closed_session_gives_its_pages_back(model: NativeModel) -> None:
    before = model.decoder.cache.free_pages()
    session = opened(model)
    run(model, session, TURNS)
    assert model.decoder.cache.free_pages() != before
    session.close()
    session.close()
    assert model.decoder.cache.free_pages() == before
    with pytest.raises(ClosedSessionError, match="open a new one"):
        model.step([(session, heard(0))])


def test_no_more_sessions_are_opened_than_there_is_memory_for(model: NativeModel) -> None:
    sessions = [opened(model, f"{n}") for n in range(SMALL_WINDOW.sessions)]
    with pytest.raises(TooManySessionsError, match="beside the 6"):
        opened(model, "one more")
    with pytest.raises(TooManySessionsError):
        model.fork(sessions[0], "a twin")
    sessions[0].close()
    opened(model, "now")


def test_windows_that_make_no_sense_are_named() -> None:
    with pytest.raises(BadConfigError, match="sessions"):
        StateWindow(sessions=0)
    with pytest.raises(BadConfigError, match="tokens"):
        StateWindow(tokens=0)


# What arrives.


def test_broken_samples_are_heard_as_silence(model: NativeModel) -> None:
    broken = sound(1)
    broken[100:200], broken[300] = np.nan, np.inf
    mended = np.where(np.isfinite(broken), broken, np.float32(0))
    sessions = [opened(model, "broken"), opened(model, "mended")]
    found = [
        [model.step([(session, MicroTurnInput(0, audio))])[0], *run(model, session, range(1, 3))]
        for session, audio in zip(sessions, (broken, mended), strict=True)
    ]
    assert_same(found[0], found[1])


@pytest.mark.parametrize(
    "audio",
    [
        np.zeros(INPUT_SAMPLES - 1, np.float32),
        np.zeros(0, np.float32),
        np.zeros(INPUT_SAMPLES, np.float64),
        np.zeros((1, INPUT_SAMPLES), np.float32),
        np.zeros(3 * INPUT_SAMPLES, np.float32),
    ],
)
def test_sound_that_is_not_whole_micro_turns_changes_no_session(
    model: NativeModel, audio: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> None:
    good, bad = opened(model, "good"), opened(model, "bad")
    with pytest.raises(BadSoundError, match="micro-turns"):
        model.step([(good, heard(1)), (bad, MicroTurnInput(1, audio))])
    assert good.state.length == bad.state.length == 0
    assert good.place.reading == bad.place.reading


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((40, 40), np.uint8),
        np.zeros((40, 40, 4), np.uint8),
        np.zeros((40, 40, 3), np.float32),
        np.zeros((0, 40, 3), np.uint8),
        np.zeros((480, 640, 3), np.uint8),
    ],
)
def test_pictures_that_cannot_be_used_change_no_session(
    model: NativeModel, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
) -> None:
    session = opened(model)
    with pytest.raises(BadFramesError, match="at most 48 patches"):
        model.step([(session, MicroTurnInput(0, sound(0), (Frame(0, pixels),)))])
    assert session.state.length == 0


def tokens_of(frames: tuple[Frame, ...]) -> int:
    """How many tokens pictures become, in a model that says nothing."""
    model = small_model()
    model._emitter = ScriptedEmitter(model, {})
    session = opened(model)
    model.step([(session, MicroTurnInput(0, sound(0), frames))])
    return session.state.length - 5


def test_pictures_become_a_token_for_each_patch_and_may_stop_or_change_size() -> None:
    assert tokens_of(()) == 0
    assert tokens_of((picture(1), picture(2))) == 2
    assert tokens_of((picture(1),)) == 2
    assert tokens_of((picture(1), picture(2, 120, 160))) == 12
    assert tokens_of((picture(1, 41, 81),)) == 6


def test_of_many_pictures_the_newest_and_one_100_ms_before_it_are_seen(model: NativeModel) -> None:
    frames = [Frame(time, picture(time).pixels) for time in (0, 33, 67, 100, 133, 167)]
    many, two = opened(model, "many"), opened(model, "two")
    first = model.step([(many, MicroTurnInput(0, sound(0), tuple(frames)))])
    second = model.step([(two, MicroTurnInput(0, sound(0), (frames[2], frames[5])))])
    assert_same(first, second)
    assert torch.equal(hidden_now(model, many), hidden_now(model, two))


def test_a_late_step_takes_in_all_of_its_sound_and_speaks_for_one() -> None:
    model = small_model()
    model._emitter = ScriptedEmitter(model, {0: say("hello")})
    session = opened(model)
    output = model.step([(session, MicroTurnInput(2, sound(0, 3)))])[0]
    assert session.state.length == 3 * 5 + 1
    assert len(output.audio) == OUTPUT_SAMPLES + OUTPUT_LEAD_SAMPLES


def test_missed_micro_turns_are_laid_out_as_silent_ones(model: NativeModel) -> None:
    model = small_model()
    model._emitter = ScriptedEmitter(model, {})
    late, punctual = opened(model, "late"), opened(model, "punctual")
    audio = sound(4, 3)
    model.step([(late, MicroTurnInput(2, audio))])
    for turn, part in enumerate(np.split(audio, 3)):
        model.step([(punctual, MicroTurnInput(turn, part))])
    assert torch.equal(hidden_now(model, late), hidden_now(model, punctual))


def test_more_text_than_a_micro_turn_reads_waits_for_the_next() -> None:
    model = small_model()
    model._emitter = ScriptedEmitter(model, {})
    session = opened(model)
    lengths = [0]
    woven = (WovenText("a", "sunny " * 30), WovenText("b", "xylophone 21"))
    for turn in range(4):
        first = MicroTurnInput(0, sound(0), text=("hello " * 30,), woven=woven)
        model.step([(session, MicroTurnInput(turn, sound(turn)) if turn else first)])
        lengths.append(session.state.length)
    assert np.diff(lengths).tolist() == [5 + 1 + 24, 5 + 1 + 6, 5 + 2 + 24, 5 + 2 + 6 + 2 + 3]


def test_a_session_stands_in_a_step_once(model: NativeModel) -> None:
    session, stranger = opened(model), opened(small_model())
    with pytest.raises(ClosedSessionError):
        model.step([(session, heard(0)), (session, heard(0))])
    with pytest.raises(ClosedSessionError):
        model.step([(stranger, heard(0))])


# What an emission becomes.


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


def given_result(turn: int, text: str) -> dict[int, MicroTurnInput]:
    quiet = np.zeros(INPUT_SAMPLES, np.float32)
    return {turn: MicroTurnInput(turn, quiet, woven=(WovenText("item", text),))}


def test_the_words_of_a_result_are_counted_in_its_own_utterance() -> None:
    script = {2: say("it", "is"), 4: say("twenty"), 5: say("one"), 6: say("degrees")}
    outputs = scripted(script, given_result(1, "It is 21 degrees."), 25)
    told = [(each.text, each.source, each.item_id) for output in outputs for each in output.utterances]
    assert told == [("It is 21 degrees.", "woven", "item")]
    words = [(word.index, word.last) for output in outputs for word in output.words]
    assert words == [(0, False), (1, False), (2, False), (3, True)]
    assert all(output.playout == "play" for output in outputs)


def test_a_result_that_is_broken_off_ends_where_it_was_left() -> None:
    outputs = scripted({2: say("it", "is")}, given_result(1, "it is sunny"), 30)
    stops = [n for n, output in enumerate(outputs) if output.playout == "stop"]
    assert len(stops) == 1
    assert not outputs[stops[0]].audio.size
    assert [word.last for output in outputs for word in output.words] == [False, False]


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


# Loading.


def test_a_saved_model_gives_the_same_bits_once_loaded(
    model: NativeModel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("weights")
    save(small_network(), folder / NETWORK_FILE)
    save_mouth(small_mouth(), folder / MOUTH_FILE)
    loaded = load_native(folder, window=SMALL_WINDOW)
    assert loaded.fingerprint == model.fingerprint
    assert_same(run(loaded, opened(loaded), TURNS), run(model, opened(model), TURNS))
    assert loaded.decoder.cache.free_pages() != {}


def test_loading_says_what_is_missing_or_broken(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("weights")
    with pytest.raises(CheckpointMissingError):
        load_native(folder)
    save(small_network(), folder / NETWORK_FILE)
    save(small_network(), folder / MOUTH_FILE)
    with pytest.raises(ForeignCheckpointError, match="mouth"):
        load_native(folder)
    save_mouth(small_mouth(), folder / MOUTH_FILE)
    written = bytearray((folder / MOUTH_FILE).read_bytes())
    written[-3] ^= 1
    (folder / MOUTH_FILE).write_bytes(written)
    with pytest.raises(CorruptCheckpointError, match="SHA-256"):
        load_native(folder)


def test_without_shipped_weights_a_clear_error_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(loader, "SHIPPED", tmp_path_factory.mktemp("empty"))
    with pytest.raises(NoShippedWeightsError, match="load_native"):
        load_native()


def test_a_mouth_for_another_width_is_refused() -> None:
    with pytest.raises(BadConfigError, match="width 48"):
        ready(small_network(), Mouth(FlowHeadConfig(condition=32)))
