"""The GPU figures: our operators with their tuned tiles beside what is there already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from microturn.kernels.bench import baselines, floors
from microturn.kernels.bench.layer import EPS, LayerState, LayerWeights, Operators
from microturn.kernels.bench.layer_slice import layer_slice
from microturn.kernels.bench.ours import OURS, attend
from microturn.kernels.bench.stage import Stage, measure_ceilings
from microturn.kernels.gpu.fixed_tile import fixed_tile_linear
from microturn.kernels.ops.dmel import dmel_embed, dmel_levels
from microturn.kernels.ops.flow import guided_flow_step
from microturn.kernels.ops.kv import append_kv
from microturn.kernels.ops.linear import linear
from microturn.kernels.ops.norm import add_rms_norm, rms_norm
from microturn.kernels.ops.softmax import lm_head_argmax
from microturn.kernels.tune.shapes import INKLING_SMALL, INKLING_VOCABULARY, SKINNY, TINY, LayerShape
from microturn.kernels.tune.timing import Call


@dataclass(frozen=True)
class FinalPlan:
    """What is timed."""

    layer: LayerShape
    linears: Sequence[tuple[int, int]]
    linear_rows: Sequence[int]
    vocabulary: int
    norm_rows: Sequence[int]
    expert_tokens: Sequence[int]
    attentions: Sequence[tuple[int, int, int]]
    """(sessions, context, chunk)."""
    page: int
    layer_tokens: Sequence[int]
    """Sessions of one token each in the layer slice."""
    layer_context: int
    chunk: int


FULL = FinalPlan(
    layer=INKLING_SMALL,
    linears=SKINNY,
    linear_rows=(1, 16, 64, 256, 2048),
    vocabulary=INKLING_VOCABULARY,
    norm_rows=(1, 64, 2048),
    expert_tokens=(1, 8, 50, 128, 8192),
    attentions=((1, 4096, 1), (8, 8192, 1), (1, 131072, 1), (1, 8192, 50), (1, 32768, 2048)),
    page=64,
    layer_tokens=(1, 2, 4, 8, 16, 50, 128),
    layer_context=8192,
    chunk=50,
)

DRY = FinalPlan(
    layer=TINY,
    linears=((32, 64),),
    linear_rows=(1, 17),
    vocabulary=100,
    norm_rows=(2,),
    expert_tokens=(1, 5),
    attentions=((1, 40, 1), (2, 40, 1), (1, 40, 7)),
    page=16,
    layer_tokens=(1, 2),
    layer_context=40,
    chunk=5,
)


def final(stage: Stage, plan: FinalPlan) -> None:
    """All figures, those of the greatest weight first."""
    measure_ceilings(stage)
    weights = LayerWeights.random(plan.layer, device=stage.device, dtype=stage.dtype, window=0)
    stage.run(
        [*_expert_steps(stage, plan, weights), *_linear_steps(stage, plan), *_attention_steps(stage, plan)]
    )
    layer_slice(
        stage,
        weights,
        tokens=plan.layer_tokens,
        context=plan.layer_context,
        chunk=plan.chunk,
        page=plan.page,
    )
    stage.run(
        [
            ("lm_head", lambda: _lm_head(stage, plan)),
            ("norms", lambda: _norms(stage, plan)),
            ("route", lambda: _route(stage, weights)),
            ("append_kv", lambda: _append(stage, plan, weights)),
            ("dmel", lambda: _dmel(stage, plan)),
            ("flow", lambda: _flow(stage, plan)),
        ]
    )


Steps = Iterator[tuple[str, Callable[[], None]]]


def _linear_steps(stage: Stage, plan: FinalPlan) -> Steps:
    for rows in plan.linear_rows:
        for n, k in plan.linears:
            yield f"linear {n}x{k} M={rows}", partial(_linear, stage, n, k, rows)


def _linear(stage: Stage, n: int, k: int, rows: int) -> None:
    x = stage.normal(rows, k)
    weights = stage.rotated(stage.normal(n, k, seed=1, spread=k**-0.5))
    stage.compare(
        "linear",
        f"{n}x{k} M={rows}",
        {
            "cublas": [partial(F.linear, x, w) for w in weights],
            "fixed tile": [partial(fixed_tile_linear, x, w) for w in weights],
            "ours": [partial(linear, x, w) for w in weights],
        },
        floor=floors.linear(stage.ceilings, rows, n, k),
        goal=">= 85% of the floor, >= 1.0x cuBLAS" if rows <= 16 else ">= 0.92x cuBLAS",
    )


def _expert_steps(stage: Stage, plan: FinalPlan, weights: LayerWeights) -> Steps:
    for tokens in plan.expert_tokens:
        yield f"moe T={tokens}", partial(_experts, stage, weights, tokens)


def _experts(stage: Stage, weights: LayerWeights, tokens: int) -> None:
    """Four sets of tokens, which choose other experts, stand in for rotated weights."""
    inputs = []
    for seed in range(4):
        x = stage.normal(tokens, weights.shape.width, seed=20 + seed)
        inputs.append((x, *OURS.route(x, weights)))
    ways = {"ours": OURS.experts, "library grouped": baselines.experts_grouped}
    if tokens == 1:
        ways["library gather"] = baselines.experts_gathered
    stage.compare(
        "moe",
        f"{weights.shape.name} T={tokens}",
        {name: [_expert_call(way, one, weights) for one in inputs] for name, way in ways.items()},
        floor=floors.moe(stage.ceilings, weights.shape, tokens),
        goal=">= 88% of the floor, >= 2.5x grouped products" if tokens <= 16 else ">= 90% of the floor",
        note=f"{len(torch.unique(inputs[0][1]))} experts visited",
    )


def _expert_call(
    way: Callable[[Tensor, Tensor, Tensor, LayerWeights], Tensor],
    inputs: tuple[Tensor, Tensor, Tensor],
    weights: LayerWeights,
) -> Call:
    return lambda: way(*inputs, weights)


def _attention_steps(stage: Stage, plan: FinalPlan) -> Steps:
    for sessions, context, chunk in plan.attentions:
        yield (
            f"attention {sessions}x{context} chunk {chunk}",
            partial(_attention, stage, plan, sessions, context, chunk),
        )


def _attention(stage: Stage, plan: FinalPlan, sessions: int, context: int, chunk: int) -> None:
    """Ours with pages, with and without a bias by distance; the library's over dense keys and without a bias."""
    shape = plan.layer
    states = [_state(stage, plan, sessions, context, chunk) for _ in range(2 if stage.is_dry else 4)]
    q = stage.normal(sessions * chunk, shape.heads, shape.head_dim, seed=3)
    queries = q.view(sessions, chunk, shape.heads, shape.head_dim).transpose(1, 2).contiguous()
    bias = stage.normal(sessions * chunk, shape.heads, min(1024, context), seed=4)
    scale = 1.0 / shape.head_dim
    stage.compare(
        "attention",
        f"{sessions} sessions, context {context}, chunk {chunk}",
        {
            "library": [
                partial(baselines.sdpa, queries, s.dense_keys, s.dense_values, scale) for s in states
            ],
            "ours": [_attention_call(q, s, None) for s in states],
            "ours biased": [_attention_call(q, s, bias) for s in states],
        },
        floor=floors.attention(stage.ceilings, shape, sessions=sessions, context=context, chunk=chunk),
        goal=">= 80% of the floor" if chunk < 100 else ">= 450 TFLOP/s",
    )


