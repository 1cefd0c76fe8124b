"""Ids of a delegation's trace that follow from the task's own, so that whoever knows the task can join its trace.

A trace has to hold together though any of its processes may be killed before it could tell the others anything: the
next attempt has to point at the first, and a session that goes on elsewhere at the hand-over. Ids that are computed
need no message. Nothing here knows of an SDK; the generator that uses the ids is the runtime's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

SAMPLED = "01"
"""Flags of a `traceparent` that is recorded. Source: W3C Trace Context, level 1."""


class SpanIds(NamedTuple):
    """The ids of one span; both are numbers greater than 0."""

    trace_id: int
    """128 bits."""
    span_id: int
    """64 bits."""

    @property
    def traceparent(self) -> str:
        """As it stands in a message, with the sampled flag. Source: W3C Trace Context, level 1."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{SAMPLED}"


_chosen: ContextVar[SpanIds | None] = ContextVar("chosen span ids", default=None)


def turn_ids(task_id: str) -> SpanIds:
    """Ids of the turn in which a task was handed over: the root of its trace."""
    return _ids(task_id, "turn")


def send_ids(task_id: str) -> SpanIds:
    """Ids of the hand-over of a task."""
    return _ids(task_id, "send")


def attempt_ids(task_id: str, attempt: int) -> SpanIds:
    """Ids of an attempt at a task, counted from 1, in the task's own trace."""
    return _ids(task_id, f"attempt {attempt}")


def agent_ids(task_id: str, attempt: int) -> SpanIds:
    """Ids of the first run of an agent in an attempt at a task."""
    return _ids(task_id, f"agent {attempt}")


@contextmanager
def chosen_ids(ids: SpanIds) -> Iterator[None]:
    """Give the span that is started inside these ids, where the provider asks `ids_to_use` for them."""
    token = _chosen.set(ids)
    try:
        yield
    finally:
        _chosen.reset(token)


def ids_to_use() -> SpanIds | None:
    """The ids that the span now being started is to have; None where any will do."""
    return _chosen.get()


def _ids(task_id: str, part: str) -> SpanIds:
    """Ids that no other task or part has, as far as a hash can promise it: our choice."""
    trace_id = hashlib.blake2b(task_id.encode(), digest_size=16, person=b"microturn trace").digest()
    span_id = hashlib.blake2b(f"{task_id}/{part}".encode(), digest_size=8, person=b"microturn span").digest()
    return SpanIds(int.from_bytes(trace_id) or 1, int.from_bytes(span_id) or 1)
