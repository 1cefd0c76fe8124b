from __future__ import annotations

import numpy as np
import pytest
import torch

from microturn.interaction_model.native.grammar import NO_TARGET
from microturn.interaction_model.native.pronunciation import ALPHABET
from microturn.interaction_model.native.vocabulary import WORDS, Token, heard_token, said_token
from microturn.interaction_model.training.phonemes import (
    BLANK,
    CLASSES,
    PhonemeHead,
    heard_phonemes,
    phonemes_of,
)

pytestmark = pytest.mark.unit


def symbols(numbers: tuple[int, ...] | list[int]) -> str:
    return "".join(ALPHABET[number - 1] for number in numbers)


def test_stress_and_pauses_are_no_phonemes() -> None:
    assert symbols(phonemes_of("seven")) == "sɛvən"
    assert symbols(phonemes_of("seventeen")) == "sɛvəntin"
    for word in WORDS:
        assert phonemes_of(word) and BLANK not in phonemes_of(word)


def test_only_words_that_the_user_said_are_heard() -> None:
    tokens = [
        heard_token("find"), int(Token.DELEGATE), heard_token("red"), int(Token.END_DELEGATE), said_token("okay"),
        int(Token.END), heard_token("cup"), int(Token.DELEGATE), heard_token("blue"), int(Token.END), heard_token("up"),
    ]  # fmt: skip
    targets = np.full(30, NO_TARGET, np.int32)
    targets[3 : 3 + 2 * len(tokens) : 2] = tokens
    assert symbols(heard_phonemes(targets)) == symbols(
        [*phonemes_of("find"), *phonemes_of("cup"), *phonemes_of("up")]
    )


def test_what_is_heard_in_order_is_cheap_and_anything_else_is_dear() -> None:
    head = PhonemeHead(2 * CLASSES).requires_grad_(False)
    head.classes.weight.copy_(torch.eye(2 * CLASSES))
    head.classes.bias.zero_()
    said = torch.tensor(phonemes_of("cup"))

    def hidden(classes: list[int]) -> torch.Tensor:
        scores = torch.full((len(classes), CLASSES), -20.0)
        scores[torch.arange(len(classes)), torch.tensor(classes)] = 20.0
        return scores.view(-1, 2 * CLASSES)

    k, u, p = said.tolist()
    right = hidden([BLANK, k, k, BLANK, u, p])
    swapped = hidden([BLANK, u, k, BLANK, p, BLANK])
    assert float(head.loss(right, [3], said, torch.tensor([3]))) < 0.1
    assert float(head.loss(swapped, [3], said, torch.tensor([3]))) > 20
    # Two rows add up, and a row that is too short for its phonemes counts nothing.
    both = torch.cat([right, swapped])
    twice = head.loss(both, [3, 3], torch.cat([said, said]), torch.tensor([3, 3]))
    assert float(twice) == pytest.approx(float(head.loss(swapped, [3], said, torch.tensor([3]))), abs=0.1)
    assert float(head.loss(right[:1], [1], said, torch.tensor([3]))) == 0.0
