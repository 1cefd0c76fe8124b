"""The served form of the backbone: equal to the trained one, and the same bits however it is called."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from microturn.interaction_model.native import BadConfigError, BadEmbeddingsError
from microturn.interaction_model.native.cache import CacheConfig, SessionState
from microturn.interaction_model.native.decoder import Decoder
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.presets import preset
from microturn.kernels import LostTokensError, PoolFullError
from tests.interaction_model.native.inkling import draw
from tests.interaction_model.native.small_networks import (
    CONFIGS,
    Name,
    cuts,
    random_embeddings,
    small_backbone,
)

pytestmark = pytest.mark.unit

SMALL_PAGES = CacheConfig(page_tokens=16, global_pages=64, sliding_pages=64, rewind_tokens=8)


def from_start(served: Decoder, tokens: Tensor, sizes: tuple[int, ...]) -> Tensor:
    state = served.open()
    hidden = in_steps(served, state, tokens, sizes)
    state.close()
    return hidden


def decoder(name: Name, cache: CacheConfig = SMALL_PAGES, dtype: torch.dtype = torch.float32) -> Decoder:
    config = CONFIGS[name]
    head = random_embeddings(config.vocabulary, config.width, dtype=dtype, seed=9)
    return Decoder(small_backbone(config, dtype), head, cache)


def in_steps(served: Decoder, state: SessionState, tokens: Tensor, sizes: tuple[int, ...]) -> Tensor:
    parts = [served.advance([state], [part])[0] for part in tokens.split(cuts(len(tokens), sizes))]
    return torch.cat(parts)


@pytest.mark.parametrize("name", CONFIGS)
def test_it_equals_the_trained_form(name: Name) -> None:
    served, backbone = decoder(name), small_backbone(CONFIGS[name])
    tokens = random_embeddings(90, 48)
    hidden = in_steps(served, served.open(), tokens, (5, 1, 1, 17))
    with torch.no_grad():
        wanted = backbone(tokens[None])[0]
    torch.testing.assert_close(hidden, wanted, atol=3e-5, rtol=3e-5)


def test_ids_are_embedded_and_scored_as_in_the_trained_form() -> None:
    served, backbone = decoder("dense"), small_backbone(CONFIGS["dense"])
    ids = torch.tensor([3, 40, 0])
    with torch.no_grad():
        torch.testing.assert_close(served.embed(ids), backbone.embed_tokens(ids))
    hidden = random_embeddings(3, 48)
    head = random_embeddings(41, 48, seed=9)
    torch.testing.assert_close(served.logits(hidden), hidden / 1.5 @ head.t(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CONFIGS)
def test_no_bit_depends_on_how_a_session_was_cut(name: Name, dtype: torch.dtype) -> None:
    served = decoder(name, dtype=dtype)
    tokens = random_embeddings(60, 48, dtype=dtype)
    whole = served.advance([served.open()], [tokens])[0]
    for sizes in [(1,), (5, 1), (17, 7)]:
        assert torch.equal(in_steps(served, served.open(), tokens, sizes), whole), sizes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CONFIGS)
def test_no_bit_depends_on_other_sessions(name: Name, dtype: torch.dtype) -> None:
    served = decoder(name, dtype=dtype)
    draw = random.Random(2)
    tokens = [random_embeddings(60, 48, dtype=dtype, seed=seed) for seed in range(4)]
    alone = [served.advance([served.open()], [each])[0] for each in tokens]
    states = [served.open() for _ in tokens]
    parts: list[list[Tensor]] = [[] for _ in tokens]
    while any(state.length < 60 for state in states):
        ready = draw.sample([n for n, state in enumerate(states) if state.length < 60], k=1)
        ready += [n for n in range(4) if n not in ready and states[n].length < 60 and draw.random() < 0.6]
        new = [tokens[n][states[n].length :][: draw.choice((1, 5, 9))] for n in ready]
        for n, hidden in zip(ready, served.advance([states[n] for n in ready], new), strict=True):
            parts[n].append(hidden)
    for got, wanted in zip(parts, alone, strict=True):
        assert torch.equal(torch.cat(got), wanted)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_session_goes_back_and_takes_another_way(name: Name) -> None:
    served = decoder(name)
    tokens, other = random_embeddings(40, 48), random_embeddings(8, 48, seed=5)
    state = served.open()
    served.advance([state], [tokens[:33]])
    snapshot = state.snapshot()
    first = served.advance([state], [tokens[33:]])[0]
    state.rewind(snapshot)
    served.advance([state], [other])
    state.rewind(snapshot)
    assert state.length == 33
    assert torch.equal(served.advance([state], [tokens[33:]])[0], first)


@pytest.mark.parametrize("name", CONFIGS)
def test_forks_share_their_past_and_nothing_else(name: Name) -> None:
    served = decoder(name)
    tokens, other = random_embeddings(40, 48), random_embeddings(7, 48, seed=5)
    state = served.open()
    served.advance([state], [tokens[:33]])
    fork = state.fork()
    forked = served.advance([fork], [other])[0]
    kept = served.advance([state], [tokens[33:]])[0]
    assert torch.equal(served.advance([served.open()], [tokens])[0][33:], kept)
    again = served.advance([served.open()], [torch.cat([tokens[:33], other])])[0][33:]
    assert torch.equal(again, forked)


def test_sliding_layers_give_back_what_no_one_sees() -> None:
    cache = CacheConfig(page_tokens=16, global_pages=64, sliding_pages=4, rewind_tokens=8)
    served = decoder("dense", cache)
    tokens = random_embeddings(400, 48)
    state = served.open()
    hidden = in_steps(served, state, tokens, (9, 1))
    assert served.cache.free_pages() == {"global": 64 - 25, "sliding": 4 - 2}
    roomy = decoder("dense", CacheConfig(page_tokens=512, global_pages=1, sliding_pages=1))
    assert torch.equal(hidden, roomy.advance([roomy.open()], [tokens])[0])
    state.close()
    assert served.cache.free_pages() == {"global": 64, "sliding": 4}


def test_a_rewind_within_the_promise_needs_no_page_that_was_given_back() -> None:
    served = decoder("dense")
    tokens = random_embeddings(200, 48)
    state = served.open()
    whole = served.advance([served.open()], [tokens])[0]
    in_steps(served, state, tokens[:192], (5,))
    snapshot = state.snapshot()
    served.advance([state], [tokens[192:]])
    state.rewind(snapshot)
    assert torch.equal(served.advance([state], [tokens[192:]])[0], whole[192:])


def test_a_rewind_too_far_back_is_refused_and_changes_nothing() -> None:
    served = decoder("dense")
    tokens = random_embeddings(200, 48)
    state = served.open()
    served.advance([state], [tokens[:20]])
    early = state.snapshot()
    in_steps(served, state, tokens[20:], (5,))
    with pytest.raises(LostTokensError):
        state.rewind(early)
    assert state.length == 200
    assert {pages.length for pages in state.pages.values()} == {200}


def test_a_window_on_global_layers_bounds_memory_and_keeps_the_beginning_in_sight() -> None:
    cache = CacheConfig(
        page_tokens=16, global_pages=8, sliding_pages=8, rewind_tokens=0, global_window=40, sinks=4
    )
    served = decoder("dense", cache)
    tokens = random_embeddings(180, 48)
    hidden = from_start(served, tokens, (9,))
    other_beginning = tokens.clone()
    other_beginning[0] += 1.0
    moved = from_start(served, other_beginning, (9,))
    assert (hidden[-1] - moved[-1]).abs().max() > 1e-4
    without = decoder("dense", replace(cache, sinks=0))
    hidden = from_start(without, tokens[:140], (9,))
    moved = from_start(without, other_beginning[:140], (9,))
    assert torch.equal(hidden[-1], moved[-1])


def test_a_full_pool_leaves_every_session_as_it_was() -> None:
    served = decoder("dense", CacheConfig(page_tokens=16, global_pages=4, sliding_pages=4))
    tokens = random_embeddings(60, 48)
    states = [served.open(), served.open()]
    served.advance(states, [tokens[:20], tokens[:5]])
    free = served.cache.free_pages()
    with pytest.raises(PoolFullError, match="make the pool larger"):
        served.advance(states, [tokens[20:40], tokens[5:25]])
    assert [state.length for state in states] == [20, 5]
    assert served.cache.free_pages() == free
    after = served.advance([states[1]], [tokens[5:16]])[0]
    assert torch.equal(after, decoder("dense").advance([decoder("dense").open()], [tokens[:16]])[0][5:])


def test_weights_that_are_packed_have_the_same_bits() -> None:
    plain, packed = decoder("sparse"), decoder("sparse")
    packed.prepare()
    tokens = random_embeddings(30, 48)
    assert torch.equal(
        in_steps(plain, plain.open(), tokens, (5,)), in_steps(packed, packed.open(), tokens, (5, 1))
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_training_that_goes_on_does_not_reach_what_is_served(name: Name) -> None:
    config = CONFIGS[name]
    backbone, head = small_backbone(config), random_embeddings(config.vocabulary, config.width)
    served = Decoder(backbone, head, SMALL_PAGES)
    tokens, ids = random_embeddings(20, 48), torch.tensor([3, 5])
    before = served.advance([served.open()], [tokens])[0]
    embedded, logits = served.embed(ids), served.logits(before)
    with torch.no_grad():
        for tensor in (head, *backbone.parameters(), *backbone.buffers()):
            tensor.add_(0.5)
    assert torch.equal(served.advance([served.open()], [tokens])[0], before)
    assert torch.equal(served.embed(ids), embedded)
    assert torch.equal(served.logits(before), logits)


def test_the_nano_has_the_bits_of_each_session_alone_and_the_numbers_of_the_trained_form() -> None:
    network = Network(preset("nano"))
    draw(network.model, 3)
    served = Decoder(network.model, network.lm_head.weight)
    served.prepare()
    tokens = [random_embeddings(60, 256, seed=seed) for seed in range(2)]
    alone = [served.advance([served.open()], [each])[0] for each in tokens]
    states = [served.open(), served.open()]
    parts: list[list[Tensor]] = [[], []]
    for size in cuts(60, (5, 1, 1, 17)):
        new = [each[state.length :][:size] for each, state in zip(tokens, states, strict=True)]
        for part, hidden in zip(parts, served.advance(states, new), strict=True):
            part.append(hidden)
    assert all(torch.equal(torch.cat(part), whole) for part, whole in zip(parts, alone, strict=True))
    with torch.no_grad():
        wanted = network.model(torch.stack(tokens))
    torch.testing.assert_close(torch.stack(alone), wanted, atol=1e-3, rtol=1e-3)


def test_no_bit_depends_on_the_number_of_threads() -> None:
    tokens = random_embeddings(40, 48)
    threads = torch.get_num_threads()
    found = []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            served = decoder("sparse")
            found.append(in_steps(served, served.open(), tokens, (5, 1, 17)))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def bad_calls() -> Sequence[tuple[list[int], list[Tensor], str]]:
    good = torch.zeros(2, 48)
    return (
        ([0], [torch.zeros(2, 47)], r"\(T, 48\).*got \(2, 47\)"),
        ([0], [torch.zeros(0, 48)], "T at least 1"),
        ([0], [good.double()], "of torch.float32"),
        ([0, 1], [good], "as many of both"),
        ([], [], "at least 1"),
        ([0, 0], [good, good], "each once"),
    )


@pytest.mark.parametrize("rows, embeddings, message", bad_calls())
def test_calls_that_make_no_sense_are_named(rows: list[int], embeddings: list[Tensor], message: str) -> None:
    served = decoder("dense")
    states = [served.open(), served.open()]
    with pytest.raises(BadEmbeddingsError, match=message):
        served.advance([states[row] for row in rows], embeddings)
    assert [state.length for state in states] == [0, 0]


def test_cache_sizes_that_make_no_sense_are_named() -> None:
    with pytest.raises(BadConfigError, match="divides 512"):
        CacheConfig(page_tokens=48)
    with pytest.raises(BadConfigError, match="no sinks without a window"):
        CacheConfig(sinks=4)
    with pytest.raises(BadConfigError, match="1 or more"):
        CacheConfig(global_pages=0)
