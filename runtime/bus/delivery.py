"""Where a delivered task lives: what a worker hands back with each call. Knows nothing of servers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where a delivered task lives; written as the worker's `TaskEntry.entry_id`."""

    shard: int
    entry: str
    runtime_id: str

    def __str__(self) -> str:
        return f"{self.shard}/{self.entry}/{self.runtime_id}"

    @classmethod
    def parse(cls, text: str) -> Delivery:
        """Read back what `str` wrote."""
        shard, entry, runtime_id = text.split("/", 2)
        return cls(int(shard), entry, runtime_id)
