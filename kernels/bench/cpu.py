"""Our operators beside PyTorch's own on a CPU, in the same run and taking turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from microturn.kernels.bench import baselines, floors, targets
from microturn.kernels.bench.figure import Figure, Floor
from microturn.kernels.bench.floors import Ceilings
from microturn.kernels.bench.layer import LayerState, LayerWeights, Operators, layer_step
from microturn.kernels.bench.machine import cpu_ceilings
from microturn.kernels.bench.ours import OURS, attend
from microturn.kernels.ops.dmel import dmel_embed, dmel_levels
from microturn.kernels.ops.int8 import linear_int8, quantize_weight
from microturn.kernels.ops.linear import linear, prepare_linears
from microturn.kernels.ops.moe import moe
from microturn.kernels.tune.shapes import CPU_LINEARS, MEDIUM, NANO, LayerShape
from microturn.kernels.tune.timing import Call, CpuClock

CPU = torch.device("cpu")
DTYPES = (torch.bfloat16, torch.float32)
PAGE = 512
"""Keys per page: the CPU's split, so that attention reads pages where they lie."""
CHUNK = 50
"""Tokens of one micro-turn's input; our choice, as in the goals."""


@dataclass(frozen=True)
class CpuPlan:
    """What is measured, and for how long."""

    clock: CpuClock
    linears: Sequence[tuple[int, int]] = CPU_LINEARS
    shapes: Sequence[LayerShape] = (NANO, MEDIUM)
    contexts: Sequence[int] = (512, 2048, 8192)
    rows: Sequence[int] = (1, CHUNK)
    layer_context: int = 2048


FULL = CpuPlan(CpuClock())
QUICK = CpuPlan(CpuClock(rounds=40, budget_s=0.25), contexts=(2048,), shapes=(NANO,))


def cpu_steps(plan: CpuPlan) -> Sequence[tuple[str, Callable[[], Iterator[Figure]]]]:
    """The parts of the measurement by name, each giving figures as it goes; inference only."""
    steps: dict[str, Callable[[CpuPlan], Iterator[Figure]]] = {
        "linear": linear_figures,
        "int8": int8_figures,
        "attention": attention_figures,
        "experts": expert_figures,
        "layer": layer_figures,
        "dmel": dmel_figures,
    }
    return [(name, partial(_without_gradients, step, plan)) for name, step in steps.items()]


def _without_gradients(step: Callable[[CpuPlan], Iterator[Figure]], plan: CpuPlan) -> Iterator[Figure]:
    figures = step(plan)
    while True:
        with torch.inference_mode():
            figure = next(figures, None)
        if figure is None:
            return
        yield figure


def linear_figures(plan: CpuPlan) -> Iterator[Figure]:
    """A linear of a small model on one token and on a chunk."""
    for dtype in DTYPES:
        ceilings = ceilings_of(dtype)
        for outputs, inputs in plan.linears:
            weight = torch.randn(outputs, inputs).to(dtype)
            prepared = weight.clone()
            prepare_linears([prepared], rows=plan.rows)
            for count in plan.rows:
                x = torch.randn(count, inputs).to(dtype)
                yield from _compared(
                    plan,
                    "linear",
                    f"{outputs}x{inputs} M={count} {_name(dtype)}",
                    {
                        "native": partial(F.linear, x, weight),
                        "ours": partial(linear, x, prepared),
                        "ours unprepared": partial(linear, x, weight),
                    },
                    floors.linear(ceilings, count, outputs, inputs, item=dtype.itemsize),
                    targets.cpu_goal(count),
                )


def int8_figures(plan: CpuPlan) -> Iterator[Figure]:
    """The exact integer linear beside bfloat16's; the floor is that of its int8 weight."""
    ceilings = ceilings_of(torch.bfloat16)
    for outputs, inputs in plan.linears:
        weight = torch.randn(outputs, inputs)
        integers, scale = quantize_weight(weight)
        rounded = weight.to(torch.bfloat16)
        for count in plan.rows:
            x = torch.randn(count, inputs).to(torch.bfloat16)
            yield from _compared(
                plan,
                "linear_int8",
                f"{outputs}x{inputs} M={count} bfloat16",
                {
                    "native": partial(F.linear, x, rounded),
                    "ours": partial(linear_int8, x, integers, scale),
                },
                floors.linear(ceilings, count, outputs, inputs, item=1),
                targets.CPU_INT8 if count == 1 else "",
            )


def attention_figures(plan: CpuPlan) -> Iterator[Figure]:
    """One decoded token, and a chunk, over several contexts; SDPA reads keys that lie in one piece."""
    for dtype in DTYPES:
        ceilings = ceilings_of(dtype)
        for shape in plan.shapes:
            for context in plan.contexts:
                for chunk in plan.rows:
                    state = _state(shape, context, chunk, dtype)
                    q = torch.randn(chunk, shape.heads, shape.head_dim).to(dtype)
                    yield from _compared(
                        plan,
                        "attention",
                        f"{shape.name} context {context} chunk {chunk} {_name(dtype)}",
                        {"native": _sdpa_call(q, state), "ours": _attention_call(q, state)},
                        floors.attention(
                            ceilings, shape, sessions=1, context=context, chunk=chunk, item=dtype.itemsize
                        ),
                        targets.cpu_goal(chunk),
                    )


