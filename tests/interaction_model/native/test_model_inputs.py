"""What arrives in a step of the native model, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from microturn.interaction_model._errors import BadSoundError
from microturn.interaction_model.native import (
    BadFramesError,
    ClosedSessionError,
)
from microturn.interaction_model.native.ears import Hearing
from microturn.interaction_model.native.eyes import cut_patches
from microturn.interaction_model.native.grammar import Inputs, Packed, PositionKind, pack
from microturn.interaction_model.native.model import NativeModel
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.perception import Pixels
from microturn.interaction_model.native.stopwatches import packed_times
from microturn.protocols import (
    INPUT_SAMPLES,
    OUTPUT_LEAD_SAMPLES,
    OUTPUT_SAMPLES,
    Frame,
    MicroTurnInput,
    WovenText,
)
from tests.interaction_model.native.small_models import (
    ScriptedEmitter,
    assert_same,
    hear,
    heard,
    hidden_now,
    opened,
    picture,
    run,
    say,
    scripted,
    small_model,
    small_network,
    sound,
)

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def model() -> NativeModel:
    return small_model()


@pytest.fixture(autouse=True)
def no_session_is_left(request: pytest.FixtureRequest) -> None:
    if "model" in request.fixturenames:
        request.getfixturevalue("model").close()


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
    ],
)
def test_pictures_that_cannot_be_used_change_no_session(
    model: NativeModel, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
) -> None:
    session = opened(model)
    with pytest.raises(BadFramesError, match=r"\(H, W, 3\) of uint8"):
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


@pytest.mark.parametrize(("height", "width"), [(240, 320), (480, 640), (721, 1281), (1, 9000)])
def test_large_pictures_are_made_smaller(height: int, width: int) -> None:
    assert 0 < tokens_of((picture(1, height, width), picture(2, height, width))) <= 12


def test_a_large_picture_is_seen_as_the_means_of_its_squares(model: NativeModel) -> None:
    small = picture(3, 120, 160)
    noise = np.random.default_rng(4).integers(-20, 21, (60, 160, 2, 3))
    paired = np.stack([noise, -noise], 1).reshape(120, 160, 2, 3)
    base = np.clip(small.pixels, 20, 235).astype(np.int64)
    large = np.repeat(np.repeat(base, 2, 0), 2, 1).reshape(120, 2, 160, 2, 3)
    large[:, 0] += paired
    large[:, 1] -= paired
    shown = [large.reshape(240, 320, 3).astype(np.uint8), base.astype(np.uint8)]
    first, second = opened(model, "large"), opened(model, "small")
    outputs = [
        model.step([(session, MicroTurnInput(0, sound(0), (Frame(0, pixels),)))])
        for session, pixels in zip((first, second), shown, strict=True)
    ]
    assert_same(*outputs)
    assert torch.equal(hidden_now(model, first), hidden_now(model, second))


def test_of_many_pictures_the_newest_and_one_100_ms_before_it_are_seen(model: NativeModel) -> None:
    frames = [Frame(time, picture(time).pixels) for time in (0, 33, 67, 100, 133, 167)]
    many, two = opened(model, "many"), opened(model, "two")
    first = model.step([(many, MicroTurnInput(0, sound(0), tuple(frames)))])
    second = model.step([(two, MicroTurnInput(0, sound(0), (frames[2], frames[5])))])
    assert_same(first, second)
    assert torch.equal(hidden_now(model, many), hidden_now(model, two))


def packed_embeddings(network: Network, packed: Packed, pixels: Pixels) -> Tensor:
    """What the trained form sees of a packed scene whose patches are all cut from one pair of pictures."""
    kinds, ids = torch.from_numpy(packed.kinds), torch.from_numpy(packed.ids).long()
    x: Tensor = network.model.embed_tokens(ids.masked_fill(kinds <= PositionKind.PATCH, 0)).clone()
    x[kinds == PositionKind.AUDIO] = network.audio_tower(torch.from_numpy(packed.levels))
    x[kinds == PositionKind.PATCH] = network.vision_tower(cut_patches(pixels, network.config.eyes))
    now = kinds == PositionKind.NOW
    times = packed_times(packed.kinds, packed.ids, packed.micro_turns, np.zeros_like(packed.ids))
    x[now] += network.clock(torch.from_numpy(times)[now])
    return x


def test_what_is_computed_is_what_training_packs() -> None:
    network, model = small_network(), small_model()
    outputs = {1: hear("hello", "there"), 5: say("yes")}
    model._emitter = ScriptedEmitter(model, outputs)
    session = opened(model)
    audio, frames = sound(3, 8), (picture(1), picture(2))
    for turn, part in enumerate(np.split(audio, 8)):
        shown = frames if turn == 2 else ()
        text = ("Hello, xylophone!",) if turn == 3 else ()
        woven = (WovenText("a", "it is 21"), WovenText("b", "sunny")) if turn == 6 else ()
        model.step([(session, MicroTurnInput(turn, part, shown, text, woven))])
    arrived = {
        2: Inputs(patches=2),
        3: Inputs(text=("hello", "xylophone")),
        6: Inputs(background=(("it", "is", "twenty", "one"), ("sunny",))),
    }
    levels = Hearing.begin().hear(audio)[0].numpy()
    packed = pack(
        [arrived.get(n, Inputs()) for n in range(8)], [outputs.get(n, ()) for n in range(8)], levels
    )
    pixels = np.stack([frame.pixels for frame in frames])
    with torch.no_grad():
        probe = network.model.embed_tokens(torch.tensor([5]))
        wanted = network.model(torch.cat([packed_embeddings(network, packed, pixels), probe])[None])[0, -1:]
    assert session.state.length == len(packed.kinds)
    torch.testing.assert_close(hidden_now(model, session), wanted, atol=1e-4, rtol=1e-4)


def test_the_mouth_speaks_from_the_last_position_of_the_micro_turn() -> None:
    audio = []
    for ending in (hear("yes"), hear("no")):
        outputs = scripted({1: [*say("hello"), *ending]}, {}, 3)
        audio.append(outputs[1].audio)
    assert not np.array_equal(audio[0], audio[1])


def test_a_late_step_takes_in_all_of_its_sound_and_speaks_for_one() -> None:
    model = small_model()
    model._emitter = ScriptedEmitter(model, {0: say("hello")})
    session = opened(model)
    output = model.step([(session, MicroTurnInput(2, sound(0, 3)))])[0]
    assert session.state.length == 3 * 5 + 1
    assert len(output.audio) == OUTPUT_SAMPLES + OUTPUT_LEAD_SAMPLES


def test_missed_micro_turns_are_laid_out_as_silent_ones() -> None:
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
    assert np.diff(lengths).tolist() == [5 + 1 + 24, 5 + 1 + 6, 5 + 2 + 24, 5 + 2 + 6 + 2 + 2]


def test_a_session_stands_in_a_step_once(model: NativeModel) -> None:
    session, stranger = opened(model), opened(small_model())
    with pytest.raises(ClosedSessionError):
        model.step([(session, heard(0)), (session, heard(0))])
    with pytest.raises(ClosedSessionError):
        model.step([(stranger, heard(0))])
