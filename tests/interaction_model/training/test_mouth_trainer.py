"""Training of the mouth, on phrases that are made up: it learns what is in them, and nothing leaks between phrases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from microturn.interaction_model.native.durations import DurationModel
from microturn.interaction_model.native.flow_head import SEEN_FRAMES, FlowHead, FlowHeadConfig
from microturn.interaction_model.native.pronunciation import PAUSE, PRONUNCIATIONS, SILENCE, numbered
from microturn.interaction_model.native.vocoder_frames import FRAME_SIZE
from microturn.interaction_model.training.mouth_trainer import (
    FrameBank,
    Schedule,
    duration_examples,
    train_durations,
    train_flow_head,
)
from microturn.interaction_model.training.own_voice import SpokenPhrase

pytestmark = pytest.mark.unit

SMALL = FlowHeadConfig(condition=8, width=32, inner=32, blocks=1, symbol=8, time=16)
VOWELS = frozenset("AIOWæɑɔəɛɜɪʊʌiu")


def phrase(text: str, level: float = 0.0) -> SpokenPhrase:
    """Return a phrase whose vowels last 4 units and all else 2, every frame at one level."""
    words = text.split()
    units = tuple(tuple(4 if s in VOWELS else 2 for s in PRONUNCIATIONS[word] + PAUSE) for word in words)
    frames = 2 * sum(sum(word) for word in units) + 10
    return SpokenPhrase(tuple(words), units, np.full((frames, FRAME_SIZE), level, np.float32))


def test_the_rate_rises_and_falls_to_nothing() -> None:
    schedule = Schedule(steps=1_000, batch=1, peak_rate=1.0, warmup_steps=10)
    rates = [schedule.rate(step) for step in range(1_000)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0, abs=1e-2)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] < 1e-4


def test_a_window_holds_frames_of_one_phrase() -> None:
    bank = FrameBank([phrase("yes", 5.0), phrase("no", 7.0), phrase("the red cup", 9.0)])
    frames, symbols, measures = bank.batch(500, torch.Generator().manual_seed(0))
    assert frames.shape == (500, SEEN_FRAMES, FRAME_SIZE)
    assert measures.shape[:2] == symbols.shape[:2] == (500, SEEN_FRAMES)
    levels = [set(window.flatten().tolist()) & {5.0, 7.0, 9.0} for window in frames[..., 10:]]
    assert max(len(found) for found in levels) == 1
    assert {level for found in levels for level in found} == {5.0, 7.0, 9.0}


def test_a_window_says_what_its_frames_say() -> None:
    bank = FrameBank([phrase("yes", 5.0)])
    frames, symbols, _ = bank.batch(200, torch.Generator().manual_seed(0))
    is_said = symbols[..., 1] != SILENCE
    assert (frames[..., 10][is_said] == 5.0).all()
    assert set(symbols[..., 1].flatten().tolist()) == {SILENCE, *numbered(PRONUNCIATIONS["yes"] + PAUSE)}


def test_moments_are_those_of_speech() -> None:
    mean, scale = FrameBank([phrase("yes", 5.0), phrase("yes", 7.0)]).moments()
    torch.testing.assert_close(mean, torch.full((FRAME_SIZE,), 6.0))
    torch.testing.assert_close(scale, torch.ones(FRAME_SIZE), rtol=0.02, atol=0)


def test_there_must_be_phrases() -> None:
    with pytest.raises(ValueError, match="phrases must not be empty"):
        FrameBank([])


def test_lengths_of_the_last_word_are_not_learned() -> None:
    inputs, units = duration_examples([phrase("yes no")])
    assert len(inputs) == len(units) == len(PRONUNCIATIONS["yes"] + PAUSE)


def test_lengths_are_learned_and_carry_over_to_words_that_were_not_trained() -> None:
    torch.manual_seed(0)
    model = DurationModel()
    train_durations(
        model,
        [phrase("the red cup is in the kitchen now"), phrase("put seven lemon on this table again now")],
        Schedule(steps=120, batch=64, peak_rate=5e-3, warmup_steps=5),
    )
    inputs, units = duration_examples([phrase("take this book to the office now")])
    right = (model(inputs).argmax(-1) == units).float().mean()
    assert right > 0.85


def test_the_flow_head_learns() -> None:
    torch.manual_seed(0)
    head = FlowHead(SMALL)
    bank = FrameBank([phrase("the red cup", 1.0), phrase("no", -1.0)])
    losses = train_flow_head(head, bank, Schedule(steps=80, batch=16, peak_rate=5e-3, warmup_steps=5))
    assert len(losses) == 80
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])
    assert float(head.frame_mean.mean()) != 0


def test_training_can_be_repeated_to_the_bit() -> None:
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        head = FlowHead(SMALL)
        bank = FrameBank([phrase("the red cup", 1.0)])
        results.append(train_flow_head(head, bank, Schedule(steps=5, batch=4), seed=3))
    assert results[0] == results[1]
