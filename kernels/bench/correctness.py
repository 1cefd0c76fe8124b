"""Checks our operators on a device: right to rounding, and one row's bits the same in every batch, chunk and replay.

The tests of this package check the same things on the CPU and in Triton's interpreter; neither can show what a
GPU's bits are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from microturn.kernels import reference, reference_attention
from microturn.kernels.bench.layer import LayerState, LayerWeights, layer_step
from microturn.kernels.bench.ours import OURS
from microturn.kernels.bench.stage import Stage
from microturn.kernels.evidence import same_bits
from microturn.kernels.ops.activation import silu, swiglu
from microturn.kernels.ops.attention import attention
from microturn.kernels.ops.dmel import dmel_levels
from microturn.kernels.ops.linear import linear
from microturn.kernels.ops.moe import moe
from microturn.kernels.ops.norm import add_rms_norm, mean, rms_norm
from microturn.kernels.ops.sampling import sample
from microturn.kernels.ops.short_conv import short_conv
from microturn.kernels.ops.softmax import lm_head_argmax, log_softmax, softmax
from microturn.kernels.tune.bit_class import RowOperator, bit_classes
from microturn.kernels.tune.shapes import INKLING_SMALL, INKLING_VOCABULARY, SKINNY, TINY, LayerShape
from microturn.kernels.tune.timing import captured

EPS = 1e-6
REPLAYS = 20
LARGEST_ERROR = 1e-2
"""Relative error in the Euclidean norm beside float64 from the same rounded inputs; bfloat16 itself gives about 0.003."""


@dataclass(frozen=True)
class CorrectnessPlan:
    """Sizes of the checks."""

    layer: LayerShape
    linears: Sequence[tuple[int, int]]
    vocabulary: int
    rows: Sequence[int]
    """Batch sizes of row-wise operators."""
    large_rows: Sequence[int]
    """Further ones, for operators whose results are small enough."""
    contexts: Sequence[int]
    chunks: Sequence[int]
    page: int
    many_tokens: int
    """Of the mixture of experts, beside one."""


FULL = CorrectnessPlan(
    layer=replace(INKLING_SMALL, experts=64),
    linears=SKINNY,
    vocabulary=INKLING_VOCABULARY,
    rows=(*range(1, 18), 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257),
    large_rows=(512, 1000, 1024, 2048, 4096, 8192),
    contexts=(300, 1000, 4096),
    chunks=(1, 7, 50, 64, 100, 512),
    page=64,
    many_tokens=8192,
)
"""64 experts keep the weights small; the kernels do not know the difference."""

DRY = CorrectnessPlan(
    layer=TINY,
    linears=((32, 64),),
    vocabulary=100,
    rows=(1, 2, 17),
    large_rows=(),
    contexts=(40,),
    chunks=(1, 7, 40),
    page=16,
    many_tokens=20,
)


@dataclass(frozen=True)
class RowCase:
    """A row-wise operator with its weights bound, and what it should give."""

    name: str
    operator: RowOperator
    width: int
    is_large: bool = False
    """Whether it is tried with `large_rows` too."""
    exact: Callable[[Tensor], Tensor] | None = None
    """In float64."""


def correctness(stage: Stage, plan: CorrectnessPlan) -> None:
    """Every check writes a record with `is_right`."""
    rows = [
        (f"rows {case.name}", partial(_check_rows, stage, plan, case)) for case in _row_cases(stage, plan)
    ]
    stage.run(
        [
            *rows,
            ("experts", lambda: _check_experts(stage, plan)),
            ("attention", lambda: _check_attention(stage, plan)),
            ("short convolution", lambda: _check_convolution(stage, plan)),
            ("dmel", lambda: _check_dmel(stage)),
            ("sampling", lambda: _check_sampling(stage)),
            ("layer", lambda: _check_layer(stage, plan)),
            ("replays", lambda: _check_replays(stage, plan)),
        ]
    )
    checks = [record for record in stage.journal.records if record["kind"] == "check"]
    wrong = [record["name"] for record in checks if record["is_right"] is not True]
    stage.journal.add("correctness_verdict", {"checks": len(checks), "wrong": wrong})


def _row_cases(stage: Stage, plan: CorrectnessPlan) -> Iterator[RowCase]:
    width = plan.layer.width
    gain = stage.normal(width, seed=3)
    for n, k in plan.linears:
        weight = stage.normal(n, k, seed=4, spread=k**-0.5)
        yield RowCase(
            f"linear {n}x{k}",
            partial(_linear, weight),
            k,
            is_large=True,
            exact=partial(_exact_linear, weight),
        )
    yield RowCase(
        "rms_norm", lambda x: rms_norm(x, gain, EPS), width, True, lambda x: reference.rms_norm(x, gain, EPS)
    )
    yield RowCase("add_rms_norm", lambda x: add_rms_norm(x, x, gain, EPS), width, True)
    yield RowCase("mean", mean, width, True, reference.mean)
    yield RowCase("softmax", softmax, width, True, reference.softmax)
    yield RowCase("log_softmax", log_softmax, width, True, reference.log_softmax)
    yield RowCase("silu", silu, width, True, reference.silu)
    yield RowCase("swiglu", swiglu, width, True, reference.swiglu)
    head = stage.normal(plan.vocabulary, width, seed=5, spread=width**-0.5)
    yield RowCase("lm_head_argmax", lambda x: lm_head_argmax(x, head), width)
    weights = _weights(stage, plan)
    yield RowCase("route", lambda x: OURS.route(x, weights), width, True)


def _linear(weight: Tensor, x: Tensor) -> Tensor:
    return linear(x, weight)


def _exact_linear(weight: Tensor, x: Tensor) -> Tensor:
    return reference.linear(x, weight)


def _check_rows(stage: Stage, plan: CorrectnessPlan, case: RowCase) -> None:
    rows = (*plan.rows, *plan.large_rows) if case.is_large else tuple(plan.rows)
    x = stage.normal(max(rows), case.width, seed=6)
    classes = bit_classes(case.operator, x, rows)
    error = None
    if case.exact is not None:
        got = case.operator(x[:17])
        assert isinstance(got, Tensor)
        error = relative_error(got, case.exact(x[:17]))
    is_right = classes.count == 1 and (error is None or error <= LARGEST_ERROR)
    _record(stage, f"rows {case.name}", is_right, {"rows": max(rows), "error": error, **classes.as_row()})


def _check_experts(stage: Stage, plan: CorrectnessPlan) -> None:
    """One token alone, the same tokens in another order, and the result itself."""
    weights, tokens = _weights(stage, plan), plan.many_tokens
    x = stage.normal(tokens, plan.layer.width, seed=7)
    ids, shares = OURS.route(x, weights)
    together = _experts(x, ids, shares, weights)
    alone = all(
        same_bits(together[t : t + 1], _experts(x[t : t + 1], ids[t : t + 1], shares[t : t + 1], weights))
        for t in sorted({0, 1, tokens // 2, tokens - 1})
    )
    order = torch.randperm(tokens, generator=torch.Generator().manual_seed(8)).to(stage.device)
    permuted = same_bits(together[order], _experts(x[order], ids[order], shares[order], weights))
    few = slice(0, 4)
    exact = reference.moe(x[few], weights.gate_up, weights.down, ids[few], shares[few])
    error = relative_error(together[few], exact)
    is_right = alone and permuted and error <= LARGEST_ERROR
    _record(
        stage, "experts", is_right, {"tokens": tokens, "alone": alone, "permuted": permuted, "error": error}
    )


def _check_attention(stage: Stage, plan: CorrectnessPlan) -> None:
    """Decoded token by token, in chunks and in one piece; with and without a window, sinks and a bias."""
    for context in plan.contexts:
        for window, sinks, is_biased in ((0, 0, False), (0, 0, True), (plan.page * 3 + 5, 4, True)):
            state = _state(stage, plan, context, window)
            q = stage.normal(context, plan.layer.heads, plan.layer.head_dim, seed=9)
            bias = stage.normal(context, plan.layer.heads, 33, seed=10) if is_biased else None
            whole = _attend(q, bias, state, 0, context, sinks)
            differing = [
                chunk
                for chunk in plan.chunks
                if chunk < context and not _is_same_in_chunks(q, bias, state, chunk, sinks, whole)
            ]
            error = _attention_error(q, bias, state, sinks, whole)
            name = (
                f"attention context {context} window {window} sinks {sinks}{' biased' if is_biased else ''}"
            )
            is_right = not differing and error <= LARGEST_ERROR
            _record(stage, name, is_right, {"chunks_that_differ": differing, "error": error})


def _attention_error(q: Tensor, bias: Tensor | None, state: LayerState, sinks: int, whole: Tensor) -> float:
    """Of the last three tokens."""
    context = q.shape[0]
    exact = reference_attention.attention(
        q[-3:].cpu(),
        state.keys.cpu(),
        state.values.cpu(),
        state.page_table.cpu(),
        torch.tensor([0, 3], dtype=torch.int32),
        torch.tensor([context], dtype=torch.int32),
        scale=1.0 / q.shape[-1],
        window=state.window,
        sinks=sinks,
        distance_bias=None if bias is None else bias[-3:].cpu(),
    )
    return relative_error(whole[-3:], exact)


def _is_same_in_chunks(
    q: Tensor, bias: Tensor | None, state: LayerState, chunk: int, sinks: int, whole: Tensor
) -> bool:
    """Long contexts in few large pieces, and their last 130 tokens in chunks: there the cuts of a split lie."""
    context = q.shape[0]
    begin = max(0, context - 130)
    return all(
        same_bits(
            whole[start : min(start + chunk, context)],
            _attend(q, bias, state, start, min(start + chunk, context), sinks),
        )
        for start in range(begin, context, chunk)
    )


def _attend(q: Tensor, bias: Tensor | None, state: LayerState, begin: int, end: int, sinks: int) -> Tensor:
    """The tokens from `begin` to `end`, the newest of a session that holds `end` keys."""
    starts = torch.tensor([0, end - begin], dtype=torch.int32, device=q.device)
    lengths = torch.tensor([end], dtype=torch.int32, device=q.device)
    part = None if bias is None else bias[begin:end]
    return attention(
        q[begin:end],
        state.keys,
        state.values,
        state.page_table,
        starts,
        lengths,
        scale=1.0 / q.shape[-1],
        window=state.window,
        sinks=sinks,
        distance_bias=part,
    )


def _check_convolution(stage: Stage, plan: CorrectnessPlan) -> None:
    """One piece of 40 tokens, and the same in pieces that hand on their state."""
    width, taps, tokens = plan.layer.width, plan.layer.conv, 40
    x, weight = stage.normal(tokens, width, seed=11), stage.normal(width, taps, seed=12)
    before = torch.zeros(1, taps - 1, width, device=stage.device, dtype=stage.dtype)
    whole, _ = short_conv(x, weight, before, _starts(stage, tokens))
    for chunk in (1, 2, 7):
        state, parts = before, []
        for piece in torch.split(x, chunk):
            part, state = short_conv(piece, weight, state, _starts(stage, len(piece)))
            parts.append(part)
        _record(stage, f"short_conv in chunks of {chunk}", same_bits(whole, torch.cat(parts)), {})


def _check_dmel(stage: Stage) -> None:
    """Two seconds of noise in one piece, in micro-turns, and beside another session."""
    generator = torch.Generator().manual_seed(13)
    audio = (torch.rand(2, 32_000, generator=generator) * 2 - 1).to(stage.device)
    carry = torch.zeros(2, 800, device=stage.device)
    whole, _ = dmel_levels(audio, carry)
    alone, _ = dmel_levels(audio[:1], carry[:1])
    parts, held = [], carry
    for piece in torch.split(audio, 3200, dim=1):
        levels, held = dmel_levels(piece.contiguous(), held)
        parts.append(levels)
    expected, _ = reference.dmel_levels(audio.cpu(), carry.cpu())
    off = int((whole.cpu().int() - expected.int()).abs().max())
    share = float((whole.cpu() != expected).float().mean())
    is_same = same_bits(whole, torch.cat(parts, dim=1)) and same_bits(whole[:1], alone)
    # Levels next to a rounding edge may fall to either side of it.
    is_right = is_same and off <= 1 and share <= 1e-3
    _record(stage, "dmel", is_right, {"same": is_same, "largest_step": off, "differing_share": share})


def _check_sampling(stage: Stage) -> None:
    """The same tokens alone and together."""
    rows, columns = 65, 1000
    logits = stage.normal(rows, columns, seed=14)
    seeds = torch.arange(rows, device=stage.device)
    positions = torch.arange(rows, device=stage.device) * 3
    heat = torch.full((rows,), 0.8, device=stage.device)
    heat[::5] = 0.0
    together = sample(logits, seeds, positions, heat)
    alone = [
        sample(logits[t : t + 1], seeds[t : t + 1], positions[t : t + 1], heat[t : t + 1])
        for t in range(rows)
    ]
    expected = reference.sample(logits.cpu(), seeds.cpu(), positions.cpu(), heat.cpu())
    share = float((together.cpu() == expected).float().mean())
    is_same = same_bits(together, torch.cat(alone))
    _record(stage, "sampling", is_same and share >= 0.95, {"same": is_same, "as_the_oracle": share})


def _check_layer(stage: Stage, plan: CorrectnessPlan) -> None:
    """One session's newest token alone and beside seven others."""
    weights, context = _weights(stage, plan), max(plan.contexts)
    state = _state(stage, plan, context, 0, sessions=8)
    x = stage.normal(8, plan.layer.width, seed=15)
    together = layer_step(OURS, x, weights, state)
    one = replace(
        state,
        sessions=1,
        page_table=state.page_table[:1],
        starts=state.starts[:2],
        lengths=state.lengths[:1],
        slots=state.slots[:1],
        kv_state=state.kv_state[:1],
        state=state.state[:1],
    )
    alone = layer_step(OURS, x[:1], weights, one)
    _record(stage, "layer alone and beside seven others", same_bits(together[:1], alone), {})


