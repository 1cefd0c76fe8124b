"""Where a delivered task lives: what a worker hands back with each call. Knows nothing of servers."""

from __future__ import annotations

from dataclasses import dataclass

from microturn.runtime.bus.keys import Lane


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where a delivered task lives; written as the worker's `TaskEntry.entry_id`."""

    shard: int
    lane: Lane
    entry: str
    runtime_id: str

    def __str__(self) -> str:
        return f"{self.shard}/{self.lane}/{self.entry}/{self.runtime_id}"

    @classmethod
    def parse(cls, text: str) -> Delivery:
        """Read back what `str` wrote."""
        shard, lane, entry, runtime_id = text.split("/", 3)
        return cls(int(shard), "urgent" if lane == "urgent" else "tasks", entry, runtime_id)
