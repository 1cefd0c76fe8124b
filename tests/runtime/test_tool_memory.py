"""What tools said in earlier tasks goes with the next ones, as long as it counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from microturn.protocols import ContextPackage, Delegate, DelegationEvent, Update
from microturn.runtime.delegation import Delegation
from microturn.runtime.delegations import Delegations
from microturn.runtime.history import History
from microturn.runtime.reopened import Reopened
from microturn.runtime.testing import ScriptedBackground
from microturn.runtime.tool_memory import ARGUMENTS_CHARS, RESULT_CHARS, TOLD_TOOLS, ToolMemory

pytestmark = pytest.mark.unit


def returned(task_id: str, seq: int, tool: str, text: str, **more: JsonValue) -> DelegationEvent:
    revision = more.pop("revision", 0)
    detail: dict[str, JsonValue] = {"tool": tool, "call": seq, "arguments": {"city": "Bergen"}, **more}
    return DelegationEvent.model_validate(
        {
            "task_id": task_id,
            "attempt": 1,
            "seq": seq,
            "kind": "tool_finished",
            "text": text,
            "detail": detail,
            "revision": revision,
        }
    )


def submit(delegations: Delegations, intent: str = "look it up") -> Delegation:
    return delegations.submit(Delegate(intent, 0, 800), History(), 0, lambda _: {})


def known(background: ScriptedBackground, delegations: Delegations) -> dict[str, JsonValue]:
    """What the next task is told."""
    submit(delegations)
    return background.packages[-1].tool_state


def test_the_next_task_is_told_what_a_tool_was_asked_what_it_said_and_when() -> None:
    background = ScriptedBackground()
    delegations = Delegations("s", background)
    task = submit(delegations)
    assert background.packages[0].tool_state == {}
    delegations.note(returned(task.task_id, 1, "weather", "rain, 9 °C"), 1400.0)
    assert known(background, delegations) == {
        "weather": {"arguments": {"city": "Bergen"}, "result": "rain, 9 °C", "time_ms": 1400}
    }


def test_of_each_tool_the_newest_result_is_told_and_the_newest_comes_last() -> None:
    background = ScriptedBackground()
    delegations = Delegations("s", background)
    first, second = submit(delegations), submit(delegations)
    delegations.note(returned(first.task_id, 1, "weather", "old"), 0)
    delegations.note(returned(second.task_id, 1, "notes", "milk"), 0)
    delegations.note(returned(first.task_id, 2, "weather", "new"), 0)
    told = known(background, delegations)
    assert list(told) == ["notes", "weather"]
    assert [value["result"] for value in told.values() if isinstance(value, dict)] == ["milk", "new"]


def test_no_more_than_the_newest_few_tools_are_told() -> None:
    background = ScriptedBackground()
    delegations = Delegations("s", background)
    task = submit(delegations)
    for n in range(TOLD_TOOLS + 3):
        delegations.note(returned(task.task_id, n + 1, f"tool_{n}", "x"), 0)
    assert list(known(background, delegations)) == [f"tool_{n}" for n in range(3, TOLD_TOOLS + 3)]


def test_errors_and_what_names_no_call_are_not_told() -> None:
    background = ScriptedBackground()
    delegations = Delegations("s", background)
    task = submit(delegations)
    delegations.note(returned(task.task_id, 1, "weather", "no such city", is_error=True), 0)
    delegations.note(returned(task.task_id, 2, "weather", "?", is_error=True, outcome="unknown"), 0)
    delegations.note(returned(task.task_id, 3, "</result>", "x"), 0)
    delegations.note(returned(task.task_id, 4, "weather", "x", arguments=[1]), 0)
    started = returned(task.task_id, 5, "weather", "").model_copy(update={"kind": "tool_started"})
    delegations.note(started, 0)
    assert known(background, delegations) == {}


def test_an_event_that_comes_twice_is_noted_once() -> None:
    background = ScriptedBackground()
    delegations = Delegations("s", background)
    task = submit(delegations)
    first = returned(task.task_id, 1, "weather", "old")
    for event in (first, returned(task.task_id, 2, "weather", "new"), first):
        delegations.note(event, 0)
    assert known(background, delegations)["weather"] == {
        "arguments": {"city": "Bergen"},
        "result": "new",
        "time_ms": 0,
    }


def test_results_of_a_cancelled_task_are_not_told_and_the_one_before_is() -> None:
    background = ScriptedBackground()
    delegations = Delegations("s", background)
    kept, dropped = submit(delegations), submit(delegations)
    delegations.note(returned(kept.task_id, 1, "weather", "kept"), 0)
    delegations.note(returned(dropped.task_id, 1, "weather", "dropped"), 0)
    delegations.cancel(dropped.task_id, "not wanted")
    told = known(background, delegations)["weather"]
    assert isinstance(told, dict)
    assert told["result"] == "kept"


def test_results_that_do_not_know_of_a_correction_are_not_told() -> None:
    background = ScriptedBackground()
    delegations = Delegations("s", background)
    task = submit(delegations, "the weather in Bergen")
    delegations.note(returned(task.task_id, 1, "weather", "Bergen: rain"), 0)
    delegations.update(task, Update(None, "no, in Oslo", 0, 1))
    assert known(background, delegations) == {}
    delegations.note(returned(task.task_id, 2, "weather", "Oslo: sun", revision=1), 0)
    told = known(background, delegations)["weather"]
    assert isinstance(told, dict)
    assert told["result"] == "Oslo: sun"


def test_a_session_that_is_taken_over_goes_on_with_what_its_ledger_has() -> None:
    background = ScriptedBackground()
    earlier = Delegations("s", background)
    task = submit(earlier)
    background.deliver(returned(task.task_id, 1, "weather", "rain, 9 °C"))
    background.poll()
    ledger = background.ledger()
    later = Delegations("s", background, reopened=Reopened(ledger))
    for event in ledger.promises[0].events:
        later.recall(event, None)
    assert known(background, later) == {"weather": {"arguments": {"city": "Bergen"}, "result": "rain, 9 °C"}}


def nested(depth: int) -> JsonValue:
    value: JsonValue = 1
    for _ in range(depth):
        value = [value]
    return value


@given(
    text=st.text(max_size=3_000),
    arguments=st.dictionaries(
        st.text(max_size=80),
        st.one_of(st.text(max_size=600), st.integers(1, 240).map(nested)),
        max_size=3,
    ),
)
def test_whatever_a_tool_returned_the_package_can_be_read_by_the_worker(
    text: str, arguments: dict[str, JsonValue]
) -> None:
    memory, task = ToolMemory(), Delegation("t", Delegate("look", 0, 1), 0.0)
    memory.note(returned("t", 1, "weather", text, arguments=arguments), 5.0)
    state = memory.state({"t": task})
    package = ContextPackage(
        task_id="t2",
        session_id="s",
        idempotency_key="k",
        intent="and tomorrow",
        said_start_ms=0,
        said_end_ms=1,
        local_time="2026-01-01T12:00:00+00:00",
        deadline_s=3,
        tool_state=state,
    )
    assert ContextPackage.decode(package.encode()).tool_state == state
    told = state["weather"]
    assert isinstance(told, dict)
    assert len(str(told["result"])) <= RESULT_CHARS
    assert len(str(told.get("arguments", ""))) <= 2 * ARGUMENTS_CHARS
