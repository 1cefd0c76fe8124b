"""All parts that are trained together: the transformer, its head, its ears, its eyes and its clock."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from microturn.interaction_model.native.backbone import Backbone
from microturn.interaction_model.native.clock import Clock
from microturn.interaction_model.native.config import NetworkConfig
from microturn.interaction_model.native.ears import Ears
from microturn.interaction_model.native.eyes import Eyes


class Network(nn.Module):
    """One tree of modules. `model` and `lm_head` have the names of Inkling's language model, the towers theirs.

    Args:
        config: its sizes.
        device: where its parameters are made; `meta` makes none.
    """

    def __init__(self, config: NetworkConfig, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config.backbone, device)
        with torch.device(device):
            self.lm_head = nn.Linear(config.backbone.width, config.backbone.vocabulary, bias=False)
            self.audio_tower = Ears(config.ears)
            self.vision_tower = Eyes(config.eyes)
            self.clock = Clock(config.backbone.width)
        nn.init.normal_(self.lm_head.weight, std=config.backbone.width**-0.5)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next id: hidden states `(..., C)` of the backbone -> `(..., V)`."""
        scores: Tensor = self.lm_head(hidden / self.config.backbone.logits_divisor)
        return scores


FLOAT32_NAMES = ("sconv.conv1d.weight", "e_score_correction_bias", "gate.global_scale")
"""Ends of the names of tensors that stay in float32 beside bfloat16 ones, as in transformers."""


def to_bfloat16(network: Network) -> Network:
    """Round the weights to bfloat16, in place, but for those few that are kept in float32."""
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if not name.endswith(FLOAT32_NAMES):
            tensor.data = tensor.data.bfloat16()
    return network