def _attention_call(q: Tensor, state: LayerState, bias: Tensor | None) -> Call:
    return lambda: attend(q, state, bias)


def _lm_head(stage: Stage, plan: FinalPlan) -> None:
    width = plan.layer.width
    weight = stage.normal(plan.vocabulary, width, seed=5, spread=width**-0.5)
    for tokens in (1, 16):
        h = stage.normal(tokens, width, seed=6)
        stage.compare(
            "lm_head",
            f"V={plan.vocabulary} T={tokens}",
            {
                "library": [partial(_library_head, h, weight)],
                "ours": [partial(lm_head_argmax, h, weight)],
            },
            floor=floors.linear(stage.ceilings, tokens, plan.vocabulary, width),
            goal=">= 90% of the floor",
        )


def _library_head(h: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    logits = F.linear(h, weight)
    return logits.argmax(dim=-1), logits.float().logsumexp(dim=-1)


def _norms(stage: Stage, plan: FinalPlan) -> None:
    width = plan.layer.width
    weight = stage.normal(width, seed=7)
    for rows in plan.norm_rows:
        inputs = stage.rotated(stage.normal(rows, width, seed=8))
        goal = "<= 2.5 us" if rows <= 64 else ">= 85% of the floor"
        stage.compare(
            "rms_norm",
            f"T={rows} C={width}",
            {
                "library": [partial(baselines.LIBRARY.norm, x, weight) for x in inputs],
                "ours": [partial(rms_norm, x, weight, EPS) for x in inputs],
            },
            floor=floors.rows(stage.ceilings, rows, width, tensors=2),
            goal=goal,
        )
        stage.compare(
            "add_rms_norm",
            f"T={rows} C={width}",
            {
                "library": [partial(baselines.LIBRARY.add_norm, x, x, weight) for x in inputs],
                "ours": [partial(add_rms_norm, x, x, weight, EPS) for x in inputs],
            },
            floor=floors.rows(stage.ceilings, rows, width, tensors=3),
            goal=goal,
            note="x is its own residual: three tensors move",
        )


def _route(stage: Stage, weights: LayerWeights) -> None:
    for tokens in (1, 8, 50):
        x = stage.normal(tokens, weights.shape.width, seed=9)
        stage.compare(
            "route",
            f"T={tokens} E={weights.shape.experts}",
            {
                name: [_route_call(way, x, weights)]
                for name, way in (("library", baselines.LIBRARY), ("ours", OURS))
            },
            floor=floors.linear(
                stage.ceilings,
                tokens,
                weights.shape.experts + weights.shape.shared,
                weights.shape.width,
                item=weights.router.element_size(),
            ),
            goal="<= 6 us" if tokens <= 8 else "",
            note="weight in cache",
        )


def _route_call(operators: Operators, x: Tensor, weights: LayerWeights) -> Call:
    return lambda: operators.route(x, weights)


def _append(stage: Stage, plan: FinalPlan, weights: LayerWeights) -> None:
    state = _state(stage, plan, 1, plan.layer_context, plan.chunk)
    k, v = (stage.normal(plan.chunk, plan.layer.kv_width, seed=seed) for seed in (10, 11))
    held, norm = state.kv_state, weights.head_norm

    def call() -> object:
        return append_kv(
            k, v, k_conv=weights.k_conv, v_conv=weights.v_conv, k_state=held, v_state=held, k_norm=norm, eps=EPS,
            keys=state.keys, values=state.values, slots=state.slots, starts=state.starts,
        )  # fmt: skip

    floor = floors.kv_append(stage.ceilings, plan.layer, plan.chunk)
    stage.compare("append_kv", f"{plan.chunk} tokens", {"ours": [call]}, floor=floor, goal="<= 4 us")


def _dmel(stage: Stage, plan: FinalPlan) -> None:
    audio = torch.rand(1, 3200, device=stage.device) * 2 - 1
    carry = torch.zeros(1, 800, device=stage.device)
    table, norm = stage.normal(80 * 16, plan.layer.width), stage.normal(plan.layer.width)

    def call() -> Tensor:
        levels, _ = dmel_levels(audio, carry)
        return dmel_embed(levels.flatten(0, 1), table, norm, EPS)

    floor = floors.dmel(stage.ceilings, 4)
    stage.compare("dmel", "4 frames to embeddings", {"ours": [call]}, floor=floor, goal="<= 15 us")


def _flow(stage: Stage, plan: FinalPlan) -> None:
    """The step that follows the head's network; the network itself is made of linears and norms."""
    x, with_condition, without = (stage.normal(16, plan.layer.width, seed=seed) for seed in (12, 13, 14))
    stage.compare(
        "guided_flow_step",
        f"16x{plan.layer.width}",
        {
            "library": [lambda: x + 0.125 * (without + 3.0 * (with_condition - without))],
            "ours": [lambda: guided_flow_step(x, with_condition, without, 0.125, 3.0)],
        },
        floor=floors.rows(stage.ceilings, 16, plan.layer.width, tensors=4),
    )


def _state(stage: Stage, plan: FinalPlan, sessions: int, context: int, chunk: int) -> LayerState:
    return LayerState.random(
        plan.layer,
        sessions=sessions,
        context=context,
        chunk=chunk,
        page=plan.page,
        window=0,
        device=stage.device,
        dtype=stage.dtype,
    )
