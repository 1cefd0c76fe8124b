"""The goals, written down before anything was measured on a GPU.

Each is our choice: a share of the floor that the best published kernels reach or nearly reach. "Fixed tile" is the
128x128x64 tile that the first public library of batch-invariant operators uses for every size.
"""

from __future__ import annotations

from dataclasses import dataclass

from microturn.kernels.bench import floors
from microturn.kernels.bench.figure import Floor
from microturn.kernels.bench.floors import H100
from microturn.kernels.tune.shapes import INKLING_SMALL, INKLING_VOCABULARY


@dataclass(frozen=True)
class Target:
    """What one kernel should reach on an H100."""

    group: str
    case: str
    floor: Floor | None
    goal: str
    stretch: str = ""


def _linear(rows: int, outputs: int, inputs: int, goal: str, stretch: str) -> Target:
    floor = floors.linear(H100, rows, outputs, inputs)
    return Target("linear", f"{outputs}x{inputs} M={rows} bfloat16", floor, goal, stretch)


def _experts(tokens: int, goal: str, stretch: str) -> Target:
    floor = floors.moe(H100, INKLING_SMALL, tokens)
    return Target("moe", f"Inkling-Small T={tokens} bfloat16", floor, goal, stretch)


def _attention(case: str, sessions: int, context: int, chunk: int, goal: str, stretch: str) -> Target:
    floor = floors.attention(H100, INKLING_SMALL, sessions=sessions, context=context, chunk=chunk)
    return Target("attention", case, floor, goal, stretch)


_SMALL = ">= 85% of the floor, >= 1.0x cuBLAS, >= 4x fixed tile"

GPU_TARGETS = (
    _linear(1, 12288, 2048, _SMALL, "92% of the floor"),
    _linear(1, 4096, 4096, _SMALL, "92% of the floor"),
    _linear(1, 6656, 4096, _SMALL, "92% of the floor"),
    _linear(256, 12288, 2048, ">= 350 TFLOP/s, >= 0.9x cuBLAS", "1.0x cuBLAS"),
    _linear(2048, 12288, 2048, ">= 620 TFLOP/s, >= 0.92x cuBLAS", "0.98x cuBLAS"),
    Target("rms_norm", "T=64 C=4096", floors.rows(H100, 64, 4096, tensors=2), "<= 2.5 us"),
    Target("add_rms_norm", "T=2048 C=4096", floors.rows(H100, 2048, 4096, tensors=4), ">= 85% of the floor"),
    Target(
        "lm_head",
        f"V={INKLING_VOCABULARY} T=16",
        floors.linear(H100, 16, INKLING_VOCABULARY, 4096),
        ">= 90% of the floor, logits never in memory",
    ),
    Target("route", "T=8 E=256", floors.linear(H100, 8, 258, 4096), "<= 6 us, one launch", "4 us"),
    _experts(1, ">= 88% of the floor", "93%"),
    _experts(8, ">= 88% of the floor, >= 2.5x grouped products", "94%"),
    _experts(50, ">= 90% of the floor", "94%"),
    _experts(128, ">= 90% of the floor", "94%"),
    _experts(8192, ">= 65% of the floor", "523 TFLOP/s"),
    _attention("decode context 4096", 1, 4096, 1, "<= 12 us", ""),
    _attention("decode context 8192, 8 sessions", 8, 8192, 1, ">= 80% of the floor", "88%"),
    _attention("chunk 50, context 8192", 1, 8192, 50, ">= 80% of the floor", "88%"),
    _attention("prefill 2048, context 32768", 1, 32768, 2048, ">= 450 TFLOP/s", "550"),
    Target("append_kv", "50 tokens", floors.kv_append(H100, INKLING_SMALL, 50), "<= 4 us, one launch"),
    Target("dmel", "4 frames to embeddings", floors.dmel(H100, 4), "<= 15 us, two launches", "10 us"),
    Target("flow", "width 1024, 8 blocks, one step", floors.flow_head(H100, 1024, 8), "<= 1.3x the floor"),
    Target("flow", "width 512, 6 blocks, one step", floors.flow_head(H100, 512, 6), "<= 1.3x the floor"),
    Target(
        "layer",
        "Inkling-Small T=1 context 8192",
        floors.layer(H100, INKLING_SMALL, tokens=1, context=8192),
        "<= 3% over the quickest variants",
        "0%",
    ),
    Target(
        "layer",
        "Inkling-Small T=50 context 8192",
        floors.layer(H100, INKLING_SMALL, tokens=50, context=8192),
        "<= 3% over the quickest variants",
        "0%",
    ),
)

CPU_CHUNK = "<= 1.3x native"
CPU_TOKEN = "<= 1.6x native"
CPU_INT8 = ">= 1.5x quicker than bfloat16"
CPU_DMEL = "<= 1 ms"


def cpu_goal(rows: int) -> str:
    """What a CPU operator on `rows` tokens may cost beside PyTorch's own."""
    return CPU_TOKEN if rows == 1 else CPU_CHUNK
