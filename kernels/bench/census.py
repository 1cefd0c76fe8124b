"""Counts the bit classes of matrix products: which ways to multiply give one row the same bits in every batch.

Twelve weights, batches of 1 to 300 rows, the row first and last; PyTorch's default, cuBLASLt kept from splitting K (in a
process of its own, since it reads its settings once), and our kernel with tiles for each of the processor's multiply
instructions. What it finds decides `mma_class` of the tuning tables.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from microturn.kernels.bench.stage import Stage
from microturn.kernels.gpu import gemm
from microturn.kernels.gpu.tuning import MmaClass, Tile, forced_class, forced_tile
from microturn.kernels.tune.bit_class import BitClasses, RowOperator, bit_classes
from microturn.kernels.tune.precompile import Job, precompile
from microturn.kernels.tune.shapes import CENSUS

LARGEST = 300

TILES: dict[str, tuple[MmaClass, Tile]] = {
    "HMMA 16 rows, depth 128": ("equal", Tile(16, 32, 128, 4, 3)),
    "HMMA 16 rows, depth 64": ("equal", Tile(16, 32, 64, 4, 3)),
    "HMMA 16 rows, depth 32": ("equal", Tile(16, 32, 32, 4, 3)),
    "HGMMA 64 rows, depth 64": ("equal", Tile(64, 64, 64, 4, 3)),
    "HGMMA 128 rows, depth 32": ("equal", Tile(128, 128, 32, 8, 3)),
    "HGMMA 128 rows, depth 64": ("equal", Tile(128, 128, 64, 8, 3)),
    "HGMMA 128 rows, depth 128": ("equal", Tile(128, 128, 128, 8, 3)),
    "HGMMA 128 rows, TMA": ("equal", Tile(128, 128, 64, 8, 3, loads="tma")),
    "HGMMA, weight first, 16 tokens": ("hgmma", Tile(16, 64, 128, 4, 3)),
    "HGMMA, weight first, 64 tokens": ("hgmma", Tile(64, 128, 64, 4, 3)),
}

LT_ENVIRONMENT = {"CUBLAS_WORKSPACE_CONFIG": ":16:8", "CUBLASLT_WORKSPACE_SIZE": "1"}
"""Leaves cuBLAS no room for partial sums. Source: vLLM's batch-invariant mode."""
LT = "cuBLASLt without split K"
DEFAULT = "cuBLAS default"


@dataclass(frozen=True)
class CensusPlan:
    """What is counted."""

    shapes: Sequence[tuple[int, int]]
    rows: Sequence[int]
    tiles: Sequence[str]
    workers: int | None


FULL = CensusPlan(CENSUS, tuple(range(1, LARGEST + 1)), tuple(TILES), None)
DRY = CensusPlan(
    ((32, 64), (16, 48)), (1, 2, 17), ("HMMA 16 rows, depth 32", "HGMMA, weight first, 16 tokens"), 0
)


def census(stage: Stage, plan: CensusPlan) -> None:
    """Count, write each result to the journal, and a verdict last."""
    _precompile(stage, plan)
    found: dict[tuple[str, str], BitClasses] = {}
    steps = [(f"census {n}x{k}", partial(_one_weight, stage, plan, n, k, found)) for n, k in plan.shapes]
    stage.run([(LT, lambda: _own_process(stage, plan)), *steps])
    stage.journal.add("census_verdict", verdict(found, plan.tiles))


def verdict(found: dict[tuple[str, str], BitClasses], tiles: Sequence[str]) -> dict[str, object]:
    """How many weights each variant served with one class, and whether all of our tiles agree with one another."""
    shapes = sorted({shape for shape, _ in found})
    names = sorted({name for _, name in found})
    single = {
        name: sum(found[shape, name].count == 1 for shape in shapes if (shape, name) in found)
        for name in names
    }
    agreeing = 0
    for shape in shapes:
        hashes = {
            value
            for name in tiles
            if (shape, name) in found
            for value in (*found[shape, name].first, *found[shape, name].last)
        }
        agreeing += len(hashes) == 1
    return {
        "weights": len(shapes),
        "weights_with_one_class": single,
        "weights_where_all_tiles_agree": agreeing,
        "mma_class": "equal" if shapes and agreeing == len(shapes) else "hgmma",
    }


def _one_weight(
    stage: Stage, plan: CensusPlan, n: int, k: int, found: dict[tuple[str, str], BitClasses]
) -> None:
    x, weight = operands(stage.device, n, k, max(plan.rows))
    for name, operator in _variants(weight, plan.tiles):
        if stage.deadline.is_over:
            stage.journal.skipped(f"census {n}x{k} {name}")
            return
        try:
            classes = bit_classes(operator, x, plan.rows)
        except Exception as error:  # noqa: BLE001  # a tile that does not run is a result of the census
            stage.journal.failed(f"census {n}x{k} {name}", error)
            continue
        found[f"{n}x{k}", name] = classes
        stage.journal.add("census", {"shape": f"{n}x{k}", "variant": name, **classes.as_row()})


