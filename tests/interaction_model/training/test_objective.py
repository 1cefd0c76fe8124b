from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from microturn.interaction_model.native.experts import Router
from microturn.interaction_model.native.flow_head import FlowHead, FlowHeadConfig
from microturn.interaction_model.native.grammar import CLOCK_PERIODS, NO_TARGET, PositionKind
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.vocabulary import Token, heard_token, said_token
from microturn.interaction_model.training.batches import Batch, Collator
from microturn.interaction_model.training.epoch import SceneRef
from microturn.interaction_model.training.expert_balance import ExpertBalance
from microturn.interaction_model.training.metrics import TargetKind, kinds_of, tally
from microturn.interaction_model.training.objective import (
    Objective,
    Trainee,
    embed,
    hidden_states,
    mouth_loss,
    weight_table,
)
from microturn.interaction_model.training.scene_shards import open_shards, write_shard
from microturn.interaction_model.training.schedule import Schedule
from microturn.interaction_model.training.train_config import LossWeights
from tests.interaction_model.training.small_run import (
    EYES,
    TASKS,
    mouth_of,
    small_network,
    stored,
    write_data,
)

pytestmark = pytest.mark.unit

WEIGHTS = LossWeights(silence=0.2, end=0.5, heard=1.0, said=2.0, marks=3.0)


@pytest.fixture(scope="module")
def collate(tmp_path_factory: pytest.TempPathFactory) -> Collator:
    return Collator(open_shards(write_data(tmp_path_factory.mktemp("data"))), TASKS, 250, EYES)


@pytest.fixture(scope="module")
def batch(collate: Collator) -> Batch:
    return collate([(SceneRef(0, 0), SceneRef(0, 1)), (SceneRef(0, 3),)])


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network(small_network())


def a_mouth() -> FlowHead:
    """A mouth in which nothing is zero, as it is before training."""
    torch.manual_seed(1)
    mouth = FlowHead(FlowHeadConfig(condition=32, width=16, inner=16, blocks=1, symbol=4, time=8))
    for parameter in mouth.parameters():
        nn.init.normal_(parameter, std=0.3)
    return mouth


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_each_position_is_embedded_by_what_it_holds(network: Network, batch: Batch) -> None:
    x = embed(network, batch)
    audio = network.audio_tower(batch.levels)
    patches = network.vision_tower(batch.patches.float())
    assert torch.equal(x[batch.kinds == PositionKind.AUDIO], audio)
    assert torch.equal(x[batch.kinds == PositionKind.PATCH], patches)
    output = batch.kinds == PositionKind.OUTPUT
    assert torch.equal(x[output], network.model.embed_tokens(batch.ids[output]))


def test_the_clock_is_added_to_the_question_alone(batch: Batch) -> None:
    torch.manual_seed(0)
    network = Network(small_network())
    before = embed(network, batch)
    with torch.no_grad():
        network.clock.hands.weight[0, :2] = torch.tensor([1.0, 2.0])
    asked = batch.kinds == PositionKind.NOW
    added = (embed(network, batch) - before)[..., 0]
    angles = 2 * torch.pi * (batch.times[asked][:, 0] % CLOCK_PERIODS[0]) / CLOCK_PERIODS[0]
    assert torch.allclose(added[asked], angles.sin() + 2 * angles.cos(), atol=1e-4)
    assert not added[~asked].any()


def test_a_conversation_is_computed_as_if_it_were_alone(network: Network, tmp_path: Path) -> None:
    write_shard(tmp_path, "a", [replace(stored(0), task="hearing"), stored(1)])
    collate = Collator(open_shards(tmp_path), [*TASKS, "hearing"], 250, EYES)
    alone = collate([(SceneRef(0, 1),)])
    batch = collate([(SceneRef(0, 0), SceneRef(0, 1))])
    first = int((batch.segments[0] == 0).sum())
    found = hidden_states(network, batch)[0, first : first + alone.used]
    assert torch.allclose(found, hidden_states(network, alone)[0, : alone.used], atol=1e-5)


