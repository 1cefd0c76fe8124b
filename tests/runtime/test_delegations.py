"""A session's delegations: what is handed over, acknowledged, and told to the user."""

from __future__ import annotations

import pytest

from microturn.protocols import (
    Delegate,
    DelegationEvent,
    EventKind,
    PromiseState,
    Receipt,
    ReceiptState,
    Speech,
)
from microturn.runtime.delegation import Delegation
from microturn.runtime.delegations import (
    FAILED_TEXTS,
    NO_WORKER_TEXT,
    REFUSED_TEXT,
    RUNTIME_TASK,
    TOLD_AFTER_MS,
    UNREACHABLE_TEXT,
    Delegations,
)
from microturn.runtime.history import History
from microturn.runtime.testing import ScriptedBackground

pytestmark = pytest.mark.unit


def submit(delegations: Delegations, now_ms: float = 0.0, intent: str = "look it up") -> Delegation:
    return delegations.submit(
        Delegate(intent, 0, 800), History(), now_ms, lambda _: {"traceparent": "00-1-2-01"}
    )


def event(task_id: str, seq: int, kind: EventKind = "partial", **fields: object) -> DelegationEvent:
    return DelegationEvent.model_validate(
        {"task_id": task_id, "attempt": 1, "seq": seq, "kind": kind, **fields}
    )


def noted(delegations: Delegations, event: DelegationEvent) -> DelegationEvent:
    told = delegations.note(event, 0)
    assert told is not None
    return told


def texts(events: list[DelegationEvent]) -> list[str]:
    return [event.speech.text for event in events if event.speech is not None]


def test_a_package_tells_what_else_runs() -> None:
    background = ScriptedBackground()
    delegations = Delegations("s", background)
    first = submit(delegations, intent="the weather")
    submit(delegations, intent="the time")
    running = background.packages[1].running
    assert [(each.task_id, each.intent) for each in running] == [(first.task_id, "the weather")]
    assert background.packages[1].trace == {"traceparent": "00-1-2-01"}


def test_the_same_words_handed_over_twice_are_two_tasks() -> None:
    background = ScriptedBackground()
    delegations = Delegations("s", background)
    submit(delegations)
    submit(delegations)
    assert len({package.idempotency_key for package in background.packages}) == 2


def test_nothing_is_acknowledged_before_what_came_earlier_is_settled() -> None:
    background = ScriptedBackground()
    delegations = Delegations("s", background)
    task_id = submit(delegations).task_id
    for seq in (1, 2, 3):
        delegations.note(event(task_id, seq), 0)
    delegations.settle(task_id, 2)
    delegations.settle(task_id, 3)
    assert background.acknowledged == []
    delegations.settle(task_id, 1)
    assert background.acknowledged == [(task_id, 3)]


def test_an_event_that_is_settled_twice_is_acknowledged_once() -> None:
    background = ScriptedBackground()
    delegations = Delegations("s", background)
    task_id = submit(delegations).task_id
    delegations.note(event(task_id, 1), 0)
    delegations.settle(task_id, 1)
    delegations.settle(task_id, 1)
    assert background.acknowledged == [(task_id, 1)]


def test_an_event_of_a_strange_task_changes_nothing() -> None:
    background = ScriptedBackground()
    delegations = Delegations("s", background)
    strange = event("strange", 1, "final")
    assert delegations.note(strange, 0) is None
    delegations.settle("strange", 1)
    assert background.acknowledged == []
    assert delegations.open_ids == ()


@pytest.mark.parametrize("kind", ["failed", "expired", "dead"])
def test_a_task_that_ends_badly_without_words_gets_some(kind: EventKind) -> None:
    delegations = Delegations("s", ScriptedBackground())
    task_id = submit(delegations).task_id
    told = noted(delegations, event(task_id, 1, kind))
    assert texts([told]) == [FAILED_TEXTS[kind]]
    assert delegations.open_ids == ()


def test_words_of_the_background_are_left_as_they_are() -> None:
    delegations = Delegations("s", ScriptedBackground())
    task_id = submit(delegations).task_id
    told = noted(delegations, event(task_id, 1, "failed", speech=Speech(text="The oven is off.")))
    assert texts([told]) == ["The oven is off."]


def test_a_queue_that_is_full_is_told_as_such() -> None:
    delegations = Delegations("s", ScriptedBackground())
    task_id = submit(delegations).task_id
    told = noted(delegations, event(task_id, 1, "failed", detail={"reason": "queue_full"}))
    assert texts([told]) == [REFUSED_TEXT]


def test_nothing_of_a_task_that_the_user_cancelled_is_said() -> None:
    background = ScriptedBackground()
    delegations = Delegations("s", background)
    task_id = submit(delegations).task_id
    delegations.cancel(None, "the user asked")
    told = noted(delegations, event(task_id, 1, "final", speech=Speech(text="Too late.")))
    assert background.cancelled == [task_id]
    assert delegations.fate_of(told) == "dropped"
    assert background.promises == [(task_id, "declined")]


def test_a_refused_package_is_told_once_and_is_not_open() -> None:
    delegations = Delegations("s", ScriptedBackground(limit=0))
    assert submit(delegations).state == "refused"
    assert texts(delegations.notices(0)) == [REFUSED_TEXT]
    assert delegations.notices(200) == []
    assert delegations.open_ids == ()


