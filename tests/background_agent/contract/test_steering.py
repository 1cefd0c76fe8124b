"""What reaches a run from outside: corrections while it answers and while tools run, and what earlier runs have left."""

from __future__ import annotations

import anyio
import pytest

from microturn.background_agent import Control
from microturn.background_agent.scripted_model import Fail, Say, scripted_model
from microturn.protocols import DelegationEvent, Receipt
from tests.background_agent.contract.stage import Bench, Setup, calls, double, play
from tests.background_agent.stand_ins import Sent, correct, package

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

GRINDER = "no, I meant the grinder"


async def test_a_correction_during_the_answer_breaks_it_off(setup: Setup) -> None:
    control = Control()
    sent = Sent(on_event=lambda event: correct(control, GRINDER) if event.seq == 1 else None)
    long = "The machine costs 120 euros. " + "It is very blue indeed. " * 40
    done = await play(setup, Say(long), Say("The grinder costs 40 euros."), control=control, sent=sent)
    assert GRINDER in done.model.told()
    assert done.sent.spoken() == ["The machine costs 120 euros.", "The grinder costs 40 euros."]
    assert done.sent.kinds() == ["partial", "final"]
    assert control.revision == 1


async def test_a_correction_hangs_up_on_a_model_that_still_writes(setup: Setup) -> None:
    control = Control()
    sent = Sent(on_event=lambda event: correct(control, GRINDER) if event.seq == 1 else None)
    script = (Fail("hang", text="It costs 120 euros. It is blue. It is"), Say("The grinder costs 40 euros."))
    with anyio.fail_after(8):
        done = await play(setup, *script, control=control, sent=sent)
        await done.model.hung_up.wait()
    assert done.sent.events[-1].text == "The grinder costs 40 euros."


async def test_two_corrections_in_a_row_are_both_heeded(setup: Setup) -> None:
    control = Control()

    def correct_twice(event: DelegationEvent) -> None:
        if event.seq <= 2:
            correct(control, f"correction {event.seq}")

    texts = [f"Answer {n} is this. " + "It goes on for long. " * 30 for n in range(2)]
    done = await play(
        setup, *map(Say, texts), Say("Now it is right."), control=control, sent=Sent(on_event=correct_twice)
    )
    assert "correction 1" in done.model.told()
    assert "correction 2" in done.model.told()
    assert done.sent.events[-1].text == "Now it is right."


async def test_a_correction_while_a_tool_runs_reaches_the_next_request(setup: Setup) -> None:
    control = Control()

    def react(event: DelegationEvent) -> None:
        if event.kind == "tool_started":
            correct(control, GRINDER)

    done = await play(
        setup, calls(double(4)), Say("The grinder costs 40."), control=control, sent=Sent(on_event=react)
    )
    assert GRINDER in done.model.told()
    assert len(done.model.requests) == 2
    assert done.sent.kinds()[-1] == "final"


async def test_a_correction_with_the_last_word_of_an_answer_is_heeded(setup: Setup) -> None:
    control = Control()

    def react(event: DelegationEvent) -> None:
        if event.text == "It is blue.":
            correct(control, GRINDER)

    done = await play(
        setup,
        Say("It costs 120 euros. It is blue. The end."),
        Say("The grinder costs 40."),
        control=control,
        sent=Sent(on_event=react),
    )
    assert GRINDER in done.model.told()
    assert done.sent.events[-1].text == "The grinder costs 40."


async def test_a_second_attempt_makes_no_call_again_and_says_nothing_again(setup: Setup) -> None:
    first = await play(setup, calls(double(60)), Say("It makes 120."))
    heard = Receipt(task_id="t", seq=2, state="heard", words_total=4, words_heard=4, session_ms=1)
    control = Control(attempt=2, emitted=tuple(first.sent.events[:2]), receipts={2: heard})
    done = await play(setup, Say("Twice 60 is 120. It is rather a lot."), control=control)
    assert done.bench.began == []
    assert done.sent.spoken() == ["It is rather a lot."]
    told = done.model.told()
    assert "double" in told
    assert "The user was already told" in told


async def test_a_second_attempt_knows_the_corrections_of_the_first(setup: Setup) -> None:
    first = await play(setup, calls(double(60)), Say("It makes 120."))
    control = Control(attempt=2, emitted=tuple(first.sent.events[:2]), updates=[GRINDER])
    done = await play(setup, calls(double(20)), Say("Then it is 40."), control=control)
    assert GRINDER in done.model.told(0)
    assert done.bench.began == ["double 20"]
    assert [e.detail["call"] for e in done.sent.of("tool_started")] == [1]


async def test_a_call_of_unknown_outcome_is_not_made_again(setup: Setup) -> None:
    first = await play(setup, calls(("erase", '{"name": "a"}')), Say("Gone."), intent="erase the file a")
    control = Control(attempt=2, emitted=tuple(first.sent.events[:1]))
    done = await play(
        setup,
        calls(("erase", '{"name": "a"}')),
        Say("I cannot tell."),
        intent="erase the file a",
        control=control,
    )
    assert done.bench.began == []
    assert "not known whether" in done.model.told()


async def test_many_tasks_run_at_once_on_one_engine(setup: Setup) -> None:
    sent = [Sent() for _ in range(4)]
    async with (
        scripted_model(*(Say("The same for all.") for _ in sent), wire=setup.wire) as model,
        setup.open(model) as engine,
        anyio.create_task_group() as group,
    ):
        for one in sent:
            group.start_soon(engine.run, package(), Bench().registry(), one, Control())
    assert [one.spoken() for one in sent] == [["The same for all."]] * 4
