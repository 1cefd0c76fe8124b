"""The worker that only ever does the newest job of each key."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from microturn.interaction_model._errors import WorkerClosedError, WorkFailedError
from microturn.interaction_model.cascade.latest_worker import LatestWorker

pytestmark = pytest.mark.unit


class Gate:
    """Work that notes what it is given and, when shut, waits to be let through."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.entered = threading.Event()
        self.open = threading.Event()
        self.open.set()

    def work(self, job: str) -> str:
        """Do the job, once the gate is open."""
        self.entered.set()
        self.open.wait()
        if job == "bad":
            raise ValueError("something the user said")
        self.done.append(job)
        return job.upper()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def worker(gate: Gate) -> Iterator[LatestWorker[str, str]]:
    worker = LatestWorker(gate.work, "test")
    yield worker
    gate.open.set()
    worker.close()


def hold(gate: Gate, worker: LatestWorker[str, str], key: str, job: str) -> None:
    """Have a job running and unable to end."""
    gate.open.clear()
    gate.entered.clear()
    worker.submit(key, job)
    gate.entered.wait()


def test_a_result_is_given_once(worker: LatestWorker[str, str]) -> None:
    worker.submit("a", "one")
    worker.settle()
    assert worker.poll("a") == "ONE"
    assert worker.poll("a") is None
    assert worker.poll("b") is None


def test_only_the_newest_waiting_job_is_done(gate: Gate, worker: LatestWorker[str, str]) -> None:
    hold(gate, worker, "a", "first")
    for job in ("second", "third", "fourth"):
        worker.submit("a", job)
    assert worker.is_busy("a")
    assert worker.statistics().waiting == 1
    gate.open.set()
    worker.settle()
    assert gate.done == ["first", "fourth"]
    assert worker.poll("a") == "FOURTH"
    assert worker.statistics().dropped == 2


def test_a_busy_key_does_not_starve_the_others(gate: Gate, worker: LatestWorker[str, str]) -> None:
    hold(gate, worker, "a", "a1")
    worker.submit("b", "b1")
    worker.submit("a", "a2")
    worker.submit("b", "b2")
    gate.open.set()
    worker.settle()
    assert gate.done == ["a1", "b2", "a2"]


def test_what_is_forgotten_is_not_heard_of_again(gate: Gate, worker: LatestWorker[str, str]) -> None:
    hold(gate, worker, "a", "running")
    worker.submit("a", "waiting")
    worker.forget("a")
    gate.open.set()
    worker.settle()
    assert gate.done == ["running"]
    assert worker.poll("a") is None


def test_a_key_can_be_used_after_it_was_forgotten(gate: Gate, worker: LatestWorker[str, str]) -> None:
    hold(gate, worker, "a", "old")
    worker.forget("a")
    worker.submit("a", "new")
    gate.open.set()
    worker.settle()
    assert worker.poll("a") == "NEW"


def test_a_failure_is_raised_where_it_is_asked_for_and_the_worker_lives_on(
    worker: LatestWorker[str, str],
) -> None:
    worker.submit("a", "bad")
    worker.settle()
    with pytest.raises(WorkFailedError, match="ValueError") as raised:
        worker.poll("a")
    assert "said" not in str(raised.value)
    assert isinstance(raised.value.__cause__, ValueError)
    worker.submit("a", "good")
    worker.settle()
    assert worker.poll("a") == "GOOD"


def test_a_closed_worker_takes_nothing(gate: Gate) -> None:
    worker = LatestWorker(gate.work, "test")
    worker.close()
    worker.settle()
    with pytest.raises(WorkerClosedError, match="closed"):
        worker.submit("a", "late")
