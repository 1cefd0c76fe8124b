"""A whole layer of Inkling-Small on random weights: what invariance costs end to end.

Ours is compared with PyTorch's own operators, and with the quickest mixture of both, found by timing each part.
Norms and convolutions of the mixture are ours: PyTorch's would take many launches. PyTorch's attention reads dense keys
and has no bias by distance, so where the mixture uses it, it does less than ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor

from microturn.kernels.bench import baselines, floors
from microturn.kernels.bench.layer import LayerState, LayerWeights, Operators, layer_step
from microturn.kernels.bench.ours import OURS
from microturn.kernels.bench.stage import Stage
from microturn.kernels.tune.timing import Call

GOAL = "<= 3% over the quickest mixture"


def layer_slice(
    stage: Stage, weights: LayerWeights, *, tokens: Sequence[int], context: int, chunk: int, page: int
) -> None:
    """Sessions of one token each, for each number in `tokens`; then one session with a chunk."""
    cases = [(1, chunk), *((sessions, 1) for sessions in tokens)]
    stage.run(
        [
            (
                f"layer {sessions}x{length}",
                partial(_case, stage, weights, sessions, length, context, page),
            )
            for sessions, length in cases
        ]
    )


def _case(stage: Stage, weights: LayerWeights, sessions: int, chunk: int, context: int, page: int) -> None:
    shape = weights.shape
    state = LayerState.random(
        shape,
        sessions=sessions,
        context=context,
        chunk=chunk,
        page=page,
        window=0,
        device=stage.device,
        dtype=stage.dtype,
    )
    inputs = [stage.normal(state.tokens, shape.width, seed=30 + seed) for seed in range(2)]
    mixture, chosen = _quickest(stage, weights, state, inputs[0])
    ways = {"ours": OURS, "library": baselines.LIBRARY, "fastest": mixture}
    stage.compare(
        "layer",
        f"{shape.name} sessions {sessions} chunk {chunk} context {context}",
        {name: [_step(way, x, weights, state) for x in inputs] for name, way in ways.items()},
        floor=floors.layer(stage.ceilings, shape, tokens=state.tokens, context=context, sessions=sessions),
        goal=GOAL,
        note=f"fastest: {chosen}",
    )


def _quickest(stage: Stage, weights: LayerWeights, state: LayerState, x: Tensor) -> tuple[Operators, str]:
    """For linears, attention and experts the quicker of ours and the library's, each timed alone."""
    ids, shares = OURS.route(x, weights)
    q, k, v, relative = _attention_inputs(stage, weights, state)
    parts: dict[str, dict[str, Call]] = {"linear": {}, "attend": {}, "experts": {}}
    ways = {"ours": OURS, "library": baselines.LIBRARY}
    for name, way in ways.items():
        parts["linear"][name] = partial(way.linear, x, weights.qkv)
        parts["attend"][name] = partial(way.attend, q, k, v, relative, weights, state)
        parts["experts"][name] = partial(way.experts, x, ids, shares, weights)
    winners = {}
    for part, calls in parts.items():
        timings = stage.clock.time({name: [call] for name, call in calls.items()})
        winners[part] = min(timings, key=lambda name: timings[name].p50_us)
    mixture = replace(
        OURS,
        linear=ways[winners["linear"]].linear,
        attend=ways[winners["attend"]].attend,
        experts=ways[winners["experts"]].experts,
    )
    return mixture, ", ".join(f"{part} {name}" for part, name in winners.items())


def _attention_inputs(
    stage: Stage, weights: LayerWeights, state: LayerState
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    shape = weights.shape
    q = stage.normal(state.tokens, shape.heads, shape.head_dim, seed=40)
    k, v = (stage.normal(state.tokens, shape.kv_width, seed=seed) for seed in (41, 42))
    relative = stage.normal(state.tokens, shape.heads, shape.relative, seed=43) if shape.relative else None
    return q, k, v, relative


def _step(way: Operators, x: Tensor, weights: LayerWeights, state: LayerState) -> Call:
    return lambda: layer_step(way, x, weights, state)