def _variants(weight: Tensor, tiles: Sequence[str]) -> Iterator[tuple[str, RowOperator]]:
    yield DEFAULT, partial(_default, weight)
    for name in tiles:
        yield name, _tiled(weight, *TILES[name])


def _default(weight: Tensor, x: Tensor) -> Tensor:
    return F.linear(x, weight)


def _tiled(weight: Tensor, mma: MmaClass, tile: Tile) -> RowOperator:
    def operator(x: Tensor) -> Tensor:
        with ExitStack() as forced:
            forced.enter_context(forced_class(mma))
            forced.enter_context(forced_tile("linear", tile))
            return gemm.linear(x, weight)

    return operator


def operands(device: torch.device, n: int, k: int, rows: int) -> tuple[Tensor, Tensor]:
    """Activations and a weight in bfloat16, the same numbers in every process on one kind of device.

    On the CPU, where the interpreter's sums change their order with the shape, integers, whose sums are exact.
    """
    generator = torch.Generator(device=device).manual_seed(11)
    x = torch.empty(rows, k, device=device, dtype=torch.bfloat16).normal_(generator=generator)
    weight = torch.empty(n, k, device=device, dtype=torch.bfloat16).normal_(generator=generator)
    return (x.round_(), weight.round_()) if device.type == "cpu" else (x, weight)


def _precompile(stage: Stage, plan: CensusPlan) -> None:
    """Compile every tile for a weight whose sum is cut and one whose is not, for the row counts that matter."""
    kinds = {
        (gemm.split_count(n, k) > 1, n % 16 == 0, k % 128 == 0): (n, k)
        for n, k in sorted(plan.shapes, reverse=True)
    }
    # One row, a multiple of 16, and any other number make different code.
    rows = (1, 2, 16, 65, 80)
    jobs = [
        Job("linear", (tile,), mma, n, k, rows)
        for n, k in kinds.values()
        for mma, tile in (TILES[t] for t in plan.tiles)
    ]
    if stage.is_dry:
        jobs = jobs[:1]
    limit_s = min(0.4 * stage.deadline.left_s, 120.0)
    outcomes = list(
        precompile(jobs, device=stage.device, dtype=torch.bfloat16, workers=plan.workers, timeout_s=limit_s)
    )
    broken = {f"{one.job.tiles} {one.job.mma}": one.error for one in outcomes if one.error}
    stage.journal.add("precompiled", {"jobs": len(jobs), "done": len(outcomes), "broken": broken})


def _own_process(stage: Stage, plan: CensusPlan) -> None:
    """Count cuBLASLt's classes in a fresh process; what it printed before its time was over is kept."""
    command = [
        sys.executable,
        "-m",
        "microturn.kernels.bench.census",
        json.dumps(plan.shapes),
        json.dumps(plan.rows),
    ]
    limit_s = max(1.0, min(90.0, 0.5 * stage.deadline.left_s))
    with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
        try:
            done = subprocess.run(
                command,
                env={**os.environ, **LT_ENVIRONMENT},
                stdout=printed,
                stderr=subprocess.PIPE,
                text=True,
                timeout=limit_s,
                check=False,
            )
        finally:
            printed.seek(0)
            for line in printed:
                stage.journal.add("census", json.loads(line))
    if done.returncode != 0:
        raise RuntimeError(f"the process for {LT} ended with {done.returncode}: {done.stderr[-800:]}")


def count_without_split(
    shapes: Sequence[tuple[int, int]], rows: Sequence[int]
) -> Iterator[dict[str, object]]:
    """Count the classes of `F.linear` under cuBLASLt's settings; the environment must have been set before."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = _without_split(device)
    for n, k in shapes:
        x, weight = operands(device, n, k, max(rows))
        classes = bit_classes(partial(_default, weight), x, rows)
        yield {"shape": f"{n}x{k}", "variant": LT, "settings": settings, **classes.as_row()}


def _without_split(device: torch.device) -> str:
    """Ask PyTorch for cuBLASLt, full precision in reductions and no split; what it accepted depends on its version."""
    if device.type != "cuda":
        return "none on a CPU"
    torch.backends.cuda.preferred_blas_library("cublaslt")
    matmul = torch.backends.cuda.matmul
    try:
        matmul.allow_bf16_reduced_precision_reduction = (False, False)
    except (TypeError, RuntimeError):
        matmul.allow_bf16_reduced_precision_reduction = False
        return "no reduced precision"
    return "no reduced precision, no split K"


if __name__ == "__main__":
    with torch.inference_mode():
        for record in count_without_split(json.loads(sys.argv[1]), json.loads(sys.argv[2])):
            sys.stdout.write(json.dumps(record) + "\n")
            sys.stdout.flush()