def test_weights_follow_what_is_predicted_and_where(batch: Batch) -> None:
    found = Objective(WEIGHTS).position_weights(batch)
    kinds, targets = batch.kinds, batch.targets
    assert not found[targets == NO_TARGET].any()
    silent = (targets == Token.END) & (kinds == PositionKind.NOW)
    assert found[silent].unique().tolist() == pytest.approx([0.2])
    assert set(found[(targets == Token.END) & (kinds == PositionKind.OUTPUT)].tolist()) == {0.5}
    assert set(found[targets >= said_token("zero")].tolist()) == {2.0}
    heard = (targets >= heard_token("zero")) & (targets < said_token("zero"))
    assert set(found[heard].tolist()) == {1.0}
    assert weight_table(WEIGHTS)[:, Token.CANCEL].tolist() == [3.0, 3.0]


def test_the_loss_is_that_of_shifted_scores_by_hand(network: Network, batch: Batch) -> None:
    found = Objective(WEIGHTS)(Trainee(network, None), batch, noise())
    table = weight_table(WEIGHTS)
    scores = network.logits(hidden_states(network, batch))
    total, weight = 0.0, 0.0
    scores = scores.detach()
    for row, place in (batch.targets != NO_TARGET).nonzero().tolist():
        own = table[int(batch.kinds[row, place] == PositionKind.OUTPUT)]
        target = int(batch.targets[row, place])
        weighted = own * scores[row, place].exp()
        total += float(-own[target] * torch.log(weighted[target] / weighted.sum()))
        weight += float(own[target])
    assert float(found.tokens.detach()) == pytest.approx(total, rel=1e-4)
    assert float(found.weight.detach()) == pytest.approx(weight, rel=1e-5)
    assert (float(found.mouth.detach()), found.spoken) == (0.0, 0)