def expert_figures(plan: CpuPlan) -> Iterator[Figure]:
    """The mixture of experts beside three ways to write it in plain PyTorch."""
    for dtype in DTYPES:
        ceilings = ceilings_of(dtype)
        for shape in plan.shapes:
            weights = _weights(shape, dtype)
            for tokens in plan.rows:
                x = torch.randn(tokens, shape.width).to(dtype)
                ids, shares = OURS.route(x, weights)
                calls: dict[str, Call] = {
                    "native loop": _experts_call(baselines.experts_one_by_one, x, ids, shares, weights),
                    "native grouped": _experts_call(baselines.experts_grouped, x, ids, shares, weights),
                    "ours": partial(moe, x, weights.gate_up, weights.down, ids, shares),
                }
                if tokens == 1:
                    calls["native gather"] = _experts_call(
                        baselines.experts_gathered, x, ids, shares, weights
                    )
                yield from _compared(
                    plan,
                    "moe",
                    f"{shape.name} T={tokens} {_name(dtype)}",
                    calls,
                    floors.moe(ceilings, shape, tokens, item=dtype.itemsize),
                    targets.cpu_goal(tokens),
                )


def layer_figures(plan: CpuPlan) -> Iterator[Figure]:
    """A whole layer: linears, attention and experts in a chain, with norms, convolutions and the router."""
    for dtype in DTYPES:
        ceilings = ceilings_of(dtype)
        for shape in plan.shapes:
            weights = _weights(shape, dtype)
            for chunk in plan.rows:
                state = _state(shape, plan.layer_context, chunk, dtype)
                x = torch.randn(chunk, shape.width).to(dtype)
                one_by_one = baselines.library_with(baselines.experts_one_by_one)
                yield from _compared(
                    plan,
                    "layer",
                    f"{shape.name} context {plan.layer_context} chunk {chunk} {_name(dtype)}",
                    {
                        "native": _layer_call(one_by_one, x, weights, state),
                        "native grouped": _layer_call(baselines.LIBRARY, x, weights, state),
                        "ours": _layer_call(OURS, x, weights, state),
                    },
                    floors.layer(
                        ceilings, shape, tokens=chunk, context=plan.layer_context, item=dtype.itemsize
                    ),
                    targets.cpu_goal(chunk),
                )


def dmel_figures(plan: CpuPlan) -> Iterator[Figure]:
    """200 ms of sound of one session to embeddings of the nano width; the alternative is `torch.stft` and a matmul."""
    frames, width = 4, NANO.width
    audio, carry = torch.rand(1, frames * 800) * 2 - 1, torch.zeros(1, 800)
    embeddings, norm = torch.randn(80 * 16, width), torch.ones(width)

    def ours() -> Tensor:
        levels, _ = dmel_levels(audio, carry)
        return dmel_embed(levels.flatten(0, 1), embeddings, norm, 1e-6)

    yield from _compared(
        plan,
        "dmel",
        "4 frames to embeddings of 256",
        {"native": _stft_call(torch.cat((carry, audio), dim=1), embeddings), "ours": ours},
        floors.dmel(ceilings_of(torch.float32), frames),
        targets.CPU_DMEL,
    )


_ceilings: dict[torch.dtype, Ceilings] = {}


def ceilings_of(dtype: torch.dtype) -> Ceilings:
    """This machine's ceilings, measured once per process and dtype."""
    if dtype not in _ceilings:
        _ceilings[dtype] = cpu_ceilings(dtype)
    return _ceilings[dtype]


def _compared(
    plan: CpuPlan, group: str, case: str, calls: dict[str, Call], floor: Floor, goal: str
) -> Iterator[Figure]:
    timings = plan.clock.time({name: [call] for name, call in calls.items()})
    for name, timing in timings.items():
        figure = Figure(group, case, name, timing, floor)
        yield replace(figure, goal=goal) if name == "ours" else figure


def _weights(shape: LayerShape, dtype: torch.dtype) -> LayerWeights:
    """Prepared as a model does at load; PyTorch's operators are not touched by it."""
    weights = LayerWeights.random(shape, device=CPU, dtype=dtype, window=0)
    prepare_linears([weights.qkv, weights.output, weights.router, weights.gate_up, weights.down])
    return weights


def _state(shape: LayerShape, context: int, chunk: int, dtype: torch.dtype) -> LayerState:
    return LayerState.random(
        shape, sessions=1, context=context, chunk=chunk, page=PAGE, window=0, device=CPU, dtype=dtype
    )


def _layer_call(operators: Operators, x: Tensor, weights: LayerWeights, state: LayerState) -> Call:
    return lambda: layer_step(operators, x, weights, state)


def _experts_call(
    experts: baselines.Experts, x: Tensor, ids: Tensor, shares: Tensor, weights: LayerWeights
) -> Call:
    return lambda: experts(x, ids, shares, weights)


def _sdpa_call(q: Tensor, state: LayerState) -> Call:
    queries = q.transpose(0, 1).unsqueeze(0)
    return lambda: baselines.sdpa(queries, state.dense_keys, state.dense_values, 1.0 / q.shape[-1])


def _attention_call(q: Tensor, state: LayerState) -> Call:
    return lambda: attend(q, state)


def _stft_call(audio: Tensor, embeddings: Tensor) -> Call:
    window, filters = torch.hann_window(1600), torch.rand(801, 80)
    columns = torch.arange(80) * 16

    def call() -> Tensor:
        spectrum = torch.stft(audio, 1600, 800, window=window, center=False, return_complex=True).abs()
        mels = (spectrum[0].T @ filters).clamp(min=1e-10).log10().clamp(-7, 2)
        levels = ((mels + 7) * (15 / 9)).round().long()
        return F.rms_norm(embeddings[columns + levels].sum(dim=1), (embeddings.shape[1],))

    return call


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