def _check_replays(stage: Stage, plan: CorrectnessPlan) -> None:
    """A captured layer gives the bits of the eager one, 20 times; without a GPU it is only run twice."""
    weights = _weights(stage, plan)
    state = _state(stage, plan, max(plan.contexts), 0)
    x = stage.normal(1, plan.layer.width, seed=16)
    eager = layer_step(OURS, x, weights, state)
    if stage.is_dry:
        _record(stage, "replay", same_bits(eager, layer_step(OURS, x, weights, state)), {"replays": 1})
        return
    out = torch.empty_like(eager)
    graph = captured([lambda: out.copy_(layer_step(OURS, x, weights, state))])
    same = 0
    for _ in range(REPLAYS):
        out.fill_(float("nan"))
        graph.replay()
        same += same_bits(out, eager)
    _record(stage, "replay", same == REPLAYS, {"replays": REPLAYS, "same": same})


def relative_error(got: Tensor, exact: Tensor) -> float:
    """The Euclidean norm of the difference over that of the exact result; NaN becomes infinite."""
    difference = (got.double() - exact.to(got.device).double()).norm() / exact.double().norm()
    return float(torch.nan_to_num(difference, nan=float("inf")))


def _experts(x: Tensor, ids: Tensor, shares: Tensor, weights: LayerWeights) -> Tensor:
    return moe(x.contiguous(), weights.gate_up, weights.down, ids.contiguous(), shares.contiguous())


def _weights(stage: Stage, plan: CorrectnessPlan) -> LayerWeights:
    return LayerWeights.random(plan.layer, device=stage.device, dtype=stage.dtype, window=0)


def _state(
    stage: Stage, plan: CorrectnessPlan, context: int, window: int, *, sessions: int = 1
) -> LayerState:
    return LayerState.random(
        plan.layer,
        sessions=sessions,
        context=context,
        chunk=1,
        page=plan.page,
        window=window,
        device=stage.device,
        dtype=stage.dtype,
    )


def _starts(stage: Stage, tokens: int) -> Tensor:
    return torch.tensor([0, tokens], dtype=torch.int32, device=stage.device)


def _record(stage: Stage, name: str, is_right: bool, fields: dict[str, object]) -> None:
    stage.journal.add("check", {"name": name, "is_right": is_right, **fields})