def test_weights_by_class_leave_the_scores_true_to_their_frequencies() -> None:
    table = weight_table(WEIGHTS)[0]
    tokens = torch.tensor([Token.END, heard_token("red"), said_token("red"), Token.CANCEL])
    frequencies = torch.tensor([0.9, 0.05, 0.03, 0.02])
    scores = torch.zeros(len(table), requires_grad=True)
    optimizer = torch.optim.LBFGS([scores], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logs = (scores + table.log()).log_softmax(-1)[tokens]
        total = -(frequencies * table[tokens] * logs).sum()
        total.backward()
        return total

    optimizer.step(loss)
    found = scores.detach()[tokens].softmax(-1)
    assert torch.allclose(found, frequencies, atol=2e-3)


def test_the_mouth_learns_from_the_last_position_of_its_micro_turns(network: Network, batch: Batch) -> None:
    mouth = a_mouth()
    found = Objective(WEIGHTS)(Trainee(network, mouth), batch, noise(5))
    assert found.spoken == sum(len(mouth_of(n).turns) for n in (0, 1, 3))
    hidden = embed(network, batch).detach().requires_grad_()
    states = network.model(hidden, batch.segments)
    states.retain_grad()
    mouth_loss(mouth, states, batch, noise(5)).backward()
    assert states.grad is not None
    moved = states.grad.flatten(0, 1).abs().sum(-1).nonzero()[:, 0]
    assert moved.tolist() == sorted(batch.mouth.positions.tolist())


def test_noise_comes_from_its_generator_alone(network: Network, batch: Batch) -> None:
    trainee = Trainee(network, a_mouth())
    losses = [float(Objective(WEIGHTS)(trainee, batch, noise(seed)).mouth.detach()) for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_targets_are_counted_by_kind_and_task(network: Network, batch: Batch) -> None:
    found = tally(network, batch, len(TASKS))
    for task, numbers in ((0, (0,)), (1, (1, 3))):
        packed = [stored(n).packed for n in numbers]
        targets = np.concatenate([each.targets for each in packed])
        kinds = np.concatenate([each.kinds for each in packed])
        asked = targets != NO_TARGET
        wanted = kinds_of(torch.from_numpy(targets[asked]).long(), torch.from_numpy(kinds[asked]))
        assert found.positions[task].tolist() == wanted.bincount(minlength=len(TargetKind)).tolist()
    assert found.positions[0, TargetKind.HEARD] == found.positions[0, TargetKind.SAID] > 0


def test_accuracy_and_nats_are_those_of_tokens_that_may_be_emitted(batch: Batch) -> None:
    class Sure(nn.Module):
        """Says AUDIO first, which may not be emitted, and END next."""

        def __init__(self, network: Network) -> None:
            super().__init__()
            self.model, self.audio_tower = network.model, network.audio_tower
            self.vision_tower, self.clock = network.vision_tower, network.clock
            self.lm_head = network.lm_head

        def logits(self, hidden: torch.Tensor) -> torch.Tensor:
            scores = torch.zeros(len(hidden), 1024)
            scores[:, Token.AUDIO], scores[:, Token.END] = 90.0, 30.0
            return scores

    found = tally(Sure(Network(small_network())), batch, 2)  # type: ignore[arg-type]
    assert found.accuracy(0, TargetKind.SILENCE, TargetKind.END) == 1.0
    assert found.accuracy(0, TargetKind.HEARD) == 0.0
    assert found.accuracy(0, TargetKind.MARK) is None
    words = int(found.positions[:, [TargetKind.HEARD, TargetKind.SAID]].sum())
    assert found.mean_nats() == pytest.approx(30.0 * words / int(found.positions.sum()), rel=1e-3)
    assert (found + found).mean_nats(1) == pytest.approx(found.mean_nats(1))


def test_balance_moves_the_correction_against_the_load() -> None:
    torch.manual_seed(0)
    network = Network(small_network(experts=True))
    (router,) = (module for module in network.modules() if isinstance(module, Router))
    with torch.no_grad():
        router.weight.normal_()
        router.e_score_correction_bias[2] = 5.0  # all tokens go to one expert
    balance = ExpertBalance(network, rate=0.5)
    x = torch.randn(2, 20, 32)
    assert balance.step() is None
    network.model(x)
    assert balance.step() == pytest.approx(4.0)
    assert router.e_score_correction_bias.tolist() == [0.5, 0.5, 4.5, 0.5]
    for _ in range(30):
        network.model(x)
        busiest = balance.step()
    assert busiest is not None and busiest < 3.0


def test_balance_counts_nothing_while_scenes_are_looked_at() -> None:
    network = Network(small_network(experts=True))
    balance = ExpertBalance(network, rate=0.5)
    network.eval()
    network.model(torch.randn(1, 20, 32))
    assert balance.step() is None
    network.train()
    network.model(torch.randn(1, 20, 32))
    balance.forget()
    assert balance.step() is None


def test_the_rate_rises_stays_and_falls_to_nothing() -> None:
    constant = Schedule(warm_up_steps=4)
    assert [constant.factor(step) for step in (0, 1, 3, 4, 10_000)] == [0.25, 0.5, 1.0, 1.0, 1.0]
    falling = constant.falling(100, 3)
    factors = [falling.factor(step) for step in range(99, 104)]
    assert factors == pytest.approx([1.0, 0.5, 1 - 0.5**0.5, 1 - 0.75**0.5, 0.0])
    assert falling.ends_at == 103


def test_a_finished_run_that_is_taken_up_rises_again() -> None:
    finished = Schedule(warm_up_steps=4).falling(100, 3)
    assert finished.taken_up(102) == finished
    again = finished.taken_up(103)
    assert [again.factor(step) for step in (103, 106, 500)] == [0.25, 1.0, 1.0]


def test_gradients_reach_every_part(collate: Collator) -> None:
    torch.manual_seed(0)
    trainee = Trainee(Network(small_network()), a_mouth())
    found = Objective(WEIGHTS)(trainee, collate([(SceneRef(0, 0), SceneRef(0, 1))]), noise())
    (found.tokens + found.mouth + found.phonemes + found.sights).backward()
    without = [name for name, p in trainee.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
