"""The names of the bus's keys: where a session's tasks live, and how keys share a hash slot.

`mt:<tenant>:{sNN}:tasks`      stream of tasks, consumer group `w`
`mt:<tenant>:{sNN}:urgent`     the same for tasks that somebody waits for in silence
`mt:<tenant>:{sNN}:t:<task>`   hash: the state of one task
`mt:<tenant>:{sNN}:e:<task>`   list: its newest events
`mt:<tenant>:{sNN}:n:<task>`   list: notes for its worker, oldest first: corrections, answers, what became of its words
`mt:<tenant>:{sNN}:r:<task>`   hash: the newest receipt of each event
`mt:<tenant>:{sNN}:j:<task>`   list: its tool calls and questions, kept longer than its other events
`mt:<tenant>:{sNN}:s:<session>` hash: which runtime has a session, and since when
`mt:<tenant>:{sNN}:p:<session>` list: the session's tasks, oldest first
`mt:<tenant>:{sNN}:b:<sha256>` string: the bytes of an attachment, for a while
`mt:<tenant>:{sNN}:id:<hash>`  string: the task that an idempotency key stands for
`mt:<tenant>:{sNN}:in:<rt>`    stream: the inbox of one runtime process
`mt:<tenant>:{sNN}:dead`       stream: tasks given up
`mt:<tenant>:{sNN}:bell`       stream: running tasks of which a worker should look for news
`mt:<tenant>:{s00}:layout`     string: over how many shards the bus is spread
`mt:<tenant>:{s00}:rt:<rt>`    string: the process that has a runtime id now
`mt:<tenant>:{s00}:workers`    sorted set: when each worker was last seen
`mt:<tenant>:{s00}:runtimes`   sorted set: when each runtime was last seen
`mt:<tenant>:{s00}:status:<rt>` string: what a runtime says of itself, for operators

Everything that one script touches has the same `{sNN}`, so that a cluster keeps it on one node.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

from microturn.runtime.bus._errors import BusNameError

Lane: TypeAlias = Literal["tasks", "urgent"]
"""One of the two streams of tasks that each shard has; urgent ones are taken first."""
LANES: tuple[Lane, ...] = ("urgent", "tasks")
"""In the order in which they are looked at."""
GROUP = "w"
"""The consumer group of the workers."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")


def checked_name(what: str, name: str) -> str:
    """Return `name` if it can be part of a key.

    Raises:
        BusNameError: it has other characters, such as the braces that choose a hash slot.
    """
    if _NAME.fullmatch(name) is None:
        raise BusNameError(what, name)
    return name


@dataclass(frozen=True, slots=True)
class Keys:
    """Builds the keys of one tenant. Names given to it were checked by `checked_name`."""

    tenant: str
    shards: int

    def shard_of(self, session_id: str) -> int:
        """The shard on which all tasks of a session live."""
        return zlib.crc32(session_id.encode()) % self.shards

    def lane(self, shard: int, lane: Lane) -> str:
        """Stream of the tasks of one lane."""
        return f"{self._prefix(shard)}{lane}"

    def tasks(self, shard: int) -> str:
        """Stream of the tasks that are not urgent."""
        return self.lane(shard, "tasks")

    def task(self, shard: int, task_id: str) -> str:
        """Hash with the state of a task."""
        return f"{self._prefix(shard)}t:{task_id}"

    def events(self, shard: int, task_id: str) -> str:
        """List of a task's newest events."""
        return f"{self._prefix(shard)}e:{task_id}"

    def notes(self, shard: int, task_id: str) -> str:
        """List of what a task's worker is told: corrections, answers, and what became of its words."""
        return f"{self._prefix(shard)}n:{task_id}"

    def receipts(self, shard: int, task_id: str) -> str:
        """Hash with the newest receipt of each event of a task."""
        return f"{self._prefix(shard)}r:{task_id}"

    def journal(self, shard: int, task_id: str) -> str:
        """List of a task's tool calls and questions."""
        return f"{self._prefix(shard)}j:{task_id}"

    def attachment(self, shard: int, sha256: str) -> str:
        """String with the bytes of this hash."""
        return f"{self._prefix(shard)}b:{sha256}"

    def of_session(self, session_id: str) -> list[str]:
        """What every script about a session begins with: hash with the runtime that has it, list of its tasks."""
        prefix = self._prefix(self.shard_of(session_id))
        return [f"{prefix}s:{session_id}", f"{prefix}p:{session_id}"]

    def of_task(self, shard: int, task_id: str, runtime_id: str, lane: Lane = "tasks") -> list[str]:
        """What every script about one task begins with: stream, inbox, hash, events, notes, receipts, journal."""
        return [
            self.lane(shard, lane),
            self.inbox(shard, runtime_id),
            self.task(shard, task_id),
            self.events(shard, task_id),
            self.notes(shard, task_id),
            self.receipts(shard, task_id),
            self.journal(shard, task_id),
        ]

    def idempotency(self, shard: int, key: str) -> str:
        """String with the task that `key` stands for; the key itself may be anything."""
        return f"{self._prefix(shard)}id:{hashlib.sha256(key.encode()).hexdigest()[:32]}"

    def inbox(self, shard: int, runtime_id: str) -> str:
        """Stream of events for one runtime process."""
        return f"{self._prefix(shard)}in:{runtime_id}"

    def dead(self, shard: int) -> str:
        """Stream of tasks given up."""
        return f"{self._prefix(shard)}dead"

    def bell(self, shard: int) -> str:
        """Stream of running tasks with news for their workers."""
        return f"{self._prefix(shard)}bell"

    def layout(self) -> str:
        """String with the number of shards."""
        return f"{self._prefix(0)}layout"

    def holder(self, runtime_id: str) -> str:
        """String with the process that has a runtime id now."""
        return f"{self._prefix(0)}rt:{runtime_id}"

    def workers(self) -> str:
        """Sorted set of the workers and when each was last seen."""
        return f"{self._prefix(0)}workers"

    def runtimes(self) -> str:
        """Sorted set of the runtimes and when each was last seen."""
        return f"{self._prefix(0)}runtimes"

    def status(self, runtime_id: str) -> str:
        """String with what a runtime says of itself."""
        return f"{self._prefix(0)}status:{runtime_id}"

    def _prefix(self, shard: int) -> str:
        return f"mt:{self.tenant}:{{s{shard:02d}}}:"
