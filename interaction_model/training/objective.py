"""What is made small: the loss of the next output token, those of what is heard and seen, and the flow loss of the mouth.

Silence is by far the most frequent answer. Its positions count less, so that a step's gradient is not made of them
alone; but a network trained with weights by class would believe silence to be rarer than it is, and speak too often.
So the same weights are added to the scores, as logarithms, for the loss only: then the scores without them are those of
the true frequencies, and who serves the network needs to know nothing of it. Source: logit adjustment (Menon et al.,
2021), turned round.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from microturn.interaction_model.native.embedding import embed_positions
from microturn.interaction_model.native.emission import MARKS, output_mask
from microturn.interaction_model.native.flow_head import PAST_FRAMES, FlowContext, FlowHead
from microturn.interaction_model.native.grammar import NO_TARGET, PositionKind
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.vocabulary import WORDS, Token, heard_token, said_token
from microturn.interaction_model.training.batches import Batch
from microturn.interaction_model.training.phonemes import PhonemeHead
from microturn.interaction_model.training.sights import SightHead
from microturn.interaction_model.training.train_config import LossWeights

PAST_NOISE = 0.15
"""Standard deviation of what is added to the past of the mouth, in normalised frames: as it is served, its own past has
errors too. Our choice, the same as where the mouth is trained alone."""


class Trainee(nn.Module):
    """All that a run trains: the network, the flow head if it is trained along, and what only training needs."""

    def __init__(self, network: Network, mouth: FlowHead | None) -> None:
        super().__init__()
        self.network = network
        self.mouth = mouth
        self.phonemes = PhonemeHead(network.config.backbone.width)
        self.sights = SightHead(network.config.backbone.width)


@dataclass(frozen=True, slots=True)
class Loss:
    """Sums, so that micro-batches add up to a step."""

    tokens: Tensor
    """Scalar: weighted sum of cross-entropies over positions that predict, in nats."""
    weight: Tensor
    """Scalar: the sum of weights."""
    mouth: Tensor
    """Scalar: sum of flow losses over the micro-turns in which the assistant speaks."""
    spoken: int
    """Such micro-turns."""
    phonemes: Tensor
    """Scalar: sum of losses over the user's phonemes, in nats."""
    sights: Tensor
    """Scalar: weighted sum of losses over what the camera sees, in nats."""


class Objective(nn.Module):
    """Computes losses; holds the weights of tokens as buffers."""

    table: Tensor

    def __init__(self, weights: LossWeights) -> None:
        super().__init__()
        self.weights = weights
        self.register_buffer("table", weight_table(weights))

    def position_weights(self, batch: Batch) -> Tensor:
        """`(B, T)` float32: how much each position counts; 0 where nothing is predicted."""
        is_output = (batch.kinds == PositionKind.OUTPUT).long()
        weights = self.table[is_output, batch.targets.clamp(min=0)]
        return weights * (batch.targets != NO_TARGET)

    def forward(self, trainee: Trainee, batch: Batch, random: torch.Generator) -> Loss:
        """Compute the losses of a batch, with gradients.

        `random` draws the noise and the times of the flow; it lives on the CPU, so that they are the same everywhere.
        """
        hidden = hidden_states(trainee.network, batch)
        asked = batch.targets != NO_TARGET
        scores = trainee.network.logits(hidden[asked]).float()
        after = (batch.kinds[asked] == PositionKind.OUTPUT).long()
        targets = batch.targets[asked]
        entropies = functional.cross_entropy(scores + self.table[after].log(), targets, reduction="none")
        weights = self.table[after, targets]
        return Loss(
            tokens=(entropies * weights).sum(),
            weight=weights.sum(),
            mouth=mouth_loss(trainee.mouth, hidden, batch, random),
            spoken=len(batch.mouth.positions) if trainee.mouth is not None else 0,
            phonemes=phoneme_loss(trainee.phonemes, hidden, batch),
            sights=trainee.sights.loss(hidden, batch.kinds, batch.sights),
        )


def hidden_states(network: Network, batch: Batch) -> Tensor:
    """Run whole rows through the network: `(B, T, C)`, normed."""
    hidden: Tensor = network.model(embed(network, batch), batch.segments)
    return hidden


def embed(network: Network, batch: Batch) -> Tensor:
    """Make the embeddings of all positions, each by what it holds: `(B, T, C)`."""
    return embed_positions(
        network,
        batch.kinds,
        batch.ids,
        batch.times,
        levels=batch.levels,
        patches=batch.patches.to(network.lm_head.weight.dtype),
    )


def mouth_loss(mouth: FlowHead | None, hidden: Tensor, batch: Batch, random: torch.Generator) -> Tensor:
    """The sum of flow losses over the micro-turns in which the assistant speaks; 0 without a mouth or speech."""
    spoken = batch.mouth
    if mouth is None or not len(spoken.positions):
        return hidden.new_zeros((), dtype=torch.float32)
    frames = mouth.normalised(spoken.frames)
    past, target = frames[:, :PAST_FRAMES], frames[:, PAST_FRAMES:]
    drawn = torch.randn(past.shape, generator=random).to(past)
    context = FlowContext(
        condition=hidden.flatten(0, 1)[spoken.positions].float(),
        past=past + PAST_NOISE * drawn,
        symbols=spoken.symbols,
        measures=spoken.measures,
    )
    noise = torch.randn(target.shape, generator=random).to(target)
    time = torch.rand(len(target), generator=random).to(target)
    return mouth.loss(target, context, noise, time) * len(target)


def phoneme_loss(head: PhonemeHead, hidden: Tensor, batch: Batch) -> Tensor:
    """The sum of losses over the user's phonemes; 0 where nothing is said."""
    if not len(batch.phonemes):
        return hidden.new_zeros((), dtype=torch.float32)
    is_sound = batch.kinds == PositionKind.AUDIO
    return head.loss(hidden[is_sound], is_sound.sum(1).tolist(), batch.phonemes, batch.phoneme_counts)


def weight_table(weights: LossWeights) -> Tensor:
    """Weights of tokens, `(2, V)` float32: the first row for the first token of a micro-turn, the second for later ones.

    Tokens that are never predicted have the weight 1, which changes no score.
    """
    table = torch.ones(2, len(output_mask()))
    table[0, Token.END] = weights.silence
    table[1, Token.END] = weights.end
    table[:, [heard_token(word) for word in WORDS]] = weights.heard
    table[:, [said_token(word) for word in WORDS]] = weights.said
    table[:, list(MARKS)] = weights.marks
    return table
