"""Compiles kernels in many processes before they are timed, by running each once; Triton keeps them on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures import TimeoutError as WaitedTooLongError
from dataclasses import dataclass
from multiprocessing import get_context

import torch
from torch import Tensor

from microturn.kernels.gpu import gemm, lm_head
from microturn.kernels.gpu.moe import moe
from microturn.kernels.gpu.tuning import MmaClass, Tile, forced_class, forced_tile

Product = Callable[[Tensor, Tensor], Tensor | tuple[Tensor, ...]]

PRODUCTS: Mapping[str, Product] = {"linear": gemm.linear, "lm_head": lm_head.lm_head_argmax}
"""Products of tokens with one weight, by the names that tables use."""


@dataclass(frozen=True)
class Job:
    """One tile, or the tiles of both products of a mixture of experts, with sizes that make different code."""

    operator: str
    """`linear`, `lm_head` or `moe`."""
    tiles: tuple[Tile, ...]
    mma: MmaClass
    n: int
    """Outputs; of a mixture of experts the width of one expert."""
    k: int
    rows: tuple[int, ...]
    """Numbers of tokens to run."""
    experts: int = 0
    top_k: int = 0


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    job: Job
    error: str | None
    """None if it ran; else why not, for instance too much shared memory."""


def run_job(job: Job, device: str, dtype: torch.dtype) -> Outcome:
    """Compile and run one job; its numbers are thrown away."""
    run = _run_experts if job.operator == "moe" else _run_weight
    try:
        with forced_class(job.mma):
            run(job, device, dtype)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
    except Exception as error:  # noqa: BLE001  # a tile that does not compile is a result: the sweep leaves it out
        return Outcome(job, f"{type(error).__name__}: {error}"[:500])
    return Outcome(job, None)


def _run_weight(job: Job, device: str, dtype: torch.dtype) -> None:
    weight = torch.zeros(job.n, job.k, device=device, dtype=dtype)
    with forced_tile(job.operator, job.tiles[0]):
        for rows in job.rows:
            PRODUCTS[job.operator](torch.zeros(rows, job.k, device=device, dtype=dtype), weight)


def _run_experts(job: Job, device: str, dtype: torch.dtype) -> None:
    gate_up = torch.zeros(job.experts, 2 * job.n, job.k, device=device, dtype=dtype)
    down = torch.zeros(job.experts, job.k, job.n, device=device, dtype=dtype)
    first, second = job.tiles
    with forced_tile("moe_gate_up", first), forced_tile("moe_down", second):
        for tokens in job.rows:
            ids = torch.arange(tokens * job.top_k, device=device, dtype=torch.int32).view(tokens, -1)
            shares = torch.ones(ids.shape, device=device)
            x = torch.zeros(tokens, job.k, device=device, dtype=dtype)
            moe(x, gate_up, down, ids % job.experts, shares)


def precompile(
    jobs: Sequence[Job], *, device: torch.device, dtype: torch.dtype, workers: int | None, timeout_s: float
) -> Iterator[Outcome]:
    """Run jobs in `workers` processes and give the outcomes as they come.

    Args:
        jobs: what to compile.
        device: where the kernels run; each process opens its own context there.
        dtype: of the operands.
        workers: number of processes; None for one per core, at most 16; 0 for this process alone.
        timeout_s: after so many seconds the rest is given up; it is then compiled when it is first timed.
    """
    count = min(16, os.cpu_count() or 1) if workers is None else workers
    if count == 0:
        for job in jobs:
            yield run_job(job, str(device), dtype)
        return
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"))
    try:
        waiting = [pool.submit(run_job, job, str(device), dtype) for job in jobs]
        for done in as_completed(waiting, timeout=timeout_s):
            yield done.result()
    except WaitedTooLongError:
        return
    finally:
        # What already runs is not waited for longer than its compilation takes.
        pool.shutdown(wait=True, cancel_futures=True)
