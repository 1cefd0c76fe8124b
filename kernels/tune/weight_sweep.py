"""Times tiles of products with one weight: linears and the language model's head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from microturn.kernels.gpu.gemm import split_count
from microturn.kernels.gpu.tuning import MmaClass, Tile, forced_class, forced_tile
from microturn.kernels.tune.bit_class import RowOperator, bit_classes, most_common
from microturn.kernels.tune.candidates import candidates
from microturn.kernels.tune.deadline import Deadline
from microturn.kernels.tune.journal import Journal
from microturn.kernels.tune.plan import Plan
from microturn.kernels.tune.precompile import PRODUCTS, Job
from microturn.kernels.tune.timing import Call, rotations

CLASS_TILES: tuple[tuple[MmaClass, Tile], ...] = (
    ("equal", Tile(16, 32, 128, 4, 3)),
    ("equal", Tile(64, 64, 64, 4, 3)),
    ("equal", Tile(128, 128, 64, 8, 3)),
    ("equal", Tile(128, 128, 64, 8, 3, loads="tma")),
)
"""One tile per kind of instruction: if their bits agree, tiles of any shape may be mixed."""


def found_class(plan: Plan, journal: Journal) -> MmaClass:
    """Whether tiles that use different instructions give the same bits here; if not, the class that is safe."""
    is_one = True
    for n, k in plan.shapes[:3]:
        x, weight = operands(plan, n, k)
        hashes: set[int] = set()
        for mma, tile in CLASS_TILES:
            classes = bit_classes(_forced("linear", tile, mma, weight), x, plan.class_rows)
            journal.add("class", {"shape": f"{n}x{k}", "tile": str(tile), **classes.as_row()})
            hashes.update((*classes.first, *classes.last))
        is_one = is_one and len(hashes) == 1
    chosen: MmaClass = "equal" if is_one else "hgmma"
    journal.add("mma_class", {"chosen": chosen, "all_tiles_agree": is_one})
    return chosen


def swept_weight(
    plan: Plan, operator: str, n: int, k: int, mma: MmaClass, deadline: Deadline, journal: Journal
) -> Iterator[dict[str, object]]:
    """Entries of the table for one weight, one per bucket, until the time is over."""
    x, weight = operands(plan, n, k)
    wanted: int | None = None
    for limit in plan.buckets:
        if deadline.is_over:
            journal.skipped(f"{operator} {n}x{k} rows {limit}")
            break
        batch = x[: limit or plan.largest]
        hashes = _hashes(plan, operator, mma, weight, batch, journal)
        if not hashes:
            continue
        wanted = most_common(hashes) if wanted is None else wanted
        good = _agreeing(hashes, wanted, journal)
        if good:
            best = _fastest(plan, operator, good, mma, weight, batch, journal)
            yield {"max_rows": limit, **asdict(best)}


def _hashes(
    plan: Plan, operator: str, mma: MmaClass, weight: Tensor, batch: Tensor, journal: Journal
) -> dict[Tile, int]:
    """The hash of the first row by tile, of tiles that run and give it the same bits in every batch."""
    found: dict[Tile, int] = {}
    for tile in list(candidates(operator, len(batch), mma))[: plan.most_candidates]:
        bits = _bits(_forced(operator, tile, mma, weight), tile, batch, journal)
        if bits is not None:
            found[tile] = bits
    return found


def _agreeing(hashes: dict[Tile, int], wanted: int, journal: Journal) -> list[Tile]:
    """The tiles with the wanted bits; the others are written down."""
    for tile, bits in hashes.items():
        if bits != wanted:
            journal.add("dropped", {"tile": str(tile), "why": "other bits than most tiles"})
    return [tile for tile, bits in hashes.items() if bits == wanted]


def _forced(operator: str, tile: Tile, mma: MmaClass, weight: Tensor) -> RowOperator:
    """The operator with one tile."""
    product = PRODUCTS[operator]

    def computed(x: Tensor) -> Tensor | tuple[Tensor, ...]:
        with forced_class(mma), forced_tile(operator, tile):
            return product(x, weight)

    return computed


def _bits(operator: RowOperator, tile: Tile, x: Tensor, journal: Journal) -> int | None:
    """The hash of the first row if it is the same in every batch; None if it is not, or if the tile does not run."""
    rows = sorted({1, 2, len(x) // 2 or 1, len(x)})
    try:
        classes = bit_classes(operator, x, rows)
    except Exception as error:  # noqa: BLE001  # a tile that does not run is left out, and the journal says why
        journal.add("dropped", {"tile": str(tile), "why": f"{type(error).__name__}: {error}"[:300]})
        return None
    if classes.count != 1:
        journal.add("dropped", {"tile": str(tile), "why": "bits depend on the batch", **classes.as_row()})
        return None
    return classes.first[0]


def _fastest(
    plan: Plan,
    operator: str,
    tiles: Sequence[Tile],
    mma: MmaClass,
    weight: Tensor,
    x: Tensor,
    journal: Journal,
) -> Tile:
    weights = _copies(plan, weight)
    calls = {str(tile): [_call(_forced(operator, tile, mma, one), x) for one in weights] for tile in tiles}
    timings = plan.clock.time(calls)
    ordered = sorted(tiles, key=lambda tile: timings[str(tile)].p50_us)
    record = {str(tile): round(timings[str(tile)].p50_us, 3) for tile in ordered[:8]}
    n, k = weight.shape
    name = f"{operator} {n}x{k}"
    journal.add("timed", {"name": name, "rows": len(x), "tiles": len(tiles), "p50_us": record})
    return ordered[0]


def _call(operator: RowOperator, x: Tensor) -> Call:
    return lambda: operator(x)


def weight_jobs(plan: Plan, mma: MmaClass) -> list[Job]:
    """What must be compiled: each tile for heads, for linears whose sum is cut along K, and for those whose is not."""
    kinds = {split_count(n, k) > 1: ("linear", n, k) for n, k in sorted(plan.shapes, reverse=True)}
    heads = [("lm_head", min(n, 2048), k) for n, k in plan.heads]
    jobs = []
    for operator, n, k in (*heads, *kinds.values()):
        rows_of: dict[Tile, set[int]] = {}
        for limit in plan.buckets:
            rows = limit or plan.largest
            for tile in list(candidates(operator, rows, mma))[: plan.most_candidates]:
                # One row, and a multiple of 16, make different code; so does any other number.
                rows_of.setdefault(tile, set()).update({1, rows, 2})
        jobs += [Job(operator, (tile,), mma, n, k, tuple(sorted(rows))) for tile, rows in rows_of.items()]
    return jobs


def operands(plan: Plan, n: int, k: int) -> tuple[Tensor, Tensor]:
    """Activations for the largest batch, and a weight.

    The interpreter multiplies with NumPy, whose order of sums depends on the shape; integers keep its sums exact.
    """
    generator = torch.Generator(device=plan.device).manual_seed(7)
    most = max(plan.largest, *plan.class_rows)
    x = torch.empty(most, k, device=plan.device).normal_(generator=generator)
    weight = torch.empty(n, k, device=plan.device).normal_(generator=generator)
    if plan.device.type == "cpu":
        x, weight = x.round_(), weight.round_()
    return x.to(plan.dtype), weight.to(plan.dtype)


def _copies(plan: Plan, weight: Tensor) -> list[Tensor]:
    """The weight in as many places as make the cache useless."""
    if plan.device.type != "cuda":
        return [weight]
    cache = torch.cuda.get_device_properties(plan.device).L2_cache_size
    free, _ = torch.cuda.mem_get_info(plan.device)
    count = rotations(weight.nbytes, cache_bytes=cache, free_bytes=free // 2)
    return [weight, *(weight.clone() for _ in range(count - 1))]
