"""Output tokens: the likeliest allowed ones, at most eight, in the same sequence as the trained form would see."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from microturn.interaction_model.native.decoder import Decoder
from microturn.interaction_model.native.decoding import Emitter, Question
from microturn.interaction_model.native.emission import MAX_OUTPUT_TOKENS, output_mask
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.script import Cue, Script
from microturn.interaction_model.native.vocabulary import Token, said_token
from microturn.interaction_model.training.cast import estimated_word_ms
from tests.interaction_model.native.small_models import SMALL_WINDOW, small_network
from tests.interaction_model.native.small_networks import random_embeddings

pytestmark = pytest.mark.unit


def decoder_of(network: Network) -> Decoder:
    return Decoder(network.model, network.lm_head.weight, SMALL_WINDOW.cache(network.config.backbone))


def asked(decoder: Decoder, seed: int) -> Question:
    state = decoder.open()
    hidden = decoder.advance([state], [random_embeddings(5 + seed, 48, seed=seed)])[0]
    return Question(state, hidden[-1], seed, Cue(Script(), 0, estimated_word_ms))


def favouring(network: Network, token: int, state: Tensor) -> Network:
    """Make one token the likeliest wherever the hidden state is near `state`."""
    with torch.no_grad():
        network.lm_head.weight[token] = 50 * state
    return network


def test_greedy_tokens_are_those_of_the_trained_form() -> None:
    network = small_network("sparse")
    decoder = decoder_of(network)
    question = asked(decoder, 2)
    answer = Emitter(decoder).emit([question])[0]
    given = random_embeddings(7, 48, seed=2)
    allowed = torch.from_numpy(output_mask())
    found: list[int] = []
    with torch.no_grad():
        while len(found) < MAX_OUTPUT_TOKENS:
            emitted = network.model.embed_tokens(torch.tensor(found, dtype=torch.int64))
            hidden = network.model(torch.cat([given, emitted])[None])[0, -1]
            best = int(network.logits(hidden).masked_fill(~allowed, -torch.inf).argmax())
            if best == Token.END:
                break
            found.append(best)
    assert answer.tokens == tuple(found)
    assert found


def test_the_last_hidden_state_is_that_of_the_last_token() -> None:
    network = small_network()
    decoder = decoder_of(network)
    question = asked(decoder, 1)
    answer = Emitter(decoder).emit([question])[0]
    again = asked(decoder, 1)
    ids = torch.tensor(answer.tokens)
    hidden = decoder.advance([again.state], [decoder.embed(ids)])[0]
    assert torch.equal(hidden[-1], answer.hidden)
    assert question.state.length == again.state.length == 6 + len(answer.tokens)


def test_it_is_not_asked_for_a_ninth_token() -> None:
    network = small_network()
    with torch.no_grad():
        network.lm_head.weight[Token.END] = 0
        network.lm_head.weight[said_token("yes")] = 0
    decoder = decoder_of(network)
    answer = Emitter(decoder).emit([asked(decoder, 3)])[0]
    assert len(answer.tokens) == MAX_OUTPUT_TOKENS


def test_silence_appends_nothing() -> None:
    network = small_network()
    question = asked(decoder_of(network), 0)
    decoder = decoder_of(favouring(network, int(Token.END), question.hidden))
    question = asked(decoder, 0)
    answer = Emitter(decoder).emit([question])[0]
    assert answer.tokens == ()
    assert torch.equal(answer.hidden, question.hidden)
    assert question.state.length == 5


def test_only_output_tokens_are_drawn() -> None:
    network = small_network()
    decoder = decoder_of(network)
    questions = [asked(decoder, seed) for seed in range(6)]
    answers = Emitter(decoder, temperature=5.0).emit(questions)
    allowed = output_mask()
    drawn = [token for answer in answers for token in answer.tokens]
    assert len(set(drawn)) > 10
    assert all(allowed[token] for token in drawn)
    assert Token.END not in drawn


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_sessions_tokens_do_not_depend_on_the_others(temperature: float) -> None:
    network = small_network("sparse")
    decoder = decoder_of(network)
    emitter = Emitter(decoder, temperature)
    alone = [emitter.emit([asked(decoder, seed)])[0] for seed in range(5)]
    together = emitter.emit([asked(decoder, seed) for seed in range(5)])
    assert [answer.tokens for answer in together] == [answer.tokens for answer in alone]
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one.hidden, other.hidden)
