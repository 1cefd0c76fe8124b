"""Runs row- and column-parallel layers on 1, 2 and 4 processes and compares what they give, bit by bit.

A program of its own, because processes are forked before PyTorch has started a thread.

Prints one JSON object: for each case the hashes of the results by number of processes, and what a survivor of a
group said after another process had died.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

os.environ["GLOO_SOCKET_IFNAME"] = "lo"

import torch
import torch.distributed as dist
from torch import Tensor

from microturn.kernels import OrderedGroup, PeerLostError, row_counts, shard
from microturn.kernels.ops.norm import rms_norm

WORLDS = (1, 2, 4)
TOKENS = (1, 3, 8, 13)
MESSAGES = (1, 3, 4096)
WIDTH, INNER = 64, 160
TIMEOUT = timedelta(seconds=20)
Work = Callable[[OrderedGroup], object]


def weights(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    up = torch.randn(INNER, WIDTH, generator=generator).to(dtype)
    down = torch.randn(WIDTH, INNER, generator=generator).to(dtype)
    return up, down, torch.randn(WIDTH, generator=generator).to(dtype)


def tokens(count: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(count)).to(dtype)


def hashed(x: Tensor) -> str:
    return hashlib.sha256(x.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()[:16]


def layer(group: OrderedGroup, x: Tensor) -> tuple[Tensor, Tensor]:
    """Column-parallel, row-parallel; once whole, and once scattered around a norm and gathered again."""
    up, down, norm = weights(x.dtype)
    mine = {"rank": group.rank, "world": group.world}
    inner = group.column_parallel_linear(x, shard(up, 0, **mine))
    whole = group.row_parallel_linear(inner, shard(down, 1, **mine))
    own = group.row_parallel_linear_scattered(inner, shard(down, 1, **mine))
    assert torch.equal(own, group.scatter_rows(whole)), "scattered rows are not the rows of the whole"
    assert len(own) == row_counts(len(x), group.world)[group.rank]
    return whole, group.gather_rows(rms_norm(own, norm, 1e-6), len(x))


def all_cases(group: OrderedGroup) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        for count in TOKENS:
            for rows in MESSAGES:
                results = layer(OrderedGroup(message_rows=rows), tokens(count, dtype))
                key = f"{str(dtype).removeprefix('torch.')}, {count} tokens"
                found.setdefault(key, []).extend(map(hashed, results))
    return found


def native_sum(group: OrderedGroup) -> str:
    """The row-parallel linear as it is usually made, for comparison: each adds its part of K at once."""
    _, down, _ = weights(torch.float32)
    x = torch.randn(8, INNER, generator=torch.Generator().manual_seed(1))
    total = x.chunk(group.world, 1)[group.rank] @ down.chunk(group.world, 1)[group.rank].T
    dist.all_reduce(total)
    return hashed(total)


def with_a_death(group: OrderedGroup) -> str:
    """The last process dies without a word while the others want to compute."""
    dist.barrier()
    if group.rank == group.world - 1:
        time.sleep(0.5)  # until all have left the barrier: a group is to lose a process, not to lack one
        os._exit(0)
    try:
        for _ in range(3):
            layer(group, tokens(8, torch.float32))
    except PeerLostError as error:
        return str(error)
    return "nothing was noticed"


def with_a_silence(group: OrderedGroup) -> str:
    """The last process is alive but does nothing for longer than the others wait."""
    impatient = dist.new_group(timeout=timedelta(seconds=1))
    if group.rank == group.world - 1:
        time.sleep(3)
        return "slept"
    try:
        layer(OrderedGroup(impatient), tokens(8, torch.float32))
    except PeerLostError as error:
        return str(error)
    return "nothing was noticed"


def in_processes(world: int, work: Work, folder: Path) -> list[object]:
    """What `work` returns on each of `world` forked processes; None for one that died."""
    folder.mkdir()
    children = [os.fork() or _child(rank, world, work, folder) for rank in range(world)]
    for child in children:
        os.waitpid(child, 0)
    answers = [folder / f"{rank}.json" for rank in range(world)]
    return [json.loads(path.read_text("utf-8")) if path.exists() else None for path in answers]


def _child(rank: int, world: int, work: Work, folder: Path) -> int:
    status = 1
    try:
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world, timeout=TIMEOUT
        )
        (folder / f"{rank}.json").write_text(json.dumps(work(OrderedGroup())), "utf-8")
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)  # a forked child must not go on with its parent's work


if __name__ == "__main__":
    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    answers = {
        name: {str(world): in_processes(world, work, place / f"{name}{world}") for world in worlds}
        for name, work, worlds in (
            ("cases", all_cases, WORLDS),
            ("native", native_sum, WORLDS),
            ("death", with_a_death, (2, 4)),
            ("silence", with_a_silence, (2,)),
        )
    }
    sys.stdout.write(json.dumps(answers))