@pytest.mark.parametrize(
    ("state", "text"), [("no_worker", NO_WORKER_TEXT), ("unreachable", UNREACHABLE_TEXT)]
)
def test_a_task_that_nobody_takes_is_told_once_within_the_limit(state: str, text: str) -> None:
    background = ScriptedBackground()
    background.state = "no_worker" if state == "no_worker" else "unreachable"
    delegations = Delegations("s", background)
    submit(delegations, now_ms=1000)
    assert delegations.notices(1000 + TOLD_AFTER_MS - 1) == []
    (notice,) = delegations.notices(1000 + TOLD_AFTER_MS)
    assert texts([notice]) == [text]
    assert notice.task_id == RUNTIME_TASK
    assert delegations.notices(9000) == []


def test_several_tasks_that_wait_for_the_same_reason_are_told_in_one_sentence() -> None:
    background = ScriptedBackground(state="no_worker")
    delegations = Delegations("s", background)
    submit(delegations)
    submit(delegations)
    assert texts(delegations.notices(TOLD_AFTER_MS)) == [NO_WORKER_TEXT]


def test_a_task_that_only_the_server_has_accepted_is_reported_as_waiting() -> None:
    delegations = Delegations("s", ScriptedBackground(state="no_worker"))
    delegations.note(event(submit(delegations).task_id, 0, "accepted"), 0)
    assert texts(delegations.notices(TOLD_AFTER_MS)) == [NO_WORKER_TEXT]


def test_a_task_on_which_a_worker_has_begun_is_never_reported_as_waiting() -> None:
    background = ScriptedBackground(state="no_worker")
    delegations = Delegations("s", background)
    task_id = submit(delegations).task_id
    delegations.note(event(task_id, 1, "tool_started"), 0)
    assert delegations.notices(60_000) == []
    assert delegations.open_ids == (task_id,)


def settled(delegations: Delegations, task_id: str, *states: ReceiptState) -> None:
    """Let the pieces 1, 2 and so on of a task reach these states."""
    for seq, state in enumerate(states, start=1):
        delegations.take_receipt(Receipt(task_id=task_id, seq=seq, state=state, session_ms=0))


@pytest.mark.parametrize(
    ("states", "promise"),
    [
        (("heard", "heard"), "spoken"),
        (("superseded", "heard"), "spoken"),
        (("expired", "heard"), "spoken"),
        (("heard", "superseded"), "spoken"),
        (("heard", "expired"), "expired"),
        (("heard", "dropped"), "declined"),
        (("superseded", "superseded"), "declined"),
        (("heard", "interrupted"), None),
        (("heard", "woven"), None),
        (("woven", "heard"), None),
    ],
)
def test_a_promise_is_what_became_of_the_last_words_that_nothing_replaced(
    states: tuple[ReceiptState, ...], promise: PromiseState | None
) -> None:
    background = ScriptedBackground()
    delegations = Delegations("s", background)
    task_id = submit(delegations).task_id
    speech = Speech(text="It is a cat.")
    noted(delegations, event(task_id, 1, "partial", speech=speech))
    noted(delegations, event(task_id, 2, "final", speech=speech))
    settled(delegations, task_id, *states)
    assert background.promises == ([(task_id, promise)] if promise is not None else [])


def test_a_promise_is_open_until_the_task_has_ended() -> None:
    background = ScriptedBackground()
    delegations = Delegations("s", background)
    task_id = submit(delegations).task_id
    noted(delegations, event(task_id, 1, "partial", speech=Speech(text="It has fur.")))
    settled(delegations, task_id, "heard")
    assert background.promises == []
    noted(delegations, event(task_id, 2, "final"))
    delegations.settle(task_id, 2)
    assert background.promises == [(task_id, "spoken")]
    delegations.settle(task_id, 2)
    assert len(background.promises) == 1


@pytest.mark.parametrize(
    ("kind", "promise"), [("failed", "failed"), ("dead", "failed"), ("expired", "expired")]
)
def test_a_failure_is_settled_once_the_user_was_told(kind: EventKind, promise: PromiseState) -> None:
    background = ScriptedBackground()
    delegations = Delegations("s", background)
    task_id = submit(delegations).task_id
    noted(delegations, event(task_id, 1, kind))
    assert background.promises == []
    settled(delegations, task_id, "heard")
    assert background.promises == [(task_id, promise)]


def test_words_that_only_filled_a_wait_keep_no_promise_open() -> None:
    background = ScriptedBackground()
    delegations = Delegations("s", background)
    task_id = submit(delegations).task_id
    noted(delegations, event(task_id, 1, "tool_started", speech=Speech(text="Let me look.", mode="idle")))
    noted(delegations, event(task_id, 2, "final", speech=Speech(text="Noted.", mode="silent")))
    settled(delegations, task_id, "superseded", "dropped")
    assert background.promises == [(task_id, "spoken")]


def test_what_comes_twice_is_acknowledged_again_once_it_is_settled_and_not_before() -> None:
    background = ScriptedBackground()
    delegations = Delegations("s", background)
    task_id = submit(delegations).task_id
    noted(delegations, event(task_id, 1))
    assert delegations.note(event(task_id, 1), 0) is None
    assert background.acknowledged == []
    delegations.settle(task_id, 1)
    assert delegations.note(event(task_id, 1), 0) is None
    assert background.acknowledged == [(task_id, 1), (task_id, 1)]


def test_a_long_session_keeps_only_what_is_unfinished_at_hand() -> None:
    background = ScriptedBackground(limit=1000)
    delegations = Delegations("s", background)
    for _ in range(500):
        task_id = submit(delegations).task_id
        noted(delegations, event(task_id, 1, "final"))
        delegations.settle(task_id, 1)
        delegations.notices(0)
    assert len(delegations.all) == 500
    assert not delegations.is_awaited
    assert len(delegations._unfinished) == 0
