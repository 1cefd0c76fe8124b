"""Work on many items in one process or in several."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def done_in_order(work: Callable[[Item], None], items: Sequence[Item], jobs: int) -> Iterator[None]:
    """Yield once for each item when its work is done; blocks. For several jobs `work` must be picklable."""
    if jobs == 1:
        yield from map(work, items)
        return
    # Forked copies of a loaded ONNX session would share its locks.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(work, items)
