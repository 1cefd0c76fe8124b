"""The judge of the chaos run sees each way in which a promise can be broken."""

from __future__ import annotations

import itertools

import pytest

from microturn.protocols import (
    DelegationEvent,
    Promise,
    PromiseState,
    Receipt,
    ReceiptState,
    SessionLedger,
    Speech,
)
from tests.chaos.jobs import PARTS, WORDS, intent_of, text_of
from tests.chaos.record import Floor, Record
from tests.chaos.schedule import faults, user_moves
from tests.chaos.verdict import Verdict, judge

pytestmark = pytest.mark.unit

_NUMBERS = itertools.count()


def say(
    record: Record, part: int, *, from_word: int = 0, to_word: int = WORDS, is_rest: bool = False
) -> None:
    """Let words of a piece be heard in an utterance of their own."""
    prefix = ["As", "I", "was", "saying:"] if is_rest else []
    words = [*prefix, *text_of(0, part).split()[from_word:to_word]]
    item = f"woven:t0:{next(_NUMBERS)}:{len(prefix)}:{part + 1}.{from_word}.{WORDS - from_word}"
    for index, word in enumerate(words):
        record.word(item, index, word)


def promise(
    state: PromiseState = "spoken", task_state: str = "final", fate: ReceiptState = "heard"
) -> Promise:
    events = tuple(
        DelegationEvent(
            task_id="t0", attempt=1, seq=part + 1, kind="partial", speech=Speech(text=text_of(0, part))
        )
        for part in range(PARTS)
    )
    receipts = tuple(Receipt(task_id="t0", seq=event.seq, state=fate, session_ms=0) for event in events)
    return Promise(
        task_id="t0",
        intent=intent_of(0),
        state=state,
        task_state=task_state,
        made_ms=0,
        events=events if task_state == "final" else (),
        receipts=receipts,
    )


def verdict(record: Record, *promises: Promise) -> Verdict:
    ledger = SessionLedger(
        session_id="s", runtime_id="r", epoch=0, elapsed_ms=0, promises=promises or (promise(),)
    )
    return judge([(record, ledger)], 0)[0]


def whole() -> Record:
    record = Record()
    for part in range(PARTS):
        say(record, part)
    return record


def test_a_result_that_was_heard_once_and_in_order_breaks_no_promise() -> None:
    assert verdict(whole()) == Verdict(delegations=1)


def test_a_piece_that_was_not_heard_is_lost_whatever_the_receipts_say() -> None:
    record = Record()
    say(record, 0)
    say(record, 1)
    say(record, 2, to_word=WORDS - 1)
    assert verdict(record).lost == 1


@pytest.mark.parametrize("fate", ["expired", "superseded", "dropped"])
def test_a_piece_that_was_given_up_by_rule_is_not_lost(fate: ReceiptState) -> None:
    assert verdict(Record(), promise(fate=fate)).lost == 0


def test_a_failure_is_lost_unless_it_was_told() -> None:
    record = Record()
    assert verdict(record, promise("failed", "failed")).lost == 1
    record.word("woven:t0:0:0:1.0.1", 0, "Sorry.")
    assert verdict(record, promise("failed", "failed")).lost == 0


def test_a_piece_that_is_heard_again_is_spoken_twice() -> None:
    record = whole()
    say(record, 1)
    assert verdict(record).spoken_twice == WORDS
    record = whole()
    say(record, 1, from_word=WORDS - 3, is_rest=True)
    assert verdict(record).spoken_twice == 3, "a piece that was heard to its end has no rest"


def test_a_rest_may_look_back_over_a_clause_if_it_says_so() -> None:
    for is_rest, from_word, twice in ((True, 2, 0), (True, 0, 2), (False, 9, 0), (False, 8, 1)):
        record = Record()
        say(record, 0, to_word=9)
        say(record, 0, from_word=from_word, is_rest=is_rest)
        assert record.spoken_twice == twice, (is_rest, from_word)


def test_a_piece_that_begins_after_a_later_one_is_out_of_order() -> None:
    record = Record()
    say(record, 1)
    say(record, 0)
    say(record, 2)
    assert verdict(record).out_of_order == 1


def test_a_promise_that_stays_open_is_counted() -> None:
    assert verdict(whole(), promise("open")).promises_open == 1


def test_sound_counts_as_over_the_user_only_after_it_must_have_stopped() -> None:
    floor = Floor()
    floor.user(1000, 2000)
    floor.sound(500, 1400)
    assert floor.over_user_ms() == 0
    floor.sound(1700, 2500)
    assert floor.over_user_ms() == 300
    floor.late(600, 1200)
    assert floor.over_user_ms() == 0


def test_a_seed_gives_the_same_schedule() -> None:
    def first(seed: int) -> list[object]:
        return [*itertools.islice(faults(seed), 20), *user_moves(seed, 3, [1, 2, 3])]

    assert first(5) == first(5)
    assert first(5) != first(6)
