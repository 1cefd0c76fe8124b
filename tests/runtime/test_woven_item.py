"""The names of woven utterances, and a client's account of what it has played."""

from __future__ import annotations

import itertools

import pytest

from microturn.protocols import DelegationEvent, Promise, Receipt, ReceiptState, SessionLedger, Speech
from microturn.runtime._errors import WovenItemError
from microturn.runtime.reopened import Reopened, with_words_heard
from microturn.runtime.woven_item import Stretch, WovenItem

pytestmark = pytest.mark.unit

ITEM = WovenItem("task-1.a_b", 7, 4, (Stretch(3, 5, 6), Stretch(4, 0, 2)))


def test_a_name_gives_back_what_the_utterance_is_made_of() -> None:
    assert WovenItem.parse(str(ITEM)) == ITEM


@pytest.mark.parametrize(
    "name",
    [
        "",
        "woven-17",
        "woven:t:1:0:",
        "woven:t:1:0:1.2",
        "woven:t:1:0:1.2.3,",
        "woven:t:1:0:1.2.-3",
        "woven:t t:1:0:1.2.3",
        "woven:t:1:0:1.2.3\n",
        f"woven:t:1:0:1.2.{'9' * 7}",
        "woven:t:1:0:" + ",".join(["1.2.3"] * 257),
        "woven:t:١:0:1.2.3",
    ],
)
def test_any_other_name_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(WovenItemError, match="expected") as refused:
        WovenItem.parse(name)
    assert len(name) < 2 or name not in str(refused.value)


@pytest.mark.parametrize(
    ("words", "reached"), [(0, [0, 0]), (4, [0, 0]), (5, [1, 0]), (10, [6, 0]), (11, [6, 1]), (99, [6, 2])]
)
def test_words_of_an_utterance_are_words_of_its_pieces(words: int, reached: list[int]) -> None:
    assert list(ITEM.reached(words)) == reached


def ledger(*receipts: Receipt) -> SessionLedger:
    speech = Speech(text="one two three four five six seven eight nine ten eleven")
    events = tuple(
        DelegationEvent(task_id="task-1.a_b", attempt=1, seq=seq, kind="partial", speech=speech)
        for seq in (3, 4)
    )
    promise = Promise(
        task_id="task-1.a_b",
        intent="count",
        state="open",
        task_state="running",
        made_ms=0,
        events=events,
        receipts=receipts,
    )
    return SessionLedger(session_id="s", runtime_id="r", epoch=1, elapsed_ms=9000, promises=(promise,))


def receipt(seq: int, state: ReceiptState, words: int) -> Receipt:
    return Receipt(
        task_id="task-1.a_b", seq=seq, state=state, words_heard=words, words_total=11, session_ms=1
    )


def found(merged: SessionLedger) -> list[tuple[int, str, int]]:
    return [(each.seq, each.state, each.words_heard) for each in merged.promises[0].receipts]


def test_what_a_client_has_played_counts_where_it_is_further_than_what_was_stored() -> None:
    merged = with_words_heard(ledger(receipt(3, "woven", 7)), {str(ITEM): 11})
    assert found(merged) == [(3, "woven", 11), (4, "woven", 1)]


def test_what_was_stored_counts_where_it_is_further() -> None:
    merged = with_words_heard(ledger(receipt(3, "interrupted", 9)), {str(ITEM): 5})
    assert found(merged) == [(3, "interrupted", 9)]


def test_what_was_settled_stays_so() -> None:
    merged = with_words_heard(ledger(receipt(3, "superseded", 0)), {str(ITEM): 8})
    assert found(merged)[0][1] == "superseded"


def test_no_account_reaches_beyond_the_words_of_a_piece() -> None:
    forged = WovenItem("task-1.a_b", 0, 0, (Stretch(3, 900_000, 900_000),))
    assert found(with_words_heard(ledger(), {str(forged): 10**9})) == [(3, "woven", 11)]


def test_names_that_are_not_ours_and_strange_tasks_are_passed_over() -> None:
    other = WovenItem("another", 0, 0, (Stretch(3, 0, 5),))
    merged = with_words_heard(ledger(), {"reply-1": 4, str(other): 5, str(ITEM): -3})
    assert found(merged) == []


def test_the_order_of_the_account_makes_no_difference() -> None:
    parts = [(str(WovenItem("task-1.a_b", n, 0, (Stretch(3, n, 4),))), 3) for n in range(3)]
    for order in itertools.permutations(parts):
        assert found(with_words_heard(ledger(), dict(order))) == [(3, "woven", 5)]


def test_what_was_asked_and_heard_before_is_told_to_the_next_task() -> None:
    reopened = Reopened(with_words_heard(ledger(receipt(3, "interrupted", 2)), {}))
    recalled = reopened.recalled()
    assert recalled is not None
    assert "'count'" in recalled
    assert "'one two'" in recalled
    assert "three" not in recalled
    assert Reopened(SessionLedger(session_id="s", runtime_id="r", epoch=0, elapsed_ms=0)).recalled() is None
