"""What a sweep goes through: on a GPU, or as a dry run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from microturn.kernels.tune.candidates import BUCKETS, LARGEST_TIMED
from microturn.kernels.tune.shapes import CENSUS, INKLING_SMALL, INKLING_VOCABULARY, TINY, LayerShape
from microturn.kernels.tune.timing import Clock, CpuClock, ReplayClock


@dataclass(frozen=True)
class Plan:
    """What a sweep goes through."""

    device: torch.device
    clock: Clock
    shapes: Sequence[tuple[int, int]]
    """(N, K) of linears."""
    heads: Sequence[tuple[int, int]]
    """(V, C) of language model heads."""
    experts: LayerShape | None
    """The layer whose experts are swept; None for none."""
    expert_tokens: Sequence[int | None]
    """Upper ends of the ranges of tokens that get tiles of their own for experts."""
    buckets: Sequence[int | None]
    class_rows: Sequence[int]
    """Batch sizes over which bits are compared."""
    largest: int
    most_candidates: int
    workers: int | None
    dtype: torch.dtype = torch.bfloat16
    """Of the operands: the one that tables are for."""


def gpu_plan(only: Sequence[tuple[int, int]]) -> Plan:
    """The sweep of an H100 or H200; `only` leaves out everything but these linears."""
    return Plan(
        device=torch.device("cuda", torch.cuda.current_device()),
        clock=ReplayClock(rounds=20, graph_us=1000.0),
        shapes=only or [shape for shape in CENSUS if shape[0] != INKLING_VOCABULARY],
        heads=() if only else ((INKLING_VOCABULARY, INKLING_SMALL.width),),
        experts=None if only else INKLING_SMALL,
        expert_tokens=(1, 8, 64, 128, 1024, None),
        buckets=BUCKETS,
        class_rows=(1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 128, 129, 200, 257, 300),
        largest=LARGEST_TIMED,
        most_candidates=48,
        workers=None,
    )


def dry_plan() -> Plan:
    """The same steps in Triton's interpreter, in a few seconds."""
    return Plan(
        device=torch.device("cpu"),
        clock=CpuClock(rounds=1, budget_s=0.0, least_rounds=1),
        shapes=((32, 64),),
        heads=((48, 64),),
        experts=TINY,
        expert_tokens=(1, None),
        buckets=(16, None),
        class_rows=(1, 17),
        largest=17,
        most_candidates=2,
        workers=0,
    )
