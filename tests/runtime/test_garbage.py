"""Tests of `runtime/garbage.py`, in a process of its own: what it does holds for the whole process."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit

PROGRAM = """
import gc, weakref
from microturn.runtime.garbage import RARELY, tame_garbage_collector

class Node:
    def __init__(self):
        self.me = self

full = []
gc.callbacks.append(lambda phase, info: full.append(phase) if info["generation"] == 2 else None)
loaded = [Node() for _ in range(1000)]
tame_garbage_collector()
assert gc.get_freeze_count() > 1000
assert gc.get_threshold()[2] == RARELY
assert gc.isenabled()

del full[:]
kept = [[number] for number in range(400_000)]
assert full == [], "a full collection came as often as before"

young = weakref.ref(Node())
others = [[number] for number in range(20_000)]
assert young() is None, "a young cycle is not found any more"

old = Node()
gc.collect(1)
ref = weakref.ref(old)
del old
gc.collect()
assert ref() is None, "an old cycle is never found"
print("ok")
"""


def test_full_collections_become_rare_and_leave_out_what_is_loaded_and_young_cycles_are_still_freed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=15, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("ok", "")


def test_without_it_full_collections_would_come() -> None:
    tamed = PROGRAM.replace("tame_garbage_collector()\n", "gc.freeze()\n", 1)
    untouched = tamed.replace("assert gc.get_threshold()[2] == RARELY\n", "")
    done = subprocess.run(
        [sys.executable, "-c", untouched], capture_output=True, text=True, timeout=15, check=False
    )
    assert "as often as before" in done.stderr
