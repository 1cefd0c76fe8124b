"""Rows of a word begin alike in all its kinds, those of two words do not."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity

from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.vocabulary import SIZE, WORDS, Token, WordKind, token_range
from microturn.interaction_model.training.word_rows import SHARE, begin_alike
from tests.interaction_model.native.small_models import small_network

pytestmark = pytest.mark.unit


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return small_network()


def rows(table: torch.Tensor, kind: WordKind) -> torch.Tensor:
    begin = token_range(kind).start
    return table[begin : begin + len(WORDS)]


def test_a_word_is_like_itself_in_every_kind_going_in_and_coming_out(network: Network) -> None:
    begin_alike(network)
    tables = (network.model.embed_tokens.weight.detach(), network.lm_head.weight.detach())
    every = [rows(table, kind) for table in tables for kind in WordKind]
    for first in every:
        for second in every:
            if first is not second:
                assert float(cosine_similarity(first, second).mean()) == pytest.approx(SHARE, abs=0.1)
                assert abs(float(cosine_similarity(first, second.roll(1, 0)).mean())) < 0.1


def test_rows_keep_their_size_and_marks_their_rows(network: Network) -> None:
    before = {name: part.clone() for name, part in network.state_dict().items()}
    begin_alike(network)
    for name, table in (
        ("model.embed_tokens.weight", network.model.embed_tokens.weight.detach()),
        ("lm_head.weight", network.lm_head.weight.detach()),
    ):
        assert torch.equal(table[: len(Token)], before[name][: len(Token)])
        for kind in WordKind:
            assert float(rows(table, kind).std() / rows(before[name], kind).std()) == pytest.approx(
                1, abs=0.1
            )
    assert network.model.embed_tokens.num_embeddings == SIZE
    changed = {name for name, part in network.state_dict().items() if not torch.equal(part, before[name])}
    assert changed == {"model.embed_tokens.weight", "lm_head.weight"}
