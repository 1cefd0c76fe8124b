"""How a silent micro-turn of the native model grows with what is behind it, beside what its attention must read.

The yardsticks are PyTorch's fused attention of as many queries to as many keys in one piece, without a bias, and a
plain read (a sum) of the same bytes. Processor time, as a shared machine would bend the lines.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from native_figures import Rows, Variant, slope, taking_turns
from native_stage import FIRST_TURN, Returning, Stage, given
from torch import Tensor
from torch.nn import functional as F

from microturn.interaction_model.native.config import BackboneConfig, NetworkConfig
from microturn.interaction_model.native.cost import turn_cost
from microturn.interaction_model.native.session import NativeSession
from microturn.kernels.tune.timing import quantile

CONTEXTS = (1024, 2048, 4096, 8192, 16_128)
"""The last one leaves room for some micro-turns in the usual window of 16,384."""
POSITIONS = 5


@dataclass(frozen=True)
class DenseLayer:
    """Keys and values of one layer in one piece, and queries to them."""

    rows: Tensor
    """(1, G, M, D): the heads of a group and all positions."""
    keys: Tensor
    """(1, G, K, D)"""
    values: Tensor

    @classmethod
    def random(cls, config: BackboneConfig, layer: int, context: int) -> DenseLayer:
        """As many as a micro-turn's attention reads in that layer."""
        heads, window = config.heads(layer), config.layer_window(layer) or context
        shape = (1, heads.groups, min(window, context), heads.head_dim)
        rows = torch.randn(1, heads.groups, POSITIONS * heads.heads // heads.groups, heads.head_dim)
        return cls(rows, torch.randn(shape), torch.randn(shape))

    def attend(self) -> Tensor:
        """PyTorch's attention, every query to all keys."""
        return F.scaled_dot_product_attention(self.rows, self.keys, self.values)

    def read(self) -> Tensor:
        """Touch every number once."""
        return self.keys.sum() + self.values.sum()


def growth(stage: Stage, config: NetworkConfig, *, budget_s: float) -> Rows:
    """One row for each context, and the slopes of all columns per 1,000 tokens."""
    rows: Rows = {}
    for context in CONTEXTS:
        session = stage.opened(str(context), context)
        variants = _variants(stage, session, config.backbone, context)
        spans = taking_turns(variants, rounds=200, budget_s=budget_s)
        session.close()
        cost = turn_cost(config, inputs=POSITIONS, outputs=0, patches=0, context=context, weight_bytes=4)
        rows[f"{context:,} tokens"] = {
            **{f"{name}_ms": round(quantile(own.cpu_ms, 0.2), 3) for name, own in spans.items()},
            "cache_mb": round(cost.cache_bytes / 1e6, 3),
        }
    return {**rows, **slopes(rows)}


def slopes(rows: Rows) -> Rows:
    """What 1,000 tokens more cost, over all contexts and over the longer ones of them."""
    found: Rows = {}
    for name, first in (("per 1,000 tokens", 0), ("the same, the longest three", -3)):
        places, values = [context / 1000 for context in CONTEXTS[first:]], list(rows.values())[first:]
        found[name] = {
            column: round(slope(places, [float(row[column]) for row in values]), 3) for column in values[0]
        }
    return found


def _variants(
    stage: Stage, session: NativeSession, config: BackboneConfig, context: int
) -> dict[str, Variant]:
    silence = given(FIRST_TURN)
    dense = [DenseLayer.random(config, layer, context) for layer in range(config.layers)]
    return {
        "step": Variant(
            lambda: stage.model.step([(session, silence)]), Returning(stage.model.decoder, session.state)
        ),
        "attention": Variant(lambda: [layer.attend() for layer in dense]),
        "read": Variant(lambda: [layer.read() for layer in dense]),
    }
