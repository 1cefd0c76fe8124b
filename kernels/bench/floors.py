"""Floors: the least time an operator can take on a machine, from its shapes.

Every input and every output crosses memory once, and the arithmetic runs at the peak rate of dense matrix products.
Times are in microseconds. Results in a cache can be quicker than the floor; the GPU measurements rotate their
buffers so that they are not.
"""

from __future__ import annotations

from dataclasses import dataclass

from microturn.kernels.bench.figure import Floor
from microturn.kernels.tune.shapes import LayerShape

FLOAT32_BYTES = 4
BF16_BYTES = 2


@dataclass(frozen=True)
class Ceilings:
    """What a machine can do at best."""

    bytes_per_s: float
    """Memory bandwidth, bytes read and written together."""
    flops_per_s: float
    """Dense matrix products, a multiply-add counted as two."""

    def floor(self, moved_bytes: float, flops: float = 0.0) -> Floor:
        """The floor of some work."""
        return Floor(moved_bytes / self.bytes_per_s * 1e6, flops / self.flops_per_s * 1e6)


H100 = Ceilings(3.0e12, 790e12)
"""An H100 SXM: what a device-to-device copy and an 8192-cubed bf16 product reach, rounded; our choice."""


def linear(c: Ceilings, rows: int, outputs: int, inputs: int, *, item: int = BF16_BYTES) -> Floor:
    """`(rows, inputs)` by a weight `(outputs, inputs)`; `item` bytes per number."""
    moved = item * (outputs * inputs + rows * (outputs + inputs))
    return c.floor(moved, 2.0 * rows * outputs * inputs)


def distinct_experts(tokens: int, experts: int, chosen: int) -> float:
    """How many of the routed experts `tokens` tokens visit together, if they choose independently and evenly."""
    return experts * (1.0 - (1.0 - chosen / experts) ** tokens)


def routed_experts(c: Ceilings, shape: LayerShape, tokens: int, *, item: int = BF16_BYTES) -> Floor:
    """The routed experts of a layer: those visited are read once."""
    visited = distinct_experts(tokens, shape.experts, shape.top_k)
    return _experts(c, shape, tokens, visited, shape.top_k, item)


def shared_experts(c: Ceilings, shape: LayerShape, tokens: int, *, item: int = BF16_BYTES) -> Floor:
    """The experts that every token visits."""
    return _experts(c, shape, tokens, shape.shared, shape.shared, item)


def moe(c: Ceilings, shape: LayerShape, tokens: int, *, item: int = BF16_BYTES) -> Floor:
    """Routed and shared experts in one pass over the tokens."""
    visited = distinct_experts(tokens, shape.experts, shape.top_k) + shape.shared
    return _experts(c, shape, tokens, visited, shape.top_k + shape.shared, item)


def _experts(c: Ceilings, shape: LayerShape, tokens: int, visited: float, slots: int, item: int) -> Floor:
    weights = visited * shape.expert_parameters
    # Between the two products of an expert its inner activations are written once and read once.
    activations = tokens * (2 * shape.width + 2 * slots * shape.expert_width)
    return c.floor(item * (weights + activations), 2.0 * tokens * slots * shape.expert_parameters)


def attention(
    c: Ceilings, shape: LayerShape, *, sessions: int, context: int, chunk: int, item: int = BF16_BYTES
) -> Floor:
    """`chunk` newest queries of each session over `context` keys, causal; keys and values are read once."""
    queries = sessions * chunk * shape.heads * shape.head_dim
    cache = 2 * sessions * context * shape.kv_width
    pairs = sessions * sum(range(context - chunk + 1, context + 1))
    return c.floor(item * (cache + 2 * queries), 4.0 * pairs * shape.heads * shape.head_dim)


def rows(c: Ceilings, count: int, width: int, *, tensors: int, item: int = BF16_BYTES) -> Floor:
    """An operator that reads and writes `tensors` tensors `(count, width)` in all, as a norm does."""
    return c.floor(float(item * tensors * count * width))


def kv_append(c: Ceilings, shape: LayerShape, tokens: int, *, item: int = BF16_BYTES) -> Floor:
    """New keys and values, read once and written once."""
    return rows(c, tokens, 2 * shape.kv_width, tensors=2, item=item)


def dmel(c: Ceilings, frames: int, *, window: int = 1600, mels: int = 80) -> Floor:
    """The spectrum of `frames` windows as a product with a float32 matrix of cosines and sines."""
    bins = window // 2 + 1
    matrix = window * 2 * bins
    audio = frames * window // 2
    return c.floor(FLOAT32_BYTES * (matrix + audio) + frames * mels)


def flow_head(c: Ceilings, width: int, blocks: int, *, item: int = BF16_BYTES) -> Floor:
    """One step of a flow head of transformer-sized blocks, 12*width^2 weights each, for few rows."""
    return c.floor(float(item * 12 * width * width * blocks))


def layer(
    c: Ceilings, shape: LayerShape, *, tokens: int, context: int, sessions: int = 1, item: int = BF16_BYTES
) -> Floor:
    """One decoder layer as its parts one after the other: q, k, v and relative features, attention, output, experts."""
    parts = (
        linear(c, tokens, shape.qkv_width, shape.width, item=item),
        attention(c, shape, sessions=sessions, context=context, chunk=tokens // sessions, item=item),
        linear(c, tokens, shape.width, shape.heads * shape.head_dim, item=item),
        linear(c, tokens, shape.experts + shape.shared, shape.width, item=item),
        moe(c, shape, tokens, item=item),
    )
    # Each part takes the larger of its two times; their sum is kept as one number under the bound that rules.
    total = sum(part.us for part in parts)
    if sum(part.bytes_us for part in parts) >= sum(part.flops_us for part in parts):
        return Floor(total, sum(part.flops_us for part in parts))
    return Floor(sum(part.bytes_us for part in parts), total)
